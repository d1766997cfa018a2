"""Images moved by whole pixels, all of a batch alike."""

from __future__ import annotations

import torch
from torch import Tensor

Shift = tuple[int, int]  # pixels down, pixels to the right; negative the other way


def shifted(pixels: Tensor, by: Shift) -> Tensor:
    """Images [B, C, H, W] moved by so many pixels; what comes in from behind an edge is reflected there."""
    if by == (0, 0):
        return pixels
    rows, columns = (_sources(side, step).to(pixels.device) for side, step in zip(pixels.shape[-2:], by))
    return pixels[:, :, rows[:, None], columns]


def check_shift(by: Shift, height: int, width: int) -> None:
    """Raise ValueError if images of this size have not enough pixels to be moved and reflected."""
    if abs(by[0]) >= height or abs(by[1]) >= width:
        raise ValueError(f"shift {max(map(abs, by))}: images of {height} × {width} pixels can be moved by less alone")


def _sources(side: int, step: int) -> Tensor:
    """Where a line's pixels [side] come from."""
    position = (torch.arange(side) - step).abs()
    return side - 1 - (side - 1 - position).abs()
