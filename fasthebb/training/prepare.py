"""What is done to pre-trained layers before fine-tuning, without labels: scales, statistics, units that do nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fasthebb.diagnostics import dead, duplicates
from fasthebb.layers import LAYERS, Attachable, Conv, units_of
from fasthebb.models.order import eval_mode
from fasthebb.training.norms import batch_norms, settle
from fasthebb.training.patches import windows_of

PATCHES = 4096  # of a layer's input, that new weights are drawn from
NEGLIGIBLE = 1e-6  # a deviation or length, relative to what it is of, that is rounding


def rescale(model: nn.Module, layers: Sequence[str], x: Tensor) -> None:
    """Scale weight and bias of each unit so that its response has variance 1 over the images x and all locations.

    One forward, layer after layer in the order of their calls: a layer sees what the scaled ones before it give. Units
    whose response is constant stay. Batch norms take the statistics of x, and all modes are kept. Behind a `UnitNorm`
    scales make no difference. Source: LSUV (Mishkin, Matas, "All you need is a good init", ICLR 2016), here for each
    unit instead of each layer, and in one pass.

    Args:
        model: on the device of x.
        layers: names of Linear and convolution layers, transposed ones too.
        x: normalised images [N, C, H, W], at least two; a thousand are enough.

    Raises:
        ValueError: a layer that is not there, not called or of another kind.
        FloatingPointError: a response is not finite; the layer is named.
    """

    def scaled(layer: str, module: Attachable, _: Tensor, out: Tensor) -> Tensor:
        units = units_of(module)
        y = units.view(units.batched(out))  # [N, G, C, L]
        deviation, mean = torch.std_mean(y, dim=(0, 3), correction=0)  # [G, C]
        if not deviation.isfinite().all():
            raise FloatingPointError(f"The response of layer {layer!r} is not finite: check its weights and the images")
        constant = deviation <= NEGLIGIBLE * mean.abs()
        scale = torch.where(constant, 1, 1 / torch.where(constant, 1, deviation))
        module.weight.copy_(units.fold(units.weight(module.weight) * scale[..., None]))
        if module.bias is not None:
            module.bias.mul_(scale.flatten())
        return out * scale.flatten().view(-1, *(1,) * (module.weight.ndim - 2))

    _change(model, layers, x, scaled)


def renew_statistics(model: nn.Module, loader: Any) -> None:
    """Give batch norms the statistics of all images: the mean over batches of each batch's, in one pass.

    Weights and modes stay, nothing else trains: no dropout, no rule listens.

    Args:
        model: on the device to compute on.
        loader: gives (x, labels); the labels are never read.

    Raises:
        ValueError: there are no images.
    """
    device = next(model.parameters()).device
    norms, images = batch_norms(model), 0

    def batches() -> Iterator[Tensor]:
        nonlocal images
        for x, _ in loader:
            images += len(x)
            yield x.to(device)

    with torch.no_grad(), eval_mode(model):
        settle(norms, batches(), model)
    if norms and not images:
        raise ValueError("The loader gives no images to take statistics of; give it at least two")


def revive(model: nn.Module, layers: Sequence[str], x: Tensor, *, seed: int) -> dict[str, int]:
    """Give units that do nothing of their own a new weight: a random patch of what enters their layer.

    Those are the dead ones, never above 0 on the images x, and those with an earlier twin, as of
    `fasthebb.diagnostics`. The patch, less its mean, gets the median length of the layer's units, a bias becomes 0.
    One forward, layer after layer in the order of their calls. Batch norms take the statistics of x, modes are kept.

    Args:
        model: on the device of x.
        layers: names of Linear and convolution layers.
        x: normalised images [N, C, H, W], at least two.
        seed: of the patches.

    Returns:
        How many units were replaced, by layer; fewer than there are where patches do not suffice.

    Raises:
        ValueError: a layer that is not there, not called or of another kind.
    """
    generator = torch.Generator().manual_seed(seed)
    replaced: dict[str, int] = {}

    def revived(layer: str, module: Attachable, x: Tensor, out: Tensor) -> Tensor:
        if not isinstance(module, (nn.Linear, Conv)):
            raise ValueError(f"layer {layer!r} is a {type(module).__name__}, whose patches are not known: leave it out")
        units = units_of(module)
        idle = dead(units.view(units.batched(out))) | duplicates(units.weight(module.weight))  # [G, C]
        replaced[layer] = _replace(module, idle, units.batched(x), generator) if idle.any() else 0
        return module.forward(x) if replaced[layer] else out

    _change(model, layers, x, revived)
    return replaced


def _replace(module: nn.Linear | Conv, idle: Tensor, x: Tensor, generator: torch.Generator) -> int:
    # New weights for the idle units [G, C] of a layer that x enters; how many there were patches for.
    windows, dims = windows_of(module, x), 1 if isinstance(module, nn.Linear) else len(module.kernel_size)
    locations = windows.shape[: 1 + dims]
    draws = torch.randperm(locations.numel(), generator=generator)[: max(PATCHES, idle.shape[1])].to(x.device)
    patches = windows[torch.unravel_index(draws, locations)].reshape(len(draws), len(idle), -1).transpose(0, 1)
    centred = patches - patches.mean(2, keepdim=True)  # [G, M, K]
    norms = centred.norm(dim=2)
    lengths = module.weight.reshape(idle.numel(), -1).norm(dim=1)
    length = lengths[lengths > 0].median() if lengths.any() else lengths.new_ones(())
    count = 0
    for group, units in enumerate(idle):
        usable = (norms[group] > NEGLIGIBLE * patches[group].norm(dim=1)).nonzero().flatten()
        for unit, patch in zip(units.nonzero().flatten().tolist(), usable.tolist()):
            number = group * idle.shape[1] + unit
            weight = centred[group, patch] * (length / norms[group, patch])
            module.weight[number] = weight.view(module.weight.shape[1:])
            if module.bias is not None:
                module.bias[number] = 0
            count += 1
    return count


def _change(
    model: nn.Module, layers: Sequence[str], x: Tensor, change: Callable[[str, Any, Tensor, Tensor], Tensor]
) -> None:
    # One forward of x, in which `change` sees each layer at its first call, and says what goes on in place of its
    # output; batch norms take the statistics of x.
    modules = dict(model.named_modules())
    called: set[str] = set()

    def hook(layer: str) -> Any:
        def see(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], out: Tensor) -> Tensor:
            if layer in called:
                return out
            called.add(layer)
            return change(layer, module, [*args, *kwargs.values()][0], out)

        return see

    with torch.no_grad(), eval_mode(model), contextlib.ExitStack() as hooks:
        for layer in layers:
            hooks.callback(_known(modules, layer).register_forward_hook(hook(layer), with_kwargs=True).remove)
        norms = batch_norms(model)
        settle(norms, [x], model) if norms else model(x)
    if uncalled := [layer for layer in layers if layer not in called]:
        raise ValueError(f"layer {uncalled[0]!r} is not called by the forward: name layers that it calls")


def _known(modules: dict[str, nn.Module], layer: str) -> nn.Module:
    module = modules.get(layer)
    if not isinstance(module, LAYERS):
        kind = "not there" if module is None else f"a {type(module).__name__}"
        raise ValueError(f"layer {layer!r} is {kind}: name Linear or convolution layers")
    try:
        units_of(module)
    except ValueError as error:
        raise ValueError(f"layer {layer!r} cannot be changed: {error}") from None
    return module
