"""What the benchmarks share: ratios of steps, the header of a report, its tables, its file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fasthebb.console import Console
from fasthebb.environment import hardware
from fasthebb.files import atomic_write


def begin(**settings: Any) -> dict[str, Any]:
    """A report that says on what machine and with what settings it was made.

    Raises ValueError for a device that is not there.
    """
    device = settings["device"]
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"device {device!r} cannot be used ({reason}): try --device cpu") from error
    return {"hardware": hardware(), "settings": settings}


def fastest(steps: Mapping[str, Any], name: str) -> float:
    """Minimum seconds of `name` over memory formats, of steps by "name/memory format"."""
    seconds: list[float] = [record["seconds"] for key, record in steps.items() if key.partition("/")[0] == name]
    return min(seconds)


def ratios(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Rounds of steps by "name/memory format": the minimum, all, its ratios to the fastest floor and fastest SGD."""
    steps: dict[str, Any] = {key: {"seconds": min(laps), "laps": laps} for key, laps in seconds.items()}
    floor, sgd = fastest(steps, "floor"), fastest(steps, "sgd")
    for record in steps.values():
        record["to_floor"] = record["seconds"] / floor
        record["to_sgd"] = record["seconds"] / sgd
    return steps


def write(report: Mapping[str, Any], out: str | Path | None) -> None:
    """Write a report to a JSON file, if one is named."""
    if out is not None:
        atomic_write(out, json.dumps(report, indent=2) + "\n")


def show_steps(report: Mapping[str, Any], console: Console) -> None:
    """Print the machine, and the steps from the fastest to the slowest."""
    console.table("Hardware", ("what", "value"), [(key, str(value)) for key, value in report["hardware"].items()])
    settings = ", ".join(f"{key} {value}" for key, value in report["settings"].items())
    steps = sorted(report["steps"].items(), key=lambda item: item[1]["seconds"])
    rows = [(*key.split("/"), *map(three, (r["seconds"] * 1e3, r["to_floor"], r["to_sgd"]))) for key, r in steps]
    console.table(f"One step of the six-layer net ({settings})", ("step", "format", "ms", "/ floor", "/ SGD"), rows)


def three(value: float) -> str:
    """A number to three places."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
