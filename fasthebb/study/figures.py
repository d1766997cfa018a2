"""Figures of the records: accuracy against labels, seconds and depth, and effects of options, as inline SVG strings.

Backgrounds are transparent and text takes the page's colour, so that one picture serves dark and light. A family of
methods has its colour and marker; its read-outs differ by dash, and are hollow unless trained end to end: then they
are full, or in part where a teacher or FixMatch had its share. After eight families the colours come again, with other
markers on thinner lines. matplotlib is imported when a figure is drawn.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from fasthebb.evaluation.results import Key, Summary, count
from fasthebb.study.canvas import COLOURS, INK, draw_svg, log_axis, spread
from fasthebb.study.effects import Effect, gist
from fasthebb.study.families import END_TO_END, Family, family, leaders, line_up, readout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPXh"
DASHES: Mapping[str, Any] = {
    END_TO_END: "-",
    "probe": (0, (3.5, 1.5)),
    "SVM": (0, (5, 1.2, 1, 1.2)),
    "kNN": (0, (1, 1)),
}


def accuracy_against_labels(rows: Sequence[Summary], families: Sequence[Family] = ()) -> str:
    """Top-1 in percent over the number of labels (log axis), a line per method and depth, with 95 % intervals.

    `families` fixes who is drawn and the colours, by default all in the order of the rows. Of more than eight lines
    those of `leaders` are drawn. Returns one SVG element; at least one row must be measured. Raises `ValueError`
    without matplotlib.
    """
    families = families or line_up(rows)
    rows = _of(rows, families)
    lines = _lines(leaders(rows))
    budgets = sorted({row.labels for row in rows})

    def draw(axes: Axes) -> None:
        for place, line in enumerate(lines):
            dodge = 1 + 0.02 * (place - (len(lines) - 1) / 2)
            _errorbars(axes, [row.labels * dodge for row in line], line, families)
        axes.set_xlabel("labels (log scale)")
        log_axis(axes, "x", budgets[0] / 1.3, budgets[-1] * 1.3, ticks=spread(budgets))
        _percent(axes, [row for line in lines for row in line])

    said = [f"{line[0].name}: {', '.join(f'{row.top1} at {row.labels}' for row in line)}" for line in lines]
    return draw_svg(draw, f"Top-1 accuracy in percent by number of labels. {'; '.join(said)}.", height=3.6)


def accuracy_against_seconds(rows: Sequence[Summary], families: Sequence[Family] = ()) -> dict[int, str]:
    """Top-1 in percent over pre-training plus fine-tuning seconds (log axis), a point per method and depth.

    `families` as above. Returns one SVG element per budget, keyed by its number of labels; of more than eight points
    those of `leaders`. Raises `ValueError` without matplotlib.
    """
    families = families or line_up(rows)

    def draw(axes: Axes, cells: Sequence[Summary]) -> None:
        for row in cells:
            _errorbars(axes, [row.seconds.mean], [row], families)
        times = [row.seconds.mean for row in cells]
        axes.set_xlabel("pre-training and fine-tuning, seconds (log scale)")
        log_axis(axes, "x", min(times) / 1.3, max(times) * 1.3)
        _percent(axes, cells)

    figures = {}
    for labels, cells in _by_budget([row for row in leaders(_of(rows, families)) if row.seconds.mean > 0]).items():
        said = "; ".join(f"{row.name}: {row.top1} after {row.seconds.mean:.3g} s" for row in cells)
        alt = f"Top-1 accuracy in percent by seconds of training at {labels} labels. {said}."
        figures[labels] = draw_svg(partial(draw, cells=cells), alt)
    return figures


def accuracy_by_depth(rows: Sequence[Summary], families: Sequence[Family] = ()) -> dict[tuple[str, int], str]:
    """Top-1 in percent of a read-out at each depth, a line per method with 95 % intervals.

    `families` as above. Returns an SVG element per read-out for the least and the most labels, keyed by both. Raises
    `ValueError` without matplotlib.
    """
    families = families or line_up(rows)

    def draw(axes: Axes, lines: Mapping[Family, Sequence[Summary]]) -> None:
        for place, line in enumerate(lines.values()):
            shift = 0.03 * (place - (len(lines) - 1) / 2)
            _errorbars(axes, [(row.depth or 0) + shift for row in line], line, families, name=line[0].method)
        cells = [row for line in lines.values() for row in line]
        depths = sorted({row.depth or 0 for row in cells})
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.set_xlabel("depth of the read-out")
        _percent(axes, cells)

    figures, rows = {}, _of(rows, families)
    for kind in dict.fromkeys(readout(row) for row in rows if row.depth is not None):
        budgets = _by_budget([row for row in rows if row.depth is not None and readout(row) == kind])
        for labels in sorted({min(budgets), max(budgets)} if budgets else ()):
            lines: dict[Family, list[Summary]] = {}
            for row in budgets[labels]:
                lines.setdefault((row.method, row.rule), []).append(row)
            said = "; ".join(f"{row.name}: {row.top1}" for row in budgets[labels])
            alt = f"Top-1 accuracy in percent of the {kind} by depth at {count(labels)} labels. {said}."
            figures[kind, labels] = draw_svg(partial(draw, lines=lines), alt)
    return figures


def option_effects(groups: Mapping[str, Sequence[Effect]]) -> dict[str, str]:
    """Differences in top-1 with their 95 % intervals, a line per variant, read-out and budget.

    Returns one SVG element per group of `effects`. Raises `ValueError` without matplotlib.
    """
    budgets = sorted({gap.labels for some in groups.values() for one in some for gap in one.gaps})
    steps = {labels: 0.5 * (step - (len(budgets) - 1) / 2) / len(budgets) for step, labels in enumerate(budgets)}

    def draw(axes: Axes, some: Sequence[Effect]) -> None:
        for place, labels in enumerate(budgets):
            lines = [(y + steps[labels], gap) for y, one in enumerate(some) for gap in one.gaps if gap.labels == labels]
            axes.errorbar(
                [gap.estimate.mean for _, gap in lines],
                [y for y, _ in lines],
                xerr=[0.0 if math.isnan(gap.estimate.half_width) else gap.estimate.half_width for _, gap in lines],
                color=COLOURS[place % len(COLOURS)],
                marker=MARKERS[place % len(MARKERS)],
                linestyle="none",
                capsize=3,
                label=f"{count(labels)} labels",
            )
        axes.axvline(0, color=INK, linewidth=1.2)
        axes.set_yticks(range(len(some)), [_effect_name(one) for one in some])
        axes.set_ylim(len(some) - 0.5, -0.5)
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, -1), max(high, 1))  # a tenth of a point is not to look large
        axes.grid(visible=False, axis="y")
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel("difference in top-1, points")

    def height(some: Sequence[Effect]) -> float:
        return 0.7 + sum(max(0.17 * (_effect_name(one).count("\n") + 1), 0.15 * len(budgets)) + 0.14 for one in some)

    return {
        group: draw_svg(partial(draw, some=some), gist(group, some), height=height(some))
        for group, some in groups.items()
    }


def _effect_name(one: Effect) -> str:
    over = "" if one.against == one.read_out else f" over {one.reference}"
    return "\n".join([*textwrap.wrap(one.title, 20), *textwrap.wrap(f"{one.read_out}{over}", 20)])


def _of(rows: Sequence[Summary], families: Sequence[Family]) -> list[Summary]:
    return [row for row in rows if family(row) in families]


def _lines(rows: Sequence[Summary]) -> list[list[Summary]]:
    """The measured rows of every method and depth."""
    lines: dict[Key, list[Summary]] = {}
    for row in rows:
        if row.n:
            lines.setdefault(row.key, []).append(row)
    return list(lines.values())


def _by_budget(rows: Sequence[Summary]) -> dict[int, list[Summary]]:
    budgets = sorted({row.labels for row in rows if row.n})
    return {labels: [row for row in rows if row.n and row.labels == labels] for labels in budgets}


def _errorbars(
    axes: Axes, x: Sequence[float], line: Sequence[Summary], families: Sequence[Family], *, name: str = ""
) -> None:
    lap, place = divmod(families.index(family(line[0])), len(COLOURS))
    kind = readout(line[0])
    _, caps, bars = axes.errorbar(
        x,
        [row.top1.mean for row in line],
        yerr=[0.0 if math.isnan(row.top1.half_width) else row.top1.half_width for row in line],
        color=COLOURS[place],
        marker=MARKERS[(place + 3 * lap) % len(MARKERS)],
        fillstyle=_filled(line[0]) if kind == END_TO_END else "none",
        markerfacecoloralt="none",
        linestyle=DASHES[kind],
        linewidth=1.1 if lap else 1.8,
        elinewidth=1,
        capsize=2.5,
        label=name or line[0].name,
    )
    for part in (*caps, *bars):
        part.set_alpha(0.6)


def _filled(row: Summary) -> Literal["full", "left", "top", "right"]:
    # How much of a marker: the same method with its teacher, after FixMatch, or both, has another part of it.
    name = row.method.lower()
    with_teacher, matched = "and teacher" in name, "fixmatch" in name
    if with_teacher:
        return "right" if matched else "left"
    return "top" if matched else "full"


def _percent(axes: Axes, rows: Sequence[Summary]) -> None:
    """The accuracies and what of their intervals fits in as much space again above and below, within 0 to 100."""
    low, high = min(row.top1.mean for row in rows), max(row.top1.mean for row in rows)
    reach = max((row.top1.half_width for row in rows if row.top1.half_width > 0), default=0.0)
    margin = min(reach, max(high - low, 5.0)) + 1
    axes.set_ylim(max(0.0, low - margin), min(101.0, high + margin))
    axes.set_ylabel("top-1 accuracy, %")
