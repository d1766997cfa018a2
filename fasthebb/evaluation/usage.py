"""What became of a trained net's units: how they share the work, and whether there are as many as there seem to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fasthebb.diagnostics import dead, duplicates, effective_rank, sparsity, win_share
from fasthebb.layers import units_of
from fasthebb.models.order import eval_mode
from fasthebb.ops import rows
from fasthebb.rules import Rule

ROWS = 4096  # locations of images, evenly spread, that ranks and likenesses are computed from


class LayerUnits(NamedTuple):
    """What there is of a layer's units, by `fasthebb.diagnostics`; activity is its output, negative values taken as 0.

    units, dead, twins: numbers of all, of those that no image activates, and of those with an earlier twin.
    rank: effective rank of the activity, less its mean. most: the largest it can be.
    sparsity: of an image's activity across units, mean over images and locations.
    """

    units: int
    dead: int
    twins: int
    rank: float
    most: int
    sparsity: float


def unit_usage(model: nn.Module, rules: Mapping[str, Rule], x: Tensor) -> dict[str, Tensor]:
    """By layer, the share of locations of the images x at which each unit's response is the largest, [units].

    Args:
        model: stays in its mode; run in eval mode.
        rules: by name of the layer, the rule whose response counts.
        x: normalised images [N, C, H, W] on the model's device.
    """
    shares: dict[str, Tensor] = {}

    def share(name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        units, bias = units_of(module), module.bias
        weight: Tensor = module.weight.detach()  # type: ignore[operator]
        x, out = units.batched(x), units.batched(out)
        w = units.weight(weight)
        dot = units.view(out) if bias is None else units.view(out) - bias.view(*w.shape[:2], 1)  # type: ignore[operator]
        shares[name] = win_share(rules[name].response(dot, w, units.patches(x, out, weight)))

    _watch(model, rules, x, share)
    return shares


def layer_units(model: nn.Module, layers: Iterable[str], x: Tensor) -> tuple[dict[str, LayerUnits], dict[str, Tensor]]:
    """By layer, what there is of its units, and rows of their activity, [M, units], to compare nets by.

    Arguments as of `unit_usage`. Rows of two nets are of the same images and locations if their layers are of one size.
    """
    found: dict[str, LayerUnits] = {}
    activity: dict[str, Tensor] = {}

    def look(name: str, module: nn.Module, _: Tensor, out: Tensor) -> None:
        units = units_of(module)
        y = units.view(units.batched(out)).relu()
        a = rows(y.flatten(1, 2)[:, None])[0]  # [M, units]
        few = min(ROWS, len(a))
        a = a[torch.arange(few, device=a.device) * len(a) // few]
        activity[name] = a
        found[name] = LayerUnits(
            units=a.shape[1],
            dead=int(dead(y).sum()),
            twins=int(duplicates(units.weight(module.weight.detach())).sum()),  # type: ignore[operator]
            rank=float(effective_rank(a - a.mean(dim=0))),
            most=min(a.shape[1], len(a) - 1),
            sparsity=float(sparsity(a).mean()),
        )

    _watch(model, layers, x, look)
    return found, activity


def _watch(
    model: nn.Module, layers: Iterable[str], x: Tensor, see: Callable[[str, nn.Module, Tensor, Tensor], None]
) -> None:
    # Show a function each layer with its input and output in a forward of x.
    def listener(name: str) -> Any:
        def listen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
            see(name, module, [*args, *kwargs.values()][0], out)

        return listen

    hooks = [model.get_submodule(name).register_forward_hook(listener(name), with_kwargs=True) for name in layers]
    try:
        with torch.no_grad(), eval_mode(model):
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
