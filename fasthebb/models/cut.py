"""A net cut off at a depth: what is before a layer, under a classifier of its own.

Source: the fine-tuning of Lagani et al. 2022 (arXiv 2207.03172), at every depth in turn.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from fasthebb.layers import LAYERS
from fasthebb.models.order import eval_mode

HEAD = "head"


class Cut(nn.Module):
    """The part of `body` before its module `layer`, then flatten, dropout and `head`: images to scores [N, classes].

    What is not called before `layer` is dropped: in its place are modules that do nothing. `x`: two images.
    Raises ValueError if `body` has no such module, or its forward does not call it.
    """

    def __init__(self, body: nn.Module, layer: str, classes: int, x: Tensor, *, dropout: float = 0.5) -> None:
        super().__init__()
        if layer not in dict(body.named_modules()):
            raise ValueError(f"cut {layer!r}: the net has no such layer")
        called = _called(body, layer, x)
        _drop(body, layer, set(called))
        _still(called)
        self.body = body
        self._layer = layer
        self._entered: list[Tensor] = []
        self._hook = body.get_submodule(layer).register_forward_pre_hook(self._keep, with_kwargs=True)
        self.flatten = nn.Flatten()
        with torch.no_grad(), eval_mode(body):
            features = self._features(x).shape[1]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features, classes, device=x.device)

    def forward(self, x: Tensor) -> Tensor:
        features = self._features(x).to(next(self.head.parameters()).dtype)  # autocast gives another one
        scores: Tensor = self.head(self.dropout(features))
        return scores

    def run_through(self) -> None:
        """Let every forward go on behind the layer, through modules that do nothing: exporters follow no other."""
        self._hook.remove()
        self._hook = self.body.get_submodule(self._layer).register_forward_pre_hook(self._note, with_kwargs=True)

    def _features(self, x: Tensor) -> Tensor:
        self._entered.clear()
        with contextlib.suppress(_Reached):
            self.body(x)
        features: Tensor = self.flatten(self._entered.pop())
        return features

    def _keep(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._entered.append([*args, *kwargs.values()][0])
        raise _Reached

    def _note(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._entered:
            self._entered.append([*args, *kwargs.values()][0].clone())


class _Reached(Exception):  # noqa: N818 - it ends a forward that has done its work
    """The layer was called."""


def _called(body: nn.Module, layer: str, x: Tensor) -> list[nn.Module]:
    # The modules that a forward of x enters before the layer, in order.
    called: list[nn.Module] = []

    def note(module: nn.Module, _: object) -> None:
        if module is body.get_submodule(layer):
            raise _Reached
        called.append(module)

    hooks = [module.register_forward_pre_hook(note) for module in body.modules()]
    try:
        with torch.no_grad(), eval_mode(body):
            body(x)
    except _Reached:
        return called
    finally:
        for hook in hooks:
            hook.remove()
    raise ValueError(f"cut {layer!r}: the net's forward does not call that layer")


def _still(called: list[nn.Module]) -> None:
    # The dropouts after the last layer are in place of ours, which follows.
    for module in reversed(called):
        if isinstance(module, LAYERS):
            return
        if isinstance(module, _DropoutNd):
            module.p = 0.0


def _drop(body: nn.Module, layer: str, called: set[nn.Module]) -> None:
    # Leaves that are not called do nothing from now on; their parents, which a forward may look into, stay.
    for name, module in list(body.named_modules()):
        if name and module not in called and (name == layer or not any(module.children())):
            body.set_submodule(name, nn.Identity())
