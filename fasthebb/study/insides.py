"""Figures of what happens inside the nets, as inline SVG strings: training curves, use of units, winner entropy.

They are drawn like those of the records. matplotlib is imported when a figure is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fasthebb import diagnostics
from fasthebb.study.canvas import COLOURS, draw_svg, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 400
LEAST_USE = 1e-3
NOT_METRICS = ("step", "epoch", "iteration", "seconds", "time", "seed")

Layers = Mapping[str, NDArray[Any]]


def training_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], methods: Sequence[str] = ()) -> dict[str, str]:
    """Every numeric metric over steps, epochs or rows: one SVG element per metric, a line per run.

    `curves`: by run, rows as in `metrics.jsonl`; `methods`: names whose order fixes the colours, so that a method keeps
    its colour from figure to figure. Raises `ValueError` without matplotlib.
    """
    names = _names(curves, methods)
    metrics = dict.fromkeys(key for rows in curves.values() for row in rows for key in row if key not in NOT_METRICS)
    figures = {}
    for metric in metrics:
        series = {name: [row for row in rows if _number(row.get(metric))] for name, rows in curves.items()}
        series = {name: rows[:: math.ceil(len(rows) / POINTS)] for name, rows in series.items() if len(rows) > 1}
        if series:
            figures[metric] = _curve(metric, series, names)
    return figures


def by_run(usage: Layers) -> dict[str, dict[str, NDArray[Any]]]:
    """What keys "run/layer" hold, [C] each, by run and layer, without signs; plain keys are layers of the run ""."""
    runs: dict[str, dict[str, NDArray[Any]]] = {}
    for key, values in usage.items():
        run, _, layer = key.rpartition("/")
        runs.setdefault(run, {})[layer] = np.nan_to_num(np.abs(np.asarray(values, dtype=np.float64))).ravel()
    return runs


def winner_entropy(use: NDArray[Any]) -> float:
    """Entropy of the units' shares in percent of that of equal shares; NaN for a single unit and where none is used."""
    return 100 * float(diagnostics.winner_entropy(torch.from_numpy(use)))


def entropy_by_layer(usage: Layers, methods: Sequence[str] = ()) -> str:
    """`winner_entropy` over the layers, a line per run; `usage` as in `by_run`, `methods` as for the curves.

    Returns one SVG element. Raises `ValueError` without matplotlib.
    """
    runs = by_run(usage)
    layers = list(dict.fromkeys(layer for run in runs.values() for layer in run))
    lines = {run: [winner_entropy(of.get(layer, np.zeros(1))) for layer in layers] for run, of in runs.items()}

    def draw(axes: Axes) -> None:
        for run, line in lines.items():
            axes.plot(range(len(layers)), line, color=_colour(run, _names(runs, methods)), marker="o", label=run)
        axes.set_xticks(range(len(layers)), layers)
        axes.set_ylim(0, 105)
        axes.set_ylabel("winner entropy, %")

    said = [
        f"{run or 'Layers'}: " + ", ".join(f"{layer} {value:.0f}" for layer, value in zip(layers, line) if value >= 0)
        for run, line in lines.items()
    ]
    return draw_svg(draw, f"Winner entropy in percent of equal use, by layer. {'; '.join(said)}.")


def unit_usage(usage: Layers) -> dict[str, str]:
    """How evenly a layer's units are used: each unit's use over the layer's mean, sorted, on a log axis.

    `usage` as in `by_run`: the share of wins or the mean activity of every unit. Returns one SVG element per run. Units
    of zero use are counted, not drawn; use below a thousandth is drawn as that. Raises `ValueError` without
    matplotlib.
    """
    return {run: _usage(layers) for run, layers in by_run(usage).items()}


def _curve(metric: str, series: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]) -> str:
    every = [row for rows in series.values() for row in rows]
    axis = next((key for key in ("step", "epoch") if all(_number(row.get(key)) for row in every)), "row")

    def draw(axes: Axes) -> None:
        for name, rows in series.items():
            x = [row.get(axis, place) for place, row in enumerate(rows)]
            axes.plot(x, [row[metric] for row in rows], color=_colour(name, names), label=name)
        axes.set_xlabel(axis)
        axes.set_ylabel(metric.replace("_", " "))

    said = "; ".join(f"{name}: {rows[0][metric]:.4g} to {rows[-1][metric]:.4g}" for name, rows in series.items())
    return draw_svg(draw, f"{metric} by {axis}. {said}.")


def _usage(layers: Layers) -> str:
    unused = {layer: f"{layer}: {np.count_nonzero(use == 0)} of {use.size} unused" for layer, use in layers.items()}
    relative = {layer: np.sort(use[use > 0])[::-1] / max(use.mean(), 1e-300) for layer, use in layers.items()}

    def draw(axes: Axes) -> None:
        for layer, use in relative.items():
            rank = (np.arange(use.size) + 0.5) * 100 / layers[layer].size
            keep = slice(None, None, math.ceil(max(use.size, 1) / POINTS))
            drawn = np.maximum(use[keep], LEAST_USE)
            axes.plot(rank[keep], drawn, color=_colour(layer, list(layers)), label=unused[layer])
        every = np.concatenate([*relative.values(), np.ones(1)])
        log_axis(axes, "y", max(float(every.min()), LEAST_USE) / 1.3, float(every.max()) * 1.3)
        axes.set_xlim(0, 100)
        axes.set_xlabel("units, most used first, %")
        axes.set_ylabel("use over the layer's mean")

    return draw_svg(draw, f"Use of units over the mean of their layer, sorted. {'; '.join(unused.values())}.")


def _names(runs: Mapping[str, object], methods: Sequence[str]) -> list[str]:
    return list(methods) if set(runs) <= set(methods) else list(runs)


def _colour(name: str, names: Sequence[str]) -> str:
    return COLOURS[names.index(name) % len(COLOURS)]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
