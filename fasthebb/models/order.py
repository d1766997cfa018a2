"""Which layers of a model can be trained, and in which order it calls them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from fasthebb.layers import LAYERS


def trainable_layers(model: nn.Module) -> tuple[str, ...]:
    """Names of the Linear and Conv layers, in module order."""
    return tuple(name for name, module in model.named_modules() if isinstance(module, LAYERS))


def call_order(model: nn.Module, names: Sequence[str], x: Tensor) -> tuple[str, ...]:
    """Those of the named modules that a forward of x calls, in the order of their first call; modes are kept."""
    return tuple(dict.fromkeys(calls(model, names, x)))


def calls(model: nn.Module, names: Sequence[str], x: Tensor) -> list[str]:
    """Every call of a named module in a forward of x, in order; modes are kept."""
    called: list[str] = []
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: called.append(name)) for name in names
    ]
    try:
        with torch.no_grad(), eval_mode(model):
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return called


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode while the block runs, and in its own again after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
