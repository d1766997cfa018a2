"""What is timed: one training step each, over the six-layer net and, for memory, over the convolutional part of VGG.

A step is a function of no arguments holding its own net, batch and optimiser. Images are noise: time does not depend on
what they show. Shapes: images [N, 3, 32, 32] unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fasthebb.bench import naive, published
from fasthebb.bench.timing import Step
from fasthebb.hebbian import attach
from fasthebb.jobs.layer_rules import forward_of
from fasthebb.models import build, head_name, sixlayer, vae, vae_loss
from fasthebb.models.blocks import one_of
from fasthebb.rules import HPCA, Rule, SoftWTA
from fasthebb.training.forward import Forward

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
RULES: Mapping[str, Rule] = {"hpca": HPCA(), "swta": SoftWTA()}
FORWARDS = {"hpca": "relu", "swta": "unit_norm_relu"}
LR = 1e-3
CLASSES = 10


def noise(batch_size: int, image_size: int = 32, *, device: str = "cpu", format: str = "contiguous") -> Tensor:
    """Images [N, 3, H, W] of unit normal noise, the same every time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, image_size, image_size, generator=generator)
    return images.to(device).contiguous(memory_format=FORMATS[format])


def six_layers(images: Tensor, *, width: float, forward: str = "relu", twin: str = "hebbian") -> nn.Sequential:
    """The six-layer net for `images`, on their device, in their memory format, in training mode."""
    torch.manual_seed(0)
    net = sixlayer(CLASSES, width=width, forward=forward, twin=twin)
    return net.to(images.device, memory_format=_format_of(images))  # type: ignore[call-overload, no-any-return]


def all_steps(*, batch_size: int = 64, width: float = 1.0, device: str = "cpu") -> dict[str, Step]:
    """Every step to interleave, by "name/memory format"; the published scheme unfolds and so has one format only."""
    steps: dict[str, Step] = {}
    for format in FORMATS:
        images = noise(batch_size, device=device, format=format)
        steps[f"floor/{format}"] = floor(images, width=width)
        steps[f"sgd/{format}"] = sgd(images, width=width)
        steps[f"vae/{format}"] = vae_step(images, width=width)
        for name in RULES:
            steps[f"{name}/{format}"] = hebbian(name, images, width=width)
    images = noise(batch_size, device=device)
    for name in RULES:
        steps[f"published_{name}/contiguous"] = published_step(name, images, width=width)
    return steps


def floor(images: Tensor, *, width: float = 1.0) -> Step:
    """Nothing but each layer's forward and the hidden layers' weight gradients, on inputs made beforehand."""
    net = six_layers(images, width=width)
    layers: list[tuple[nn.Module, Tensor, Tensor]] = []
    with torch.no_grad():
        x = images
        for module in net:
            y = module(x)
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                layers.append((module, x, y))
            x = y
    hidden = len(layers) - 1

    def step() -> None:
        with torch.no_grad():
            for index, (layer, x, y) in enumerate(layers):
                layer(x)
                if index < hidden:
                    _weight_gradient(layer, x, y)

    return step


def sgd(images: Tensor, *, width: float = 1.0) -> Step:
    """The supervised step of the backprop twin: forward, cross-entropy, backward, SGD without momentum."""
    return _supervised(six_layers(images, width=width, twin="backprop"), images)


def vae_step(images: Tensor, *, width: float = 1.0) -> Step:
    """The variational auto-encoder's step: forward, loss, backward, SGD without momentum."""
    torch.manual_seed(0)
    net = vae(width=width).to(images.device, memory_format=_format_of(images))  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(vae_loss(images, *net(images)))
        optimizer.step()

    return step


def hebbian(rule: str, images: Tensor, *, width: float = 1.0) -> Step:
    """A step of `fasthebb.pretrain` by `rule` ("hpca" or "swta"): all layers but the head, then plain SGD."""
    return rule_step(RULES[rule], images, width=width)


def rule_step(rule: Rule, images: Tensor, *, width: float = 1.0, signal: Tensor | None = None) -> Step:
    """Such a step by any rule, its forward the one that the training commands choose; signal [N] if it needs one."""
    net = six_layers(images, width=width, forward=forward_of(rule))
    return _attached(net, images, {head_name(net): None, "*": rule}, signal)


def published_step(rule: str, images: Tensor, *, width: float = 1.0) -> Step:
    """The published FastHebb scheme's step by `rule` ("hpca" or "swta")."""
    return _by_update(images, published.UPDATES[rule], FORWARDS[rule], width)


def naive_step(rule: str, images: Tensor, *, width: float = 1.0) -> Step:
    """The naive scheme's step by `rule` ("hpca" or "swta"): minutes at full width."""
    return _by_update(images, naive.UPDATES[rule], FORWARDS[rule], width)


def features_step(net: str, method: str, *, batch_size: int, image_size: int, device: str = "cpu") -> Step:
    """A step of the convolutional part of `net` ("vgg11" …) by `method` ("sgd", "hpca" or "swta"), channels last.

    Images [N, 3, image_size, image_size]. The supervised step takes the means of the last maps for scores. Raises
    ValueError for an unknown name.
    """
    one_of("method", method, ("sgd", *RULES))
    images = noise(batch_size, image_size, device=device, format="channels_last")
    twin, forward = ("backprop", "relu") if method == "sgd" else ("hebbian", FORWARDS[method])
    torch.manual_seed(0)
    features = build(net, classes=1, image_size=32, forward=forward, twin=twin).get_submodule("features")
    features = features.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if method == "sgd":
        return _supervised(nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten()), images)
    return _attached(features, images, {"*": RULES[method]})


def _supervised(net: nn.Module, images: Tensor) -> Step:
    labels = torch.arange(len(images), device=images.device) % CLASSES
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(F.cross_entropy(net(images), labels))
        optimizer.step()

    return step


def _attached(net: nn.Module, images: Tensor, rules: Mapping[str, Rule | None], signal: Tensor | None = None) -> Step:
    hebb = attach(net, rules)
    hebb.signal = signal
    optimizer = torch.optim.SGD(hebb.parameters(), lr=LR)

    forward = Forward(net.train(), hebb.layers, hebb.layers, images[:2])  # as fasthebb.pretrain does

    def step() -> None:
        forward(images)
        hebb.write_grad()
        optimizer.step()

    return step


def _by_update(images: Tensor, update: published.Update, forward: str, width: float) -> Step:
    net = six_layers(images, width=width, forward=forward)
    weights = [module.weight for module in net if isinstance(module, (nn.Conv2d, nn.Linear))]
    optimizer = torch.optim.SGD(weights[:-1], lr=LR)
    return lambda: published.step(net, images, update, optimizer)


def _weight_gradient(layer: nn.Module, x: Tensor, grad: Tensor) -> Tensor:
    """postᵀX of one layer, by the product that its backward pass would use."""
    if isinstance(layer, nn.Linear):
        return grad.T @ x
    assert isinstance(layer, nn.Conv2d)
    geometry = (layer.stride, layer.padding, layer.dilation, False, (0, 0), layer.groups)
    wanted = (False, True, False)
    gradient: Tensor = torch.ops.aten.convolution_backward(grad, x, layer.weight, None, *geometry, wanted)[1]
    return gradient


def _format_of(images: Tensor) -> torch.memory_format:
    return torch.contiguous_format if images.is_contiguous() else torch.channels_last
