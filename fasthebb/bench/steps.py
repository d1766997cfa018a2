"""What is timed: one training step each, over any net, the six-layer one by default.

A step is a function of no arguments holding its own net, batch and optimiser. Images are noise: time does not depend on
what they show. Shapes: images [N, 3, H, W].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fasthebb.bench import naive, published
from fasthebb.bench.calls import layers_of, seen, weight_gradient
from fasthebb.bench.timing import Step
from fasthebb.hebbian import attach
from fasthebb.jobs.layer_rules import forward_of
from fasthebb.models import build, head_name, vae, vae_loss
from fasthebb.rules import HPCA, Rule, SoftWTA
from fasthebb.training.captured import PLAIN
from fasthebb.training.forward import Forward
from fasthebb.training.precision import Precision, calculate_in

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
RULES: Mapping[str, Rule] = {"hpca": HPCA(), "swta": SoftWTA()}
FORWARDS = {"hpca": "relu", "swta": "unit_norm_relu"}
LR = 1e-5  # small enough that no rule leaves its path in the steps that are timed
CLASSES = {"sixlayer": 10}  # of other nets 1000
SIX = "sixlayer"
CAPTURED = [f"{name}/channels_last" for name in ("floor", "sgd", *RULES)]  # on a GPU


class Kind(TypedDict):
    """What all steps of a table share."""

    width: float
    precision: Precision


def noise(batch_size: int, image_size: int = 32, *, device: str = "cpu", format: str = "contiguous") -> Tensor:
    """Images [N, 3, H, W] of unit normal noise, the same every time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, image_size, image_size, generator=generator)
    return images.to(device).contiguous(memory_format=FORMATS[format])


def net_for(
    images: Tensor,
    *,
    net: str = SIX,
    width: float = 1.0,
    precision: Precision = "fp32",
    forward: str = "relu",
    twin: str = "hebbian",
) -> nn.Module:
    """The net called `net` for `images`, on their device, in their memory format, in training mode."""
    torch.manual_seed(0)
    model = build(net, classes=classes(net), image_size=images.shape[-1], width=width, forward=forward, twin=twin)
    model.to(images.device, memory_format=_format_of(images))  # type: ignore[call-overload]
    return calculate_in(model, precision)


def classes(net: str) -> int:
    """How many a net tells apart here."""
    return CLASSES.get(net, 1000)


def all_steps(
    *,
    net: str = SIX,
    batch_size: int = 64,
    image_size: int = 32,
    width: float = 1.0,
    precision: Precision = "fp32",
    device: str = "cpu",
) -> dict[str, Step]:
    """Every step to interleave, by "name/memory format"; the published scheme unfolds and so has one format only.

    The VAE's is one of the six-layer net. Nets that the published scheme does not know are timed without it, and so is
    everything in bfloat16. On a GPU some are also there captured.
    """
    steps: dict[str, Step] = {}
    kind: Kind = {"width": width, "precision": precision}
    for format in FORMATS:
        images = noise(batch_size, image_size, device=device, format=format)
        steps[f"floor/{format}"] = floor(images, net=net, **kind)
        steps[f"sgd/{format}"] = sgd(images, net=net, **kind)
        if net == SIX:
            steps[f"vae/{format}"] = vae_step(images, **kind)
        for name, rule in RULES.items():
            steps[f"{name}/{format}"] = rule_step(rule, images, net=net, **kind)
    images = noise(batch_size, image_size, device=device)
    for name in RULES if precision != "bf16" else ():
        steps[f"published_{name}/contiguous"] = published_step(name, images, net=net, width=width)
    if images.is_cuda:
        steps |= {key.replace("/", " captured/"): captured(steps[key]) for key in CAPTURED if key in steps}
    return steps


def captured(step: Step) -> Step:
    """The same step as one CUDA graph, replayed: without what it costs to tell the GPU of each kernel."""
    for _ in range(PLAIN):
        step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def floor(images: Tensor, *, net: str = SIX, width: float = 1.0, precision: Precision = "fp32") -> Step:
    """Nothing but each layer's forward and the hidden layers' weight gradients, on inputs made beforehand."""
    model = net_for(images, net=net, width=width, precision=precision)
    head = head_name(model)
    layers = {name: call._replace(x=call.x.to(call.y.dtype)) for name, call in seen(model, images).items()}

    def step() -> None:
        with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
            for name, (layer, x, y) in layers.items():
                layer(x)
                if name != head:
                    weight_gradient(layer, x, y)

    return step


def sgd(images: Tensor, *, net: str = SIX, width: float = 1.0, precision: Precision = "fp32") -> Step:
    """The supervised step of the backprop twin: forward, cross-entropy, backward, SGD without momentum."""
    model = net_for(images, net=net, width=width, precision=precision, twin="backprop")
    return supervised(model, images, classes(net))


def vae_step(images: Tensor, *, width: float = 1.0, precision: Precision = "fp32") -> Step:
    """The variational auto-encoder's step: forward, loss, backward, SGD without momentum."""
    torch.manual_seed(0)
    net = vae(width=width).to(images.device, memory_format=_format_of(images))  # type: ignore[call-overload]
    calculate_in(net, precision)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(vae_loss(images, *net(images)))
        optimizer.step()

    return step


def rule_step(
    rule: Rule,
    images: Tensor,
    *,
    net: str = SIX,
    width: float = 1.0,
    precision: Precision = "fp32",
    signal: Tensor | None = None,
) -> Step:
    """A step of `fasthebb.pretrain`, all layers but the head, then plain SGD; signal [N] if the rule needs one.

    The forward is the one that the training commands choose for the rule.
    """
    model = net_for(images, net=net, width=width, precision=precision, forward=forward_of(rule))
    return attached(model, images, {head_name(model): None, "*": rule}, signal)


def published_step(rule: str, images: Tensor, *, net: str = SIX, width: float = 1.0) -> Step:
    """The published FastHebb scheme's step by `rule` ("hpca" or "swta").

    Raises ValueError for a net with other than plain convolutions.
    """
    return _by_update(images, published.UPDATES[rule], FORWARDS[rule], net, width)


def naive_step(rule: str, images: Tensor, *, width: float = 1.0) -> Step:
    """The naive scheme's step by `rule` ("hpca" or "swta"): minutes at full width."""
    return _by_update(images, naive.UPDATES[rule], FORWARDS[rule], SIX, width)


def naive_times(rule: str, images: Tensor, *, net: str = SIX, width: float = 1.0) -> dict[str, naive.LayerTime]:
    """What the naive scheme takes for each hidden layer by `rule`, estimated from one group of units."""
    model = net_for(images, net=net, width=width, forward=FORWARDS[rule])
    head = head_name(model)
    calls = {name: (layer, x) for name, (layer, x, _) in seen(model, images).items() if name != head}
    return naive.step_times(rule, calls)


def supervised(model: nn.Module, images: Tensor, outputs: int) -> Step:
    """The supervised step of a model of so many outputs."""
    labels = torch.arange(len(images), device=images.device) % outputs
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(F.cross_entropy(model(images), labels))
        optimizer.step()

    return step


def attached(model: nn.Module, images: Tensor, rules: Mapping[str, Rule | None], signal: Tensor | None = None) -> Step:
    """The step of a model by rules, by patterns of layer names."""
    hebb = attach(model, rules)
    hebb.signal = signal
    optimizer = torch.optim.SGD(hebb.parameters(), lr=LR)
    forward = Forward(model.train(), hebb.layers, hebb.layers, images[:2])  # as fasthebb.pretrain does

    def step() -> None:
        forward(images)
        hebb.write_grad()
        optimizer.step()

    return step


def _by_update(images: Tensor, update: published.Update, forward: str, net: str, width: float) -> Step:
    model = net_for(images, net=net, width=width, forward=forward)
    hidden = {name: layer for name, layer in layers_of(model).items() if name != head_name(model)}
    published.listening(hidden, update)
    optimizer = torch.optim.SGD([layer.weight for layer in hidden.values()], lr=LR)

    def step() -> None:
        with torch.no_grad():
            model(images)
        optimizer.step()

    return step


def _format_of(images: Tensor) -> torch.memory_format:
    return torch.contiguous_format if images.is_contiguous() else torch.channels_last
