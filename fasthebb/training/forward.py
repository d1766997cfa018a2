"""Forwards for the hooks' sake: each one ends when all that learns or keeps statistics was called."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from fasthebb.models.order import calls


class _Enough(Exception):  # noqa: N818 - it ends a forward that has done its work
    """Everything that learns was called."""


class Forward:
    """Calls a model without gradients, and stops before the modules that nobody needs: a classifier, its dropout.

    What is needed are the layers that learn and, up to the next attached layer that does not, every module that keeps
    running statistics. A model whose next module is called twice in a forward runs to its end.

    Args:
        model: in the mode to call it in.
        learns: names of the layers that learn now.
        attached: names of all attached layers.
        x: two images, to see the order of calls.
    """

    def __init__(self, model: nn.Module, learns: Collection[str], attached: Collection[str], x: Tensor) -> None:
        self._model = model
        self._hook: Any = None
        leaves = {name: module for name, module in model.named_modules() if not any(module.children())}
        order = calls(model, [*leaves, *(name for name in attached if name not in leaves)], x)
        keeps = {name for name, module in leaves.items() if next(module.buffers(), None) is not None}
        end = _end(order, learns, attached, keeps)
        if end < len(order) and order.count(order[end]) == 1:
            self._hook = model.get_submodule(order[end]).register_forward_pre_hook(_stop)

    def __call__(self, x: Tensor) -> None:
        """Call the model on x, as far as is needed."""
        with torch.no_grad(), contextlib.suppress(_Enough):
            self._model(x)

    def close(self) -> None:
        """Let the model run to its end again."""
        if self._hook is not None:
            self._hook.remove()


def _stop(*_: object) -> None:
    raise _Enough


def _end(order: list[str], learns: Collection[str], attached: Collection[str], keeps: Collection[str]) -> int:
    # The number of calls that are needed.
    needed = 1 + max((i for i, name in enumerate(order) if name in learns), default=len(order) - 1)
    for i, name in enumerate(order[needed:], start=needed):
        if name in attached:
            break
        if name in keeps:
            needed = i + 1
    return needed
