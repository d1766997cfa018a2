"""Every rule's step on the six-layer net, as a ratio to the floor and to a supervised step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fasthebb import rules
from fasthebb.bench.report import Page, begin, ratios, show_steps
from fasthebb.bench.steps import FORMATS, SIX, Kind, classes, floor, noise, rule_step, sgd
from fasthebb.bench.timing import Step, interleaved
from fasthebb.models.blocks import one_of
from fasthebb.training.precision import Precision

GOAL = 1.3  # times the supervised step
FORMAT = "channels_last"  # the faster one of every rule


def every_rule() -> dict[str, rules.Rule]:
    """One of each rule of the package by the name of its class, with its defaults; those that wrap one wrap HPCA."""
    names = [name for name in rules.__all__ if name not in ("Local", "Rule", "Terms")]
    inner = rules.HPCA()
    wrapping = {"Modulated": lambda: rules.Modulated(inner), "Taught": lambda: rules.Taught(inner, classes(SIX))}
    return {name: wrapping.get(name, getattr(rules, name))() for name in names}


def signals(batch_size: int, device: str) -> dict[str, Tensor]:
    """What rules that need a signal are given, [N], by the names of `every_rule`: classes, or a factor."""
    labels = torch.arange(batch_size, device=device) % classes(SIX)
    return {
        "Modulated": torch.linspace(-1, 1, batch_size, device=device), "Prototypes": labels, "Taught": labels
    }  # fmt: skip


def run(
    names: Sequence[str] = (),
    *,
    rounds: int = 9,
    device: str = "cpu",
    out: str | Path | None = None,
    batch_size: int = 64,
    width: float = 1.0,
    precision: Precision = "fp32",
) -> dict[str, Any]:
    """Time the named rules' steps, all of them by default, print a table, return all figures.

    The result is JSON-ready: "hardware", "settings" and "steps", as of `fasthebb.bench.run`; `out` names a file for it,
    and a Markdown page is written beside it.
    Floor and supervised step are timed in both memory formats, rules channels-last.
    Raises ValueError for an unknown name, fewer than one round or a device that is not there.
    """
    known = every_rule()
    chosen = {one_of("rule", name, known): known[name] for name in names or known}
    kind: Kind = {"width": width, "precision": precision}
    report = begin(rounds=rounds, device=device, batch_size=batch_size, **kind)
    report["steps"] = ratios(interleaved(_steps(chosen, batch_size, device, kind), rounds=rounds))
    page = Page("A step of every rule", "rules", report)
    show_steps(page, f"One step of the six-layer net (batch {batch_size}, width {width:g})", report["steps"])
    slow = [name for name in chosen if report["steps"][f"{name}/{FORMAT}"]["to_sgd"] > GOAL]
    page.say(f"slower than {GOAL} × SGD: {', '.join(slow) or 'none'}")
    page.write(out)
    return report


def _steps(chosen: dict[str, rules.Rule], batch_size: int, device: str, kind: Kind) -> dict[str, Step]:
    steps: dict[str, Step] = {}
    for format in FORMATS:
        images = noise(batch_size, device=device, format=format)
        steps[f"floor/{format}"] = floor(images, **kind)
        steps[f"sgd/{format}"] = sgd(images, **kind)
    images, given = noise(batch_size, device=device, format=FORMAT), signals(batch_size, device)
    for name, rule in chosen.items():
        steps[f"{name}/{FORMAT}"] = rule_step(rule, images, **kind, signal=given.get(name))
    return steps
