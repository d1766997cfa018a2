"""All images of a listing as an `ImageSet`, decoded into memory or, as a stream, when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from fasthebb.console import Console
from fasthebb.data.decode import Pixels, decode_each, one_line
from fasthebb.data.imageset import ImageSet
from fasthebb.data.listing import Item
from fasthebb.data.stream import Stream, missing


def decode_items(
    items: Sequence[Item], size: int, channels: int, resize: str, console: Console
) -> tuple[ImageSet, list[str]]:
    """The readable images, in memory, and "name (reason)" of each unreadable one; see `decode_image`."""
    pixels = np.empty((len(items), channels, size, size), np.uint8)
    filled = 0

    def keep(block: Pixels) -> None:
        nonlocal filled
        pixels[filled : filled + len(block)] = block
        filled += len(block)

    reasons = decode_each(items, size, channels, resize, keep, console)
    return readable(items, pixels[:filled], reasons)


def readable(items: Sequence[Item], pixels: Pixels, reasons: Mapping[int, str]) -> tuple[ImageSet, list[str]]:
    """The images of the items that have no reason, in order, and "name (reason)" of the others."""
    kept = [item for number, item in enumerate(items) if number not in reasons]
    labels = torch.tensor([item.label for item in kept], dtype=torch.int64)
    images = ImageSet(torch.from_numpy(pixels), labels, tuple(item.name for item in kept))
    return images, [one_line(items[number], why) for number, why in reasons.items()]


def stream_items(
    items: Sequence[Item], size: int, channels: int, resize: str, max_bad: float
) -> tuple[ImageSet, list[str]]:
    """The images that are there, as a stream, and "name (reason)" of those that are not; no image is read."""
    absent = missing(items)
    kept = [item for number, item in enumerate(items) if number not in absent]
    labels = torch.tensor([item.label for item in kept], dtype=torch.int64)
    stream = Stream(kept, size, channels, resize, max_bad)
    return ImageSet(stream, labels, stream.names), [one_line(items[number], why) for number, why in absent.items()]
