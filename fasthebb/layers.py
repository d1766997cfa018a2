"""How a layer shows its units.

| layer | weight | W [G, C, K] | output | y [N, G, C, L] |
|---|---|---|---|---|
| Linear | [C, K] | [1, C, K] | [N, ..., C] | L = the middle dimensions |
| ConvNd | [G·C, Cin/G, *k] | [G, C, Cin/G·∏k] | [N, G·C, *S] | L = ∏S |
| ConvTransposeNd | [Cin, C, *k], Cin/G rows a group | [G, C, Cin/G·∏k] | [N, G·C, *S] | L = ∏S |

y is a view of the output, never a copy. The correlation postᵀX of a convolution is its weight gradient with `post` as
the output's gradient, and patch norms are a box filter of Σx² over channels: no patch matrix ever exists.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fasthebb.ops import add_product, rows, take, wide

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Attachable = nn.Linear | Conv | Transposed
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class LinearUnits:
    """The units of a Linear layer: one group, the leading dimensions after the first are locations."""

    def __init__(self, module: nn.Linear) -> None:
        self.shape = (1, module.out_features, module.in_features)  # G, C, K

    def batched(self, x: Tensor) -> Tensor:
        """An input or output with its batch dimension."""
        return x if x.ndim > 1 else x.unsqueeze(0)

    def view(self, out: Tensor) -> Tensor:
        """The batched output [N, ..., C] as y [N, 1, C, L]."""
        return _three(out).transpose(1, 2).unsqueeze(1)

    def weight(self, w: Tensor) -> Tensor:
        """A tensor shaped like the layer's weight as [1, C, K], a view where it can be."""
        return w.unsqueeze(0)

    def fold(self, dw: Tensor) -> Tensor:
        """A tensor [1, C, K] shaped like the layer's weight."""
        return dw.squeeze(0)

    def patches(self, x: Tensor, out: Tensor, weight: Tensor) -> LinearPatches:  # noqa: ARG002
        """The inputs of a batched call with input x and output out."""
        return LinearPatches(_three(x))


@dataclass(frozen=True, eq=False)
class LinearPatches:
    """Inputs of a Linear layer, [N, L, K]: every one is a patch."""

    x: Tensor

    def norm(self) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(wide(self.x), dim=-1)
        return norm[:, None, None, :]

    def project(self, w: Tensor) -> Tensor:
        return torch.matmul(self.x.to(w.dtype), w[0].T).transpose(1, 2).unsqueeze(1)

    def dense(self) -> Tensor:
        """The inputs as [1, M, K]."""
        return self.x.flatten(0, 1).unsqueeze(0)

    def correlate(self, post: Tensor, out: Tensor, beta: float) -> None:
        """out [1, C, K] ← beta·out + postᵀX, multiplied in the number format of post [N, 1, C, L]."""
        add_product(out, rows(post).mT, self.dense().to(post.dtype), beta=beta)


def _three(t: Tensor) -> Tensor:
    return t.reshape(t.shape[0], math.prod(t.shape[1:-1]), t.shape[-1])  # [N, L, features]


class ConvUnits:
    """The units of a convolution: its output channels, group by group."""

    transposed = False

    def __init__(self, module: Conv) -> None:
        self.module = module
        groups, kernel = module.groups, math.prod(module.kernel_size)
        self.shape = (groups, module.out_channels // groups, module.in_channels // groups * kernel)
        # K runs in the order in which the weight lies in memory, so that [G, C, K] is a view of it.
        self._channels_last = module.weight.ndim > 3 and module.weight.shape[1] > 1 and module.weight.stride(1) == 1

    def batched(self, x: Tensor) -> Tensor:
        """An input or output with its batch dimension."""
        return x if x.ndim == len(self.module.kernel_size) + 2 else x.unsqueeze(0)

    def view(self, out: Tensor) -> Tensor:
        """The batched output [N, G·C, *S] as y [N, G, C, L]."""
        return out.reshape(out.shape[0], *self.shape[:2], math.prod(out.shape[2:]))

    def weight(self, w: Tensor) -> Tensor:
        """A tensor shaped like the layer's weight as [G, C, K], a view where it can be."""
        return (w.movedim(1, -1) if self._channels_last else w).reshape(self.shape)

    def fold(self, dw: Tensor) -> Tensor:
        """A tensor [G, C, K] shaped like the layer's weight."""
        shape = self.module.weight.shape
        if self._channels_last:
            return dw.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1)
        return dw.reshape(shape)

    def patches(self, x: Tensor, out: Tensor, weight: Tensor) -> ConvPatches:
        """The patches of a batched call with input x and output out."""
        padded, padding = self._pad(x)
        return ConvPatches(self, padded, padding, self._output_padding(padded, padding, out), out.shape, weight)

    def _pad(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        # What the convolution cannot pad itself is padded here: other modes than zeros, and an uneven "same".
        module, none = self.module, (0,) * len(self.module.kernel_size)
        twice = module._reversed_padding_repeated_twice
        if module.padding_mode != "zeros":
            return F.pad(x, twice, mode=module.padding_mode), none
        if isinstance(module.padding, str):
            before, after = tuple(twice[-2::-2]), tuple(twice[::-2])
            return (x, before) if before == after else (F.pad(x, twice), none)
        return x, module.padding

    def _output_padding(self, x: Tensor, padding: tuple[int, ...], out: Tensor) -> tuple[int, ...]:  # noqa: ARG002
        return (0,) * len(padding)


class TransposedUnits(ConvUnits):
    """The units of a transposed convolution: its output channels; a patch is what reaches one output location."""

    transposed = True

    def weight(self, w: Tensor) -> Tensor:
        groups, units, _ = self.shape
        return w.reshape(groups, -1, units, *w.shape[2:]).transpose(1, 2).reshape(self.shape)

    def fold(self, dw: Tensor) -> Tensor:
        groups, units, _ = self.shape
        shape = self.module.weight.shape
        return dw.reshape(groups, units, -1, *shape[2:]).transpose(1, 2).reshape(shape)

    def _output_padding(self, x: Tensor, padding: tuple[int, ...], out: Tensor) -> tuple[int, ...]:
        # From the output's size: forward(x, output_size) may have chosen another one than the module's.
        m = self.module
        reached = (
            (size - 1) * stride - 2 * pad + dilation * (k - 1) + 1
            for size, stride, pad, dilation, k in zip(x.shape[2:], m.stride, padding, m.dilation, m.kernel_size)
        )
        return tuple(size - r for size, r in zip(out.shape[2:], reached))


@dataclass(frozen=True, eq=False)
class ConvPatches:
    """The patches of a convolution, never built: what they sum to comes from convolutions."""

    units: ConvUnits
    x: Tensor  # [N, Cin, *S], padded where the convolution cannot
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    out_shape: torch.Size
    like: Tensor  # a tensor of the weight's shape and memory format

    def norm(self) -> Tensor:
        groups, kernel = self.units.shape[0], self.units.module.kernel_size
        n, channels, *size = self.x.shape
        energy = wide(self.x).reshape(n, groups, channels // groups, *size).square().sum(dim=2)  # [N, G, *S]
        box = energy.new_ones(groups, 1, *kernel)
        return self._convolve(energy, box, groups).reshape(n, groups, 1, math.prod(self.out_shape[2:])).sqrt()

    def project(self, w: Tensor) -> Tensor:
        return self.units.view(self._convolve(self.x.to(w.dtype), self.units.fold(w), self.units.shape[0]))

    def correlate(self, post: Tensor, out: Tensor, beta: float) -> None:
        """out [G, C, K] ← beta·out + postᵀX, multiplied in the number format of post [N, G, C, L]."""
        module, format = self.units.module, post.dtype
        like = self.like if self.like.dtype == format else torch.empty_like(self.like, dtype=format)
        dw = torch.ops.aten.convolution_backward(
            post.reshape(self.out_shape), self.x.to(format), like, None,
            module.stride, self.padding, module.dilation, self.units.transposed, self.output_padding, module.groups,
            (False, True, False),
        )[1]  # fmt: skip
        take(out, self.units.weight(dw), beta=beta)

    def _convolve(self, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        m = self.units.module
        return torch.convolution(
            x, weight, None, m.stride, self.padding, m.dilation, self.units.transposed, self.output_padding, groups
        )


Units = LinearUnits | ConvUnits


def units_of(module: nn.Module) -> Units:
    """How `module` shows its units.

    Raises:
        ValueError: its output cannot be told from its weight and input; the message says why, without the layer's name.
    """
    kind = next((kind for kind in LAYERS if isinstance(module, kind)), None)
    if kind is None:
        raise ValueError(f"{type(module).__name__} is neither a Linear nor a Conv layer")
    if not isinstance(module._parameters.get("weight"), nn.Parameter):
        raise ValueError("its weight is computed from other tensors (a parametrization, weight_norm or spectral_norm)")
    if isinstance(module.weight, nn.parameter.UninitializedParameter):
        raise ValueError("it is lazy and not yet initialised; run one forward first")
    if not _computes_as(module, kind):
        raise ValueError(f"{type(module).__name__} replaces the forward of {kind.__name__}")
    if isinstance(module, nn.Linear):
        return LinearUnits(module)
    if isinstance(module, Transposed):
        return TransposedUnits(cast("Conv", module))
    return ConvUnits(cast("Conv", module))


def _computes_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    methods = ("forward", "_conv_forward")  # neither replaced in a subclass nor on the module itself
    return all(
        getattr(type(module), name, None) is getattr(kind, name, None) and name not in vars(module) for name in methods
    )
