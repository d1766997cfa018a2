"""What every figure is drawn on: matplotlib's style, log axes with plain numbers, and SVG that sits inside a page.

The ink is a colour that nothing else uses; in the finished SVG it becomes currentColor, the colour of the page's text.
The other colours are safe for the colour-blind and have a contrast of at least 3 : 1 against black and white.
"""

from __future__ import annotations

import hashlib
import html
import io
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fasthebb.evaluation.results import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#A87B00", "#8F6BD6", "#808080", "#3D9BD6")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#80808044",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.handlelength": 3,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


def require_matplotlib() -> None:
    """Do nothing where matplotlib is installed; elsewhere raise `ValueError` with the command that installs it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("figures need matplotlib: pip install 'fasthebb[plots]'") from None


def log_axis(axes: Axes, which: str, low: float, high: float, ticks: Sequence[float] = ()) -> None:
    """Make the axis ("x" or "y") logarithmic from low to high, with numbers as people write them.

    `ticks`: where the numbers stand; by default at 1, 2, 5 times the powers of ten; on a long axis at fewer, on a short
    one at more.
    """
    steps = (1,) if high / low > 300 else (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 7)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = ticks or [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis.set_ticks(ticks, [count(tick) for tick in ticks])
    axis.set_ticks([], minor=True)


def spread(values: Sequence[int]) -> list[float]:
    """Those of the ascending positive values that keep 9 % of a log axis between them, the last one among them."""
    gap = 0.09 * math.log(values[-1] / values[0])
    kept = [float(values[-1])]
    for value in reversed(values):
        if math.log(kept[-1] / value) > gap:
            kept.append(float(value))
    return kept[::-1]


def draw_svg(draw: Callable[[Axes], None], alt: str, *, height: float = 2.9) -> str:
    """One SVG element of what `draw` puts on a pair of axes, the legend below them, described by `alt`.

    `height`: of the axes, in inches on a width of 5. The same drawing gives the same text. Raises
    `ValueError` without matplotlib.
    """
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    salt = hashlib.sha256(alt.encode()).hexdigest()[:8]
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        handles, names = axes.get_legend_handles_labels()
        keys = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]  # without their error bars
        columns = 1 if max(map(len, names), default=0) > 23 else 2
        figure.set_figheight(height + 0.21 * math.ceil(len(names) / columns))
        figure.legend(keys, names, loc="outside lower center", ncols=columns)
        out = io.StringIO()
        figure.savefig(
            out, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    return _inline(out.getvalue(), alt)


def _inline(svg: str, alt: str) -> str:
    """matplotlib's file as an element of a page: no prologue, no style that leaks, ids only where something points."""
    svg = svg[svg.index("<svg") :]
    view = re.search(r'viewBox="[^"]+"', svg)
    assert view is not None
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg[svg.index(">") + 1 :], flags=re.S)
    used = set(re.findall(r"#([\w-]+)", body))
    body = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", body)
    body = body.replace(INK, "currentColor").replace("xlink:href", "href")
    return f'<svg role="img" aria-label="{html.escape(alt)}" {view[0]} stroke-linejoin="round">{body.strip()}'
