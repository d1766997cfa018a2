"""A net as one flat sequence: hidden convolutions read from a table, one hidden fc, a head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from fasthebb.models.blocks import FORWARDS, batch_norm, block, check_image_size, one_of, scaled

HIDDEN = 4096  # units of the hidden fc


class Convolution(NamedTuple):
    """One hidden block: a convolution without padding, stride 1, and what follows it."""

    units: int
    kernel: int
    pool: int | None = None
    preserving: bool = False  # its batch norm is variance-preserving in the Hebbian twin


def smallest_image(convolutions: Sequence[Convolution]) -> int:
    """Side in pixels of the smallest image that leaves a 1×1 map after all of `convolutions`."""
    side = 1
    for convolution in reversed(convolutions):
        side = side * (convolution.pool or 1) + convolution.kernel - 1
    return side


def stack(
    net: str,
    convolutions: Sequence[Convolution],
    *,
    classes: int,
    channels: int,
    image_size: int,
    width: float,
    forward: str,
    twin: str,
    bias: bool,
    dropout: float,
) -> OrderedDict[str, nn.Module]:
    """Named modules of the net called `net`: layers numbered through, conv1 … then two fc, batch norms bn1 ….

    The batch norm of the hidden fc is variance-preserving in the Hebbian twin. Raises ValueError for an unknown
    forward or twin, a width ≤ 0, or images too small for the convolutions.
    """
    one_of("forward", forward, FORWARDS)
    check_image_size(net, image_size, smallest_image(convolutions))
    parts: list[tuple[str, nn.Module]] = []
    fan_in, side = channels, image_size
    for index, (units, kernel, pool, preserving) in enumerate(convolutions, start=1):
        units = scaled(units, width)
        layer = nn.Conv2d(fan_in, units, kernel, bias=bias)
        norm = batch_norm(units, 2, twin=twin, preserving=preserving)
        parts += block(index, layer, norm, forward=forward, pool=pool)
        fan_in, side = units, (side - kernel + 1) // (pool or 1)
    hidden, last = scaled(HIDDEN, width), len(convolutions) + 1
    parts.append(("flatten", nn.Flatten()))
    fc = nn.Linear(fan_in * side * side, hidden, bias=bias)
    parts += block(last, fc, batch_norm(hidden, 1, twin=twin, preserving=True), forward=forward)
    parts += [("dropout", nn.Dropout(dropout)), (f"fc{last + 1}", nn.Linear(hidden, classes))]
    return OrderedDict(parts)
