"""Pictures that need no plotting library: filter grids, confusion matrices and real images.

They are PNG data URIs, or SVG elements that take the page's colour, so that one picture serves dark and light.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fasthebb.study.page import escape

RIGHT, WRONG = "#005A94", "#A84300"  # white on them has a contrast of at least 6 : 1
NUMBERED = 20  # classes whose names and numbers a reader can still make out
CELL = 30
LEAST_PIXELS = 400  # of a side of a confusion matrix without numbers
THUMB = 64


def filter_grid(weights: NDArray[Any], *, scale: int = 4) -> str:
    """First-layer filters as a PNG data URI: a near-square grid, each filter stretched to its own full range.

    `weights`: [C, 3, k, k] or [C, 1, k, k]; a constant or non-finite filter is mid-grey; `scale`: pixels per weight.
    Raises `ValueError` for another shape.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 4 or weights.shape[1] not in (1, 3) or 0 in weights.shape:
        raise ValueError(f"filters must be [C, 3, k, k] or [C, 1, k, k], not {list(weights.shape)}")
    number, channels, height, width = weights.shape
    columns = min(number, math.ceil(math.sqrt(number * 1.5)))
    rows = math.ceil(number / columns)
    grid = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, 4), dtype=np.uint8)
    for index, one in enumerate(weights):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        flat = not np.isfinite(one).all() or one.max() == one.min()
        unit = np.full_like(one, 0.5) if flat else (one - one.min()) / (one.max() - one.min())
        pixels = np.broadcast_to(unit, (3, height, width)) if channels == 1 else unit
        grid[top : top + height, left : left + width, :3] = np.rint(pixels * 255).transpose(1, 2, 0)
        grid[top : top + height, left : left + width, 3] = 255
    return _png(Image.fromarray(grid.repeat(scale, axis=0).repeat(scale, axis=1)))


def thumbnail(pixels: NDArray[np.uint8]) -> str:
    """An image [3 or 1, H, W] as a PNG data URI, made smaller if a side exceeds 64 pixels."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.thumbnail((THUMB, THUMB))
    return _png(image)


def heat_map(counts: NDArray[Any], classes: Sequence[str], alt: str) -> str:
    """A confusion matrix [C, C], rows true, as HTML: right ones blue, wrong ones orange.

    A cell is as opaque as the square root of its share of the row, so that rare mistakes show too. Up to twenty classes
    it is an SVG element with the classes' names and every number; beyond, an image.
    """
    share = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    if len(counts) > NUMBERED:
        return f'<img class="heat" src="{_raster(share)}" alt="{escape(alt)}">'
    names = [name if len(name) <= 16 else f"{name[:15]}…" for name in classes]
    cell = max(CELL, 8 + 6 * len(str(counts.max())))
    longest = 7 * max(map(len, names))
    left, top, right = 14 + longest, 14 + 0.77 * longest, 0.65 * longest
    marks = []
    for row, name in enumerate(names):
        middle = (row + 0.5) * cell
        marks.append(f'<text x="-8" y="{middle + 4:g}" text-anchor="end">{escape(name)}</text>')
        marks.append(f'<text transform="translate({middle + 2:g} -8) rotate(-50)">{escape(name)}</text>')
        for column in np.flatnonzero(counts[row]):
            marks.append(_cell(row, int(column), cell, float(share[row, column]), int(counts[row, column])))
    side = cell * len(counts)
    width, height = left + side + right, top + side + 4
    frame = f'<rect width="{side}" height="{side}" fill="none" stroke="currentColor" stroke-opacity=".35"/>'
    return (
        f'<svg class="heat" role="img" aria-label="{escape(alt)}" style="min-width:{0.8 * width:.0f}px" '
        f'viewBox="{-left:.1f} {-top:.1f} {width:.1f} {height:.1f}">{"".join(marks)}{frame}</svg>'
    )


def _cell(row: int, column: int, cell: int, opacity: float, number: int) -> str:
    colour = RIGHT if row == column else WRONG
    ink = "#fff" if opacity > 0.7 else "currentColor"
    x, y = column * cell, row * cell
    return (
        f'<rect x="{x}" y="{y}" width="{cell}" height="{cell}" fill="{colour}" fill-opacity="{opacity:.2f}"/>'
        f'<text x="{x + cell / 2:g}" y="{y + cell / 2 + 4:g}" text-anchor="middle" fill="{ink}">{number}</text>'
    )


def _raster(share: NDArray[np.float64]) -> str:
    diagonal = np.eye(len(share), dtype=bool)[..., None]
    right, wrong = (np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) for colour in (RIGHT, WRONG))
    pixels = np.concatenate([np.where(diagonal, right, wrong), np.rint(255 * share)[..., None]], axis=2)
    scale = math.ceil(LEAST_PIXELS / len(share))
    return _png(Image.fromarray(pixels.astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)))


def _png(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
