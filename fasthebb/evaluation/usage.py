"""How a trained net's units share the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fasthebb.diagnostics import win_share
from fasthebb.layers import units_of
from fasthebb.models.order import eval_mode
from fasthebb.rules import Rule


def unit_usage(model: nn.Module, rules: Mapping[str, Rule], x: Tensor) -> dict[str, Tensor]:
    """By layer, the share of locations of the images x at which each unit's response is the largest, [units].

    Args:
        model: stays in its mode; run in eval mode.
        rules: by name of the layer, the rule whose response counts.
        x: normalised images [N, C, H, W] on the model's device.
    """
    shares: dict[str, Tensor] = {}

    def listener(name: str) -> Any:
        def listen(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
            units, bias = units_of(module), module.bias
            weight: Tensor = module.weight.detach()  # type: ignore[operator]
            inputs, out = units.batched(args[0]), units.batched(out)
            w = units.weight(weight)
            dot = units.view(out) if bias is None else units.view(out) - bias.view(*w.shape[:2], 1)  # type: ignore[operator]
            shares[name] = win_share(rules[name].response(dot, w, units.patches(inputs, out, weight)))

        return listen

    hooks = [model.get_submodule(name).register_forward_hook(listener(name)) for name in rules]
    try:
        with torch.no_grad(), eval_mode(model):
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return shares
