"""The pictures of a report, as inline SVG strings and PNG data URIs.

Backgrounds are transparent and text takes the page's colour, so that one picture serves dark and light. Lines differ
by colour (safe for the colour-blind, at least 3 : 1 against black and white), marker and dash: dashed is a probe,
dotted the second round of colours. matplotlib is imported when a figure is drawn; filter grids need none.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fasthebb.evaluation.results import Key, Summary
from fasthebb.study.canvas import draw_svg, log_axis, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#A87B00", "#8F6BD6", "#808080", "#3D9BD6")
MARKERS = "osD^vPXh"
POINTS = 400
LEAST_USE = 1e-3
NOT_METRICS = ("step", "epoch", "iteration", "seconds", "time", "seed")


def accuracy_against_labels(rows: Sequence[Summary]) -> str:
    """Top-1 in percent over the number of labels (log axis), a line per method and depth, with 95 % intervals.

    Returns one SVG element; at least one row must be measured. Raises `ValueError` without matplotlib.
    """
    budgets = sorted({row.labels for row in rows})
    lines = _lines(rows)

    def draw(axes: Axes) -> None:
        for place, (line, index) in enumerate(lines):
            dodge = 1 + 0.02 * (place - (len(lines) - 1) / 2)
            _errorbars(axes, [row.labels * dodge for row in line], line, index, line[0].name)
        axes.set_xlabel("labels (log scale)")
        log_axis(axes, "x", budgets[0] / 1.3, budgets[-1] * 1.3, ticks=spread(budgets))
        _percent(axes, [row for line, _ in lines for row in line])

    said = [f"{line[0].name}: {', '.join(f'{row.top1} at {row.labels}' for row in line)}" for line, _ in lines]
    return draw_svg(draw, f"Top-1 accuracy in percent by number of labels. {'; '.join(said)}.", height=3.6)


def accuracy_against_seconds(rows: Sequence[Summary]) -> dict[int, str]:
    """Top-1 in percent over pre-training plus fine-tuning seconds (log axis), a point per method and depth.

    Returns one SVG element per budget, keyed by its number of labels. Raises `ValueError` without matplotlib.
    """
    methods = _methods(rows)

    def draw(axes: Axes, cells: Sequence[Summary]) -> None:
        for row in cells:
            _errorbars(axes, [row.seconds.mean], [row], methods.index((row.method, row.rule)), row.name)
        times = [row.seconds.mean for row in cells]
        axes.set_xlabel("pre-training and fine-tuning, seconds (log scale)")
        log_axis(axes, "x", min(times) / 1.3, max(times) * 1.3)
        _percent(axes, cells)

    figures = {}
    for labels, cells in _by_budget([row for row in rows if row.seconds.mean > 0]).items():
        said = "; ".join(f"{row.name}: {row.top1} after {row.seconds.mean:.3g} s" for row in cells)
        alt = f"Top-1 accuracy in percent by seconds of training at {labels} labels. {said}."
        figures[labels] = draw_svg(partial(draw, cells=cells), alt)
    return figures


def accuracy_by_depth(rows: Sequence[Summary]) -> dict[int, str]:
    """Top-1 in percent of the probe at each depth, a line per method with 95 % intervals.

    Returns one SVG element per budget, keyed by its number of labels. Raises `ValueError` without matplotlib.
    """
    methods = _methods(rows)

    def draw(axes: Axes, cells: Sequence[Summary]) -> None:
        for index, method in enumerate(methods):
            line = [row for row in cells if (row.method, row.rule) == method]
            if line:
                shift = 0.03 * (index - (len(methods) - 1) / 2)
                _errorbars(axes, [(row.depth or 0) + shift for row in line], line, index, method[0])
        depths = sorted({row.depth or 0 for row in cells})
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.set_xlabel("depth of the probe")
        _percent(axes, cells)

    figures = {}
    for labels, cells in _by_budget([row for row in rows if row.depth is not None]).items():
        said = "; ".join(f"{row.name}: {row.top1}" for row in cells)
        alt = f"Top-1 accuracy in percent by depth of the probe at {labels} labels. {said}."
        figures[labels] = draw_svg(partial(draw, cells=cells), alt)
    return figures


def training_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], methods: Sequence[str] = ()) -> dict[str, str]:
    """Every numeric metric over steps, epochs or rows: one SVG element per metric, a line per run.

    `curves`: by run, rows as in `metrics.jsonl`; `methods`: names whose order fixes the colours, so that a method keeps
    its colour from figure to figure. Raises `ValueError` without matplotlib.
    """
    names = list(methods) if set(curves) <= set(methods) else list(curves)
    metrics = dict.fromkeys(key for rows in curves.values() for row in rows for key in row if key not in NOT_METRICS)
    figures = {}
    for metric in metrics:
        series = {name: [row for row in rows if _number(row.get(metric))] for name, rows in curves.items()}
        series = {name: rows[:: math.ceil(len(rows) / POINTS)] for name, rows in series.items() if len(rows) > 1}
        if series:
            figures[metric] = _curve(metric, series, names)
    return figures


def unit_usage(usage: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """How evenly a layer's units are used: each unit's use over the layer's mean, sorted, on a log axis.

    `usage`: per layer [C], the share of wins or the mean activity of every unit (the sign is ignored); keys "run/layer"
    give one SVG element per run, plain keys one with the key "". Units of zero use are dead: counted, not drawn; use
    below a thousandth is drawn as that. Raises `ValueError` without matplotlib.
    """
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for key, values in usage.items():
        group, _, layer = key.rpartition("/")
        groups.setdefault(group, {})[layer] = np.nan_to_num(np.abs(np.asarray(values, dtype=np.float64))).ravel()
    return {group: _usage(layers) for group, layers in groups.items()}


def filter_grid(weights: NDArray[Any], *, scale: int = 4) -> str:
    """First-layer filters as a PNG data URI: a near-square grid, each filter stretched to its own full range.

    `weights`: [C, 3, k, k] or [C, 1, k, k]; a constant or non-finite filter is mid-grey; `scale`: pixels per weight.
    Raises `ValueError` for another shape.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 4 or weights.shape[1] not in (1, 3) or 0 in weights.shape:
        raise ValueError(f"filters must be [C, 3, k, k] or [C, 1, k, k], not {list(weights.shape)}")
    count, channels, height, width = weights.shape
    columns = min(count, math.ceil(math.sqrt(count * 1.5)))
    rows = math.ceil(count / columns)
    grid = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, 4), dtype=np.uint8)
    for index, one in enumerate(weights):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        flat = not np.isfinite(one).all() or one.max() == one.min()
        unit = np.full_like(one, 0.5) if flat else (one - one.min()) / (one.max() - one.min())
        pixels = np.broadcast_to(unit, (3, height, width)) if channels == 1 else unit
        grid[top : top + height, left : left + width, :3] = np.rint(pixels * 255).transpose(1, 2, 0)
        grid[top : top + height, left : left + width, 3] = 255
    out = io.BytesIO()
    Image.fromarray(grid.repeat(scale, axis=0).repeat(scale, axis=1)).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _methods(rows: Sequence[Summary]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row.method, row.rule) for row in rows))


def _lines(rows: Sequence[Summary]) -> list[tuple[list[Summary], int]]:
    """The measured rows of every method and depth, with the method's place, which fixes its colour."""
    methods = _methods(rows)
    lines: dict[Key, list[Summary]] = {}
    for row in rows:
        if row.n:
            lines.setdefault(row.key, []).append(row)
    return [(line, methods.index(key[:2])) for key, line in lines.items()]


def _by_budget(rows: Sequence[Summary]) -> dict[int, list[Summary]]:
    budgets = sorted({row.labels for row in rows if row.n})
    return {labels: [row for row in rows if row.n and row.labels == labels] for labels in budgets}


def _errorbars(axes: Axes, x: Sequence[float], line: Sequence[Summary], index: int, name: str) -> None:
    colour, probe = COLOURS[index % len(COLOURS)], line[0].depth is not None
    _, caps, bars = axes.errorbar(
        x,
        [row.top1.mean for row in line],
        yerr=[0.0 if math.isnan(row.top1.half_width) else row.top1.half_width for row in line],
        color=colour,
        marker=MARKERS[index % len(MARKERS)],
        markerfacecolor="none" if probe else colour,
        linestyle=(0, (3.5, 1.5)) if probe else "-" if index < len(COLOURS) else (0, (1, 1)),
        elinewidth=1,
        capsize=2.5,
        label=name,
    )
    for part in (*caps, *bars):
        part.set_alpha(0.6)


def _percent(axes: Axes, rows: Sequence[Summary]) -> None:
    """The accuracies and what of their intervals fits in as much space again above and below, within 0 to 100."""
    low, high = min(row.top1.mean for row in rows), max(row.top1.mean for row in rows)
    reach = max((row.top1.half_width for row in rows if row.top1.half_width > 0), default=0.0)
    margin = min(reach, max(high - low, 5.0)) + 1
    axes.set_ylim(max(0.0, low - margin), min(101.0, high + margin))
    axes.set_ylabel("top-1 accuracy, %")


def _curve(metric: str, series: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]) -> str:
    every = [row for rows in series.values() for row in rows]
    axis = next((key for key in ("step", "epoch") if all(_number(row.get(key)) for row in every)), "row")

    def draw(axes: Axes) -> None:
        for name, rows in series.items():
            x = [row.get(axis, place) for place, row in enumerate(rows)]
            axes.plot(x, [row[metric] for row in rows], color=COLOURS[names.index(name) % len(COLOURS)], label=name)
        axes.set_xlabel(axis)
        axes.set_ylabel(metric.replace("_", " "))

    said = "; ".join(f"{name}: {rows[0][metric]:.4g} to {rows[-1][metric]:.4g}" for name, rows in series.items())
    return draw_svg(draw, f"{metric} by {axis}. {said}.")


def _usage(layers: Mapping[str, NDArray[Any]]) -> str:
    dead = {layer: f"{layer}: {np.count_nonzero(use == 0)} of {use.size} dead" for layer, use in layers.items()}
    relative = {layer: np.sort(use[use > 0])[::-1] / max(use.mean(), 1e-300) for layer, use in layers.items()}

    def draw(axes: Axes) -> None:
        for index, (layer, use) in enumerate(relative.items()):
            rank = (np.arange(use.size) + 0.5) * 100 / layers[layer].size
            keep = slice(None, None, math.ceil(max(use.size, 1) / POINTS))
            axes.plot(
                rank[keep], np.maximum(use[keep], LEAST_USE), color=COLOURS[index % len(COLOURS)], label=dead[layer]
            )
        drawn = np.concatenate([*relative.values(), np.ones(1)])
        log_axis(axes, "y", max(float(drawn.min()), LEAST_USE) / 1.3, float(drawn.max()) * 1.3)
        axes.set_xlim(0, 100)
        axes.set_xlabel("units, most used first, %")
        axes.set_ylabel("use over the layer's mean")

    return draw_svg(draw, f"Use of units over the mean of their layer, sorted. {'; '.join(dead.values())}.")


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
