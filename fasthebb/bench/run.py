"""The benchmark: everything in one process, interleaved, as ratios to the floor and to a supervised step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fasthebb.bench.memory import peak_in_subprocess
from fasthebb.bench.naive import step_times
from fasthebb.bench.report import begin, fastest, ratios, show_steps, three, write
from fasthebb.bench.steps import FORWARDS, RULES, all_steps, naive_step, noise, six_layers
from fasthebb.bench.timing import interleaved, timed
from fasthebb.console import Console

MEMORY_NETS = ("vgg16", "vgg19")
MEMORY_METHODS = ("sgd", "hpca")
MEMORY_BATCH = 8
MEMORY_IMAGE_SIZE = 224


def run(
    *,
    rounds: int = 9,
    device: str = "cpu",
    naive: bool = True,
    memory: bool = True,
    out: str | Path | None = None,
    batch_size: int = 64,
    width: float = 1.0,
) -> dict[str, Any]:
    """Time every method's step on the six-layer net, measure peak memory on VGG, print tables, return all figures.

    The result is JSON-ready, in seconds and bytes: "hardware", "settings", "steps" (by "name/memory format": minimum,
    all rounds, ratios to the fastest floor and the fastest SGD), "naive" and "memory"; `out` names a file for it.
    `naive=False` leaves out the naive scheme (minutes), `memory=False` the peaks; `width` scales the six-layer net.
    Raises ValueError for fewer than one round or for a device that is not there.
    """
    report = begin(rounds=rounds, device=device, batch_size=batch_size, width=width)
    report["steps"] = ratios(interleaved(all_steps(batch_size=batch_size, width=width, device=device), rounds=rounds))
    if naive:
        report["naive"] = _naive(report["steps"], batch_size, width, device)
    if memory:
        report["memory"] = _memory(device)
    write(report, out)
    _print(report)
    return report


def _naive(steps: dict[str, Any], batch_size: int, width: float, device: str) -> dict[str, Any]:
    """The naive scheme by rule: each layer estimated from one group of 8 units, and one whole step to confirm."""
    found: dict[str, Any] = {}
    images = noise(batch_size, device=device)
    for rule in RULES:
        layers = step_times(rule, six_layers(images, width=width, forward=FORWARDS[rule]), images)
        estimate = sum(layer.seconds for layer in layers.values())
        whole = timed(naive_step(rule, images, width=width))
        found[rule] = {
            "estimated_seconds": estimate,
            "estimated_to_sgd": estimate / fastest(steps, "sgd"),
            "layers": {name: layer._asdict() for name, layer in layers.items()},
            "whole_step_seconds": whole,
            "whole_step_to_sgd": whole / fastest(steps, "sgd"),
            "speedup": whole / fastest(steps, rule),
        }
    return found


def _memory(device: str) -> dict[str, Any]:
    """Peak bytes of a step of the convolutional part of each net by each method, and the ratios that matter."""
    found: dict[str, Any] = {"batch_size": MEMORY_BATCH, "image_size": MEMORY_IMAGE_SIZE}
    for net in MEMORY_NETS:
        size = {"batch_size": MEMORY_BATCH, "image_size": MEMORY_IMAGE_SIZE}
        peaks = {method: peak_in_subprocess(net, method, device=device, **size) for method in MEMORY_METHODS}
        found[net] = {method: peak._asdict() for method, peak in peaks.items()}
        found[net]["hpca_to_sgd"] = peaks["hpca"].bytes / peaks["sgd"].bytes
    first, second = MEMORY_NETS
    found[f"hpca_{second}_to_{first}"] = found[second]["hpca"]["bytes"] / found[first]["hpca"]["bytes"]
    return found


def _print(report: dict[str, Any]) -> None:
    console = Console()
    show_steps(report, console)
    if "naive" in report:
        columns = ("rule", "one group × C/8, s", "/ SGD", "whole step, s", "/ SGD", "/ ours")
        keys = ("estimated_seconds", "estimated_to_sgd", "whole_step_seconds", "whole_step_to_sgd", "speedup")
        rows = [(rule, *(three(record[key]) for key in keys)) for rule, record in report["naive"].items()]
        console.table("Naive scheme, groups of 8 units", columns, rows)
    if "memory" in report:
        console.table("Peak memory above the state before the step", ("case", "value"), _memory_rows(report["memory"]))


def _memory_rows(memory: dict[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for net in MEMORY_NETS:
        for method in MEMORY_METHODS:
            peak = memory[net][method]
            rows.append((f"{net} {method} ({peak['method']})", f"{peak['bytes'] / 1e6:.0f} MB"))
        rows.append((f"{net} hpca / sgd", three(memory[net]["hpca_to_sgd"])))
    first, second = MEMORY_NETS
    return [*rows, (f"hpca {second} / {first}", three(memory[f"hpca_{second}_to_{first}"]))]
