"""What passes through a net's layers, and the product that a layer's training cannot do without."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Seen(NamedTuple):
    """A layer, what it was called on, and what it returned."""

    layer: nn.Conv2d | nn.Linear
    x: Tensor
    y: Tensor


def seen(model: nn.Module, images: Tensor) -> dict[str, Seen]:
    """Every Conv2d and Linear of a model by name, in the order of calls, as a forward of images passes it."""
    found: dict[str, Seen] = {}
    hooks = [
        layer.register_forward_hook(lambda m, args, y, name=name: found.update({name: Seen(m, args[0], y)}))
        for name, layer in layers_of(model).items()
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return found


def layers_of(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Every Conv2d and Linear of a model by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def weight_gradient(layer: nn.Module, x: Tensor, grad: Tensor) -> Tensor:
    """postᵀX of one layer, by the product that its backward pass would use."""
    if isinstance(layer, nn.Linear):
        return grad.T @ x
    assert isinstance(layer, nn.Conv2d)
    like = layer.weight if layer.weight.dtype == x.dtype else torch.empty_like(layer.weight, dtype=x.dtype)
    geometry = (layer.stride, layer.padding, layer.dilation, False, (0, 0), layer.groups)
    wanted = (False, True, False)
    gradient: Tensor = torch.ops.aten.convolution_backward(grad, x, like, None, *geometry, wanted)[1]
    return gradient
