"""A layer as groups of units and the patches they see.

Every linear, convolutional and transposed convolutional layer is, group by group,

    output[m, c] = Σ_k patches[m, k] · w[c, k]  ( + bias )

with m running over samples, then output locations, and k over the input channels of the group, then kernel positions;
locations and positions are row-major. Along one axis, the kernel position t of the output location o reads the input at

    convolution              i = o · stride − padding + t · dilation
    transposed convolution   i with i · stride − padding + t · dilation = o

which the padding mode maps back into the input, or where there is nothing to read: a zero.

V. Dumoulin, F. Visin. A guide to convolution arithmetic for deep learning. arXiv 1603.07285, 2016.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

Layer = nn.Linear | nn.modules.conv._ConvNd
Axis = list[list[int | None]]  # axis[o][t]: the input index that position t of location o reads, None for a zero


def _zeros(i: int, size: int) -> int | None:
    return i if 0 <= i < size else None


def _reflect(i: int, size: int) -> int:
    return -i if i < 0 else 2 * (size - 1) - i if i >= size else i


def _replicate(i: int, size: int) -> int:
    return min(max(i, 0), size - 1)


def _circular(i: int, size: int) -> int:
    return i % size


BORDERS: dict[str, Callable[[int, int], int | None]] = {
    "zeros": _zeros,
    "reflect": _reflect,
    "replicate": _replicate,
    "circular": _circular,
}


def patches(layer: Layer, x: Tensor) -> list[Tensor]:
    """Return what the units of each group see: [M, K] per group, in the dtype float64.

    `x` is any input the layer accepts, with or without a batch dimension.
    """
    x = x.detach().to("cpu", torch.float64)
    if isinstance(layer, nn.Linear):
        return [(x if x.dim() > 1 else x.unsqueeze(0)).flatten(0, -2)]
    if x.dim() == len(layer.kernel_size) + 1:
        x = x.unsqueeze(0)
    axis = _transposed_axis if layer.transposed else _axis
    axes = [axis(layer, d, size) for d, size in enumerate(x.shape[2:])]
    return [_group_patches(x, g, layer.groups, axes) for g in range(layer.groups)]


def _group_patches(x: Tensor, group: int, groups: int, axes: list[Axis]) -> Tensor:
    per_group = x.shape[1] // groups
    rows = []
    for sample in x.tolist():
        channels = sample[group * per_group : (group + 1) * per_group]
        for location in product(*axes):
            rows.append([_read(channel, position) for channel in channels for position in product(*location)])
    return torch.tensor(rows, dtype=torch.float64)


def _read(channel: Any, position: tuple[int | None, ...]) -> float:
    for i in position:
        if i is None:
            return 0.0
        channel = channel[i]
    return float(channel)


def _axis(layer: nn.modules.conv._ConvNd, d: int, size: int) -> Axis:
    kernel, stride, dilation = layer.kernel_size[d], layer.stride[d], layer.dilation[d]
    before, after = _padding(layer, d)
    border = BORDERS[layer.padding_mode]
    outputs = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
    return [[border(o * stride - before + t * dilation, size) for t in range(kernel)] for o in range(outputs)]


def _padding(layer: nn.modules.conv._ConvNd, d: int) -> tuple[int, int]:
    if isinstance(layer.padding, str):
        total = 0 if layer.padding == "valid" else layer.dilation[d] * (layer.kernel_size[d] - 1)
        return total // 2, total - total // 2
    return layer.padding[d], layer.padding[d]


def _transposed_axis(layer: nn.modules.conv._ConvNd, d: int, size: int) -> Axis:
    kernel, stride, dilation = layer.kernel_size[d], layer.stride[d], layer.dilation[d]
    padding, _ = _padding(layer, d)
    outputs = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + layer.output_padding[d] + 1

    def source(o: int, t: int) -> int | None:
        for i in range(size):
            if i * stride - padding + t * dilation == o:
                return i
        return None

    return [[source(o, t) for t in range(kernel)] for o in range(outputs)]


def unit_weights(layer: Layer) -> list[Tensor]:
    """Return the weights of the units of each group, one row per unit: [C, K] per group, in the dtype float64."""
    weight = layer.weight.detach().to("cpu", torch.float64)
    if isinstance(layer, nn.Linear):
        return [weight.clone()]
    units, per_group = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    rows = []
    for g in range(layer.groups):
        for c in range(units):
            if layer.transposed:
                rows.append(weight[g * per_group : (g + 1) * per_group, c].reshape(-1))
            else:
                rows.append(weight[g * units + c].reshape(-1))
    return [torch.stack(rows[g * units : (g + 1) * units]) for g in range(layer.groups)]


def fold(layer: Layer, groups: list[Tensor]) -> Tensor:
    """Return rows of units, [C, K] per group, as one float64 tensor shaped like `layer.weight`: undo `unit_weights`."""
    if isinstance(layer, nn.Linear):
        return groups[0].clone()
    weight = torch.zeros(layer.weight.shape, dtype=torch.float64)
    units, per_group = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    for g in range(layer.groups):
        for c in range(units):
            unit = groups[g][c].reshape(per_group, *layer.kernel_size)
            if layer.transposed:
                weight[g * per_group : (g + 1) * per_group, c] = unit
            else:
                weight[g * units + c] = unit
    return weight
