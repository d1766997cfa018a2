"""What the benchmarks share: ratios of steps, the header of a report, its tables, its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fasthebb.console import Console
from fasthebb.environment import hardware
from fasthebb.files import atomic_write
from fasthebb.tables import markdown


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


class Page:
    """What a benchmark prints, and a Markdown page of the same."""

    def __init__(self, title: str, report: Mapping[str, Any]) -> None:
        self._report, self._console = report, Console()
        self._parts = [f"# {title}"]
        self.table("Hardware", ("what", "value"), [(k, str(v)) for k, v in report["hardware"].items()])

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table."""
        self._console.table(title, columns, rows)
        self._parts.append(f"## {title}\n\n{markdown(columns, rows)}")

    def say(self, text: str) -> None:
        """Print a sentence."""
        self._console.say(text)
        self._parts.append(text)

    def write(self, out: str | Path | None) -> None:
        """Write the report to a JSON file and the page beside it, if one is named."""
        if out is not None:
            atomic_write(Path(out), json.dumps(self._report, indent=2) + "\n")
            atomic_write(Path(out).with_suffix(".md"), "\n\n".join(self._parts) + "\n")


def show_steps(page: Page, title: str, steps: Mapping[str, Any]) -> None:
    """Print steps from the fastest to the slowest."""
    ordered = sorted(steps.items(), key=lambda item: item[1]["seconds"])
    rows = [(*key.split("/"), *map(three, (r["seconds"] * 1e3, r["to_floor"], r["to_sgd"]))) for key, r in ordered]
    page.table(title, ("step", "format", "ms", "/ floor", "/ SGD"), rows)


def three(value: float) -> str:
    """A number to three places."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
