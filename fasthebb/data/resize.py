"""Arrays of pixels to the side and the channels that are wanted, a few images at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_BLOCK = 4 * 2**20  # values worked on in one go
_LUMA = (19595, 38470, 7471)  # of red, green and blue in 2^-16, as pillow weighs them (ITU-R 601-2)


def fit_pixels(pixels: npt.NDArray[np.uint8], size: int, channels: int, resize: str) -> npt.NDArray[np.uint8]:
    """uint8 [M, C, H, W] as [M, channels, size, size], in memory unless they are so already.

    `resize` as in `decode_image`: bilinear, antialiased. Grey is repeated for 3 channels; 3 are weighed for 1.
    """
    count, depth, height, width = pixels.shape
    if (depth, height, width) == (channels, size, size):
        return pixels if pixels.flags.writeable else pixels.copy()
    fitted = np.empty((count, channels, size, size), np.uint8)
    step = max(1, _BLOCK // max(depth * height * width, channels * size * size))
    for start in range(0, count, step):
        block = torch.from_numpy(pixels[start : start + step].copy())
        fitted[start : start + step] = _resized(_recoloured(block, channels), size, resize).numpy()
    return fitted


def _recoloured(block: Tensor, channels: int) -> Tensor:
    if block.shape[1] == channels:
        return block
    if channels == 3:
        return block.expand(-1, 3, -1, -1)
    weights = torch.tensor(_LUMA, dtype=torch.int32)[:, None, None]
    return ((block * weights).sum(1, keepdim=True) + 2**15 >> 16).to(torch.uint8)


def _resized(block: Tensor, size: int, resize: str) -> Tensor:
    height, width = block.shape[-2:]
    if (height, width) == (size, size):
        return block
    if height != width and resize != "stretch":
        block = _square(block, min(height, width) if resize == "crop" else max(height, width))
    resized = torch.nn.functional.interpolate(
        block.float(), size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def _square(block: Tensor, side: int) -> Tensor:
    """The centre, or black around it."""
    top, left = ((side - length) // 2 for length in block.shape[-2:])
    bottom, right = (side - length - before for length, before in zip(block.shape[-2:], (top, left)))
    return torch.nn.functional.pad(block, (left, right, top, bottom))
