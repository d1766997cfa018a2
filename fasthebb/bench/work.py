"""How the time of a layer's update grows with its work: with images, units, and the side of its maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fasthebb.bench.calls import weight_gradient
from fasthebb.bench.report import Page, begin, three
from fasthebb.bench.steps import RULES
from fasthebb.bench.timing import Step, interleaved
from fasthebb.decay import LowerGram
from fasthebb.hebbian import attach

ROUNDS = 5


@dataclass(frozen=True)
class Layer:
    """A layer and how many images it sees: a convolution of 3×3 with padding, or, without a side, a Linear."""

    batch: int = 64
    inputs: int = 64
    units: int = 64
    side: int | None = 16

    def build(self, device: str) -> tuple[nn.Conv2d | nn.Linear, Tensor]:
        """The layer and a batch."""
        torch.manual_seed(0)
        if self.side is None:
            return nn.Linear(self.inputs, self.units, bias=False).to(device), self._noise(device)
        layer = nn.Conv2d(self.inputs, self.units, 3, padding=1, bias=False)
        layer, x = layer.to(device, memory_format=torch.channels_last), self._noise(device)  # type: ignore[call-overload]
        return layer, x.contiguous(memory_format=torch.channels_last)

    def _noise(self, device: str) -> Tensor:
        shape = (self.batch, self.inputs) if self.side is None else (self.batch, self.inputs, self.side, self.side)
        return torch.randn(shape).to(device)

    def form(self) -> str:
        """The form that HPCA's decay takes: "causal" over blocks of units, or "dense"."""
        fan_in = self.inputs * (1 if self.side is None else 9)
        rows = self.batch * (1 if self.side is None else self.side**2)
        units = torch.empty(1, 1, self.units, 0)
        return "causal" if LowerGram(units, units).factored(fan_in, rows) else "dense"


CONV, LINEAR = Layer(), Layer(inputs=1024, units=1024, side=None)
AXES: Mapping[str, tuple[Layer, str, Sequence[int]]] = {
    "images, convolution": (CONV, "batch", [2**i for i in range(10)]),
    "images, Linear": (LINEAR, "batch", [2**i for i in range(10)]),
    "units, convolution": (replace(CONV, batch=8), "units", [64, 128, 256, 512, 1024, 2048]),
    "units, Linear": (LINEAR, "units", [64, 128, 256, 512, 1024, 2048, 4096, 8192]),
    "side, convolution": (replace(CONV, batch=2), "side", [32, 56, 112, 224]),
}


def run(*, rounds: int = ROUNDS, device: str = "cpu", out: str | Path | None = None) -> dict[str, Any]:
    """Time the layers along every axis, print tables, return all figures.

    The result is JSON-ready, in seconds: "hardware", "settings" and "axes", by name: "values", "form" of HPCA's decay
    at each, by step ("floor", "hpca", "swta") "seconds" at each and "exponent", the slope of log time over the upper
    half of the values. `out` names a file for it; a Markdown page is written beside it.
    Raises ValueError for fewer than one round or a device that is not there.
    """
    report = begin(rounds=rounds, device=device)
    report["axes"] = {}
    page = Page("Time against work", "work", report)
    for name, (layer, field, values) in AXES.items():
        layers = [replace(layer, **{field: value}) for value in values]
        found: dict[str, Any] = {"values": list(values), "form": [each.form() for each in layers]}
        report["axes"][name] = found
        laps = [interleaved(_steps(each, device), rounds=rounds) for each in layers]
        seconds = {step: [min(lap[step]) for lap in laps] for step in laps[0]}
        found["steps"] = {step: {"seconds": s, "exponent": exponent(values, s)} for step, s in seconds.items()}
        rows = [
            (str(value), *(three(s[i] * 1e3) for s in seconds.values()), found["form"][i])
            for i, value in enumerate(values)
        ]
        rows.append(("exponent", *(f"{of['exponent']:.2f}" for of in found["steps"].values()), ""))
        columns = (field, *(f"{step}, ms" for step in seconds), "HPCA's decay")
        page.table(f"Against {name} ({layer})", columns, rows)
        page.write(out)
    return report


def exponent(values: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of log seconds against log value by least squares, over the upper half of the values."""
    half = len(values) // 2
    x, y = ([math.log(v) for v in part[half:]] for part in (values, seconds))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / spread


def _steps(layer: Layer, device: str) -> dict[str, Step]:
    steps: dict[str, Step] = {"floor": _floor(*layer.build(device))}
    for name, rule in RULES.items():
        module, x = layer.build(device)
        steps[name] = _update(module, x, attach(module, rule).write_grad)
    return steps


def _floor(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Step:
    def step() -> None:
        with torch.no_grad():
            weight_gradient(layer, x, layer(x))

    return step


def _update(layer: nn.Module, x: Tensor, write: Callable[[], None]) -> Step:
    def step() -> None:
        with torch.no_grad():
            layer(x)
        write()

    return step
