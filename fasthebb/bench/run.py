"""Steps of whole nets: everything in one process, interleaved, as ratios to the floor and to a supervised step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fasthebb.bench.report import Page, begin, fastest, ratios, show_steps, three
from fasthebb.bench.steps import RULES, SIX, Kind, all_steps, naive_step, naive_times, net_for, noise
from fasthebb.bench.timing import interleaved, timed
from fasthebb.training.precision import Precision

IMAGENET = 1_281_167  # training images of ImageNet-1k
EPOCHS = 20


class Size(NamedTuple):
    """Images a step, and their side in pixels."""

    batch: int
    side: int


SIZES: Mapping[str, Size] = {SIX: Size(64, 32), "tenlayer": Size(16, 210)}
OTHERS = Size(8, 224)


def run(
    nets: Sequence[str] = (SIX,),
    *,
    rounds: int = 9,
    device: str = "cpu",
    naive: bool = True,
    out: str | Path | None = None,
    batch_size: int | None = None,
    width: float = 1.0,
    precision: Precision = "fp32",
) -> dict[str, Any]:
    """Time every method's step on each net, print tables, return all figures.

    The result is JSON-ready, in seconds: "hardware", "settings", and "nets" by name: "batch_size", "image_size",
    "steps" (by "name/memory format": minimum, all rounds, ratios to the fastest floor and the fastest SGD), "imagenet"
    and "naive". `out` names a file for it; a Markdown page is written beside it. batch_size: of every net; its own by
    default. `naive=False` leaves out the naive scheme (minutes), and so does bfloat16; `width` scales the nets.
    Raises ValueError for fewer than one round, an unknown net or a device that is not there.
    """
    kind: Kind = {"width": width, "precision": precision}
    report = begin(nets=list(nets), rounds=rounds, device=device, batch_size=batch_size, **kind)
    for net in nets:  # a mistake is told before anything is timed
        with torch.device("meta"):
            net_for(torch.empty(1, 3, *2 * [SIZES.get(net, OTHERS).side]), net=net, width=width)
    report["nets"] = {}
    page = Page("Training steps", "step", report)
    for net in nets:
        size = SIZES.get(net, OTHERS)
        size = size if batch_size is None else size._replace(batch=batch_size)
        found: dict[str, Any] = {"batch_size": size.batch, "image_size": size.side}
        report["nets"][net] = found
        steps = all_steps(net=net, batch_size=size.batch, image_size=size.side, device=device, **kind)
        found["steps"] = ratios(interleaved(steps, rounds=rounds))
        del steps  # and the activations that floors hold
        found["imagenet"] = _imagenet(found["steps"], size.batch)
        if naive and precision != "bf16":
            found["naive"] = _naive(net, size, found["steps"], width, device)
        _show(page, net, found)
        page.write(out)  # after each net, so that nothing is lost
    return report


def _imagenet(steps: Mapping[str, Any], batch: int) -> dict[str, Any]:
    # Computed of the step's time: images a second, and hours of 20 epochs of as many images as ImageNet-1k has.
    names = dict.fromkeys(key.partition("/")[0] for key in steps)
    rates = {name: batch / fastest(steps, name) for name in names}
    return {name: {"images_per_second": rate, "hours": EPOCHS * IMAGENET / rate / 3600} for name, rate in rates.items()}


def _naive(net: str, size: Size, steps: Mapping[str, Any], width: float, device: str) -> dict[str, Any]:
    # By rule: each layer estimated from one group of 8 units, and of the six-layer net one whole step to confirm.
    found: dict[str, Any] = {}
    images = noise(size.batch, size.side, device=device)
    for rule in RULES:
        layers = naive_times(rule, images, net=net, width=width)
        estimate = sum(layer.seconds for layer in layers.values())
        record: dict[str, Any] = {
            "estimated_seconds": estimate,
            "estimated_to_sgd": estimate / fastest(steps, "sgd"),
            "layers": {name: layer._asdict() for name, layer in layers.items()},
        }
        if net == SIX:
            record["whole_step_seconds"] = timed(naive_step(rule, images, width=width))
            record["whole_step_to_sgd"] = record["whole_step_seconds"] / fastest(steps, "sgd")
        record["speedup"] = record.get("whole_step_seconds", estimate) / fastest(steps, rule)
        found[rule] = record
    return found


def _show(page: Page, net: str, found: Mapping[str, Any]) -> None:
    size = f"batch {found['batch_size']}, {found['image_size']} px"
    show_steps(page, f"One step of {net} ({size})", found["steps"])
    rows = [(name, three(of["images_per_second"]), three(of["hours"])) for name, of in found["imagenet"].items()]
    hours = f"hours of {EPOCHS} ImageNet epochs"
    page.table(f"What that makes of {net} (computed, not run)", ("step", "images/s", hours), rows)
    if "naive" in found:
        columns = ("rule", "one group × C/8, s", "/ SGD", "whole step, s", "/ SGD", "/ ours")
        keys = ("estimated_seconds", "estimated_to_sgd", "whole_step_seconds", "whole_step_to_sgd", "speedup")
        table = [
            (rule, *(three(record[key]) if key in record else "–" for key in keys))
            for rule, record in found["naive"].items()
        ]
        page.table(f"Naive scheme on {net}, groups of 8 units", columns, table)
