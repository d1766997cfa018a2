"""How long an epoch takes of a net of one convolution, on real images: what papers on shallow Hebbian nets report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fasthebb.bench.report import Page, begin, three
from fasthebb.bench.steps import RULES
from fasthebb.bench.timing import synchronise
from fasthebb.data import Dataset, Loader, channel_statistics
from fasthebb.hebbian import attach
from fasthebb.rules import Rule, SoftHebb
from fasthebb.training.pretrain import pretrain

KERNEL, UNITS = 5, 96  # of SoftHebb's first layer
LR = 1e-3


def run(
    dataset: Dataset, *, rounds: int = 3, device: str = "cpu", out: str | Path | None = None, batch_size: int = 64
) -> dict[str, Any]:
    """Time epochs of `fasthebb.pretrain` over all images, the rules in turn, print a table, return all figures.

    The result is JSON-ready, in seconds: "hardware", "settings" and "rules", by name "seconds", the least, and "laps".
    `out` names a file for it; a Markdown page is written beside it.
    """
    report = begin(
        data=dataset.name, images=len(dataset.train), rounds=rounds, device=device, batch_size=batch_size,
        kernel=KERNEL, units=UNITS,
    )  # fmt: skip
    mean, std = channel_statistics(dataset.train)
    loader = Loader(dataset.train, batch_size, mean=mean, std=std, device=device)
    rules: dict[str, Rule] = {**RULES, "softhebb": SoftHebb()}
    laps: dict[str, list[float]] = {name: [] for name in rules}
    for _ in range(rounds):
        for name, rule in rules.items():
            laps[name].append(_epoch(rule, loader, len(mean), device))
    report["rules"] = {name: {"seconds": min(took), "laps": took} for name, took in laps.items()}
    page = Page("An epoch of one layer", "epoch", report)
    rates = {name: len(dataset.train) / of["seconds"] for name, of in report["rules"].items()}
    rows = [(name, three(of["seconds"]), three(rates[name])) for name, of in report["rules"].items()]
    title = f"{len(dataset.train)} images of {dataset.name}, {UNITS} filters of {KERNEL}×{KERNEL}, batch {batch_size}"
    page.table(title, ("rule", "s an epoch", "images/s"), rows)
    page.write(out)
    return report


def _epoch(rule: Rule, loader: Loader, channels: int, device: str) -> float:
    # Its first step, which sets things up, included.
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, UNITS, KERNEL, bias=False)
    model = nn.Sequential(layer).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    hebb = attach(model, rule)
    synchronise()
    began = time.perf_counter()
    pretrain(model, hebb, loader, torch.optim.SGD(hebb.parameters(), lr=LR), epochs=1)
    synchronise()
    return time.perf_counter() - began
