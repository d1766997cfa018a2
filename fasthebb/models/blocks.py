"""What the nets are made of: activations, the unit-norm forward, variance-preserving batch norm, one hidden block.

A block is ``layer, [max-pool], [unit norm], activation, batch norm``. Max-pooling commutes with non-decreasing
functions: pooling first gives the published nets' values and leaves a quarter of the elements to activate.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from fasthebb.console import nearest

FORWARDS = ("relu", "tanh", "identity", "unit_norm_relu")
TWINS = ("hebbian", "backprop")


def one_of(what: str, value: str, options: Iterable[str]) -> str:
    """Return `value` when it is one of `options`; a one-line ValueError with the nearest of them otherwise."""
    known = list(options)
    if value in known:
        return value
    near = nearest(value, known)
    hint = f"did you mean {near!r}? " if near else ""
    raise ValueError(f"{what} {value!r} is unknown: {hint}choose from {', '.join(known)}")


def scaled(units: int, width: float) -> int:
    """Number of units of a layer of `units` in a net of relative `width`: at least one; ValueError unless width > 0."""
    if not width > 0:
        raise ValueError(
            f"width {width} is not positive: give the fraction of the published units to keep, such as 0.25"
        )
    return max(1, round(units * width))


def check_image_size(net: str, image_size: int, smallest: int) -> None:
    """ValueError when images of a side of `image_size` pixels are too small for the net called `net`."""
    if image_size < smallest:
        raise ValueError(
            f"image_size {image_size} is too small for {net}: enlarge the images to {smallest} px at least"
        )


def activation(name: str) -> nn.Module:
    """Activation module of the forward called `name` (one of FORWARDS; the unit norm itself is another module).

    Raises ValueError for an unknown name. None works in place: hooks on the layer before keep what they saw.
    """
    one_of("forward", name, FORWARDS)
    kinds: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "identity": nn.Identity}
    return kinds.get(name, nn.ReLU)()


class Triangle(nn.Module):
    """relu(u − mean of u over channels)^power: what is above a location's mean, [N, C, ...] to the same shape.

    Source: the activation of SoftHebb's nets, Journé et al. 2023 (arXiv 2209.11883).
    """

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power

    def forward(self, u: Tensor) -> Tensor:
        above = F.relu(u - u.mean(dim=1, keepdim=True))
        return above if self.power == 1 else above.pow(self.power)

    def extra_repr(self) -> str:
        return f"power={self.power}"


class UnitNorm(nn.Module):
    """Scale each output channel of `layer` by 1/‖w‖ of that channel's weights; a channel of zero weights gives 0.

    Stands after `layer` (Linear, Conv or ConvTranspose, 1/2/3 dimensions), directly or behind a max-pool. It has no
    state and does not own `layer`: state-dict keys stay those of the plain net, and copies of a model keep the pair
    together. Shapes are unchanged ([..., C] after Linear, [N, C, ...] or [C, ...] after a convolution). A bias b is
    not scaled: y becomes (y − b)/‖w‖ + b. Gradients reach the weights through the norm.
    Raises ValueError for another kind of layer. Source: the forward of the WTA nets in Lagani et al. 2022.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        if not isinstance(layer, (nn.Linear, _ConvNd)):
            raise ValueError(f"UnitNorm({type(layer).__name__}): give it a Linear or convolution layer")
        self._layer = (layer,)  # a tuple, so that the layer is not registered as a sub-module

    def forward(self, y: Tensor) -> Tensor:
        layer = self._layer[0]
        shape = (-1,) + (1,) * (layer.weight.dim() - 2)  # [C] for Linear, [C, 1, ...] for convolutions
        norm = _unit_norms(layer)
        alive = norm > 0
        scale = torch.where(alive, 1 / torch.where(alive, norm, 1), 0).to(y.dtype).view(shape)
        if layer.bias is None:
            return y * scale
        bias = layer.bias.to(y.dtype).view(shape)
        return torch.addcmul(bias * (1 - scale), y, scale)


def _unit_norms(layer: nn.Linear | _ConvNd) -> Tensor:
    """Norm of each unit's weights, [C]."""
    weight: Tensor = layer.weight
    if isinstance(layer, _ConvTransposeNd):  # [Cin, C/G, ...] -> [C, Cin/G, ...]
        groups = weight.reshape(layer.groups, -1, *weight.shape[1:])
        weight = groups.transpose(1, 2).flatten(0, 1)
    norms: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return norms


class _VariancePreserving(_BatchNorm):
    """Batch norm that keeps the channels' relative variances: BN(x)·sqrt((var_c + ε) / (mean_c var + ε)).

    The variances are the running ones, after this batch's update in training mode. Shapes, buffers, state-dict keys
    and affine parameters are those of the plain batch norm, and the scale is folded into its weight and bias, so
    the data is passed over as often as there. Raises ValueError in training mode for one value per channel.
    Source: the Hebbian nets of Lagani et al. 2022.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        if not self.training:
            weight, bias = self.folded()
            return F.batch_norm(input, self.running_mean, self.running_var, weight, bias, eps=self.eps)
        if input.numel() == input.shape[1]:
            raise ValueError(
                f"one value per channel in an input of shape {list(input.shape)}: train on two or more images"
            )
        with torch.no_grad():
            mean, var = torch.batch_norm_update_stats(input, self.running_mean, self.running_var, self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        weight, bias = self.folded()
        if torch.is_grad_enabled():  # the statistics depend on the input: let autograd see them
            return F.batch_norm(input, None, None, weight, bias, training=True, eps=self.eps)
        return F.batch_norm(input, mean, var, weight, bias, eps=self.eps)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias times the variance-preserving scale, [C]."""
        assert self.running_var is not None
        var = self.running_var + self.eps
        scale = (var / var.mean()).sqrt()
        if not self.affine:
            return scale, None
        return self.weight * scale, self.bias * scale


class VariancePreservingBatchNorm1d(_VariancePreserving, nn.BatchNorm1d):
    """BN(x)·sqrt((var_c + ε) / (mean_c var + ε)) over [N, C] or [N, C, L]; keys as in nn.BatchNorm1d."""


class VariancePreservingBatchNorm2d(_VariancePreserving, nn.BatchNorm2d):
    """BN(x)·sqrt((var_c + ε) / (mean_c var + ε)) over [N, C, H, W]; keys as in nn.BatchNorm2d."""


def batch_norm(units: int, dims: int, *, twin: str, preserving: bool = False) -> _BatchNorm:
    """Batch norm over `units` channels of [N, C] (`dims` 1) or [N, C, H, W] (2); `preserving` in the Hebbian twin."""
    one_of("twin", twin, TWINS)
    plain: dict[int, type[_BatchNorm]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
    kept: dict[int, type[_BatchNorm]] = {1: VariancePreservingBatchNorm1d, 2: VariancePreservingBatchNorm2d}
    return (kept if preserving and twin == "hebbian" else plain)[dims](units)


def block(
    index: int, layer: nn.Linear | nn.Conv2d, norm: _BatchNorm, *, forward: str, pool: int | None = None
) -> list[tuple[str, nn.Module]]:
    """Named modules of the hidden block number `index`; only `layer` and `norm` have state, so twins share keys."""
    stem = "fc" if isinstance(layer, nn.Linear) else "conv"
    parts: list[tuple[str, nn.Module]] = [(f"{stem}{index}", layer)]
    if pool is not None:
        parts.append((f"pool{index}", nn.MaxPool2d(pool)))
    if forward == "unit_norm_relu":
        parts.append((f"norm{index}", UnitNorm(layer)))
    return [*parts, (f"act{index}", activation(forward)), (f"bn{index}", norm)]
