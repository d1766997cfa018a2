"""Forwards for the hooks' sake: each one ends when all that learns or keeps statistics was called."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fasthebb.models.order import calls, eval_mode


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
        order = calls(model, _steps(model, attached), x)
        end = _end(order, learns, attached, _keeping(model))
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


class Tail:
    """The part of such a forward that begins with the layer that learns, called on what enters this layer.

    Args:
        model, attached, x: as of `Forward`.
        learns: name of the layer.

    Attributes:
        example: what enters the layer of the images x: a batch of the shape and memory format to call with.

    Raises:
        ValueError: something happens between the modules of this part, or they branch.
    """

    def __init__(self, model: nn.Module, learns: str, attached: Collection[str], x: Tensor) -> None:
        trace = _trace(model, _steps(model, attached), x)
        order = [call.name for call in trace]
        part = trace[order.index(learns) : _end(order, (learns,), attached, _keeping(model))]
        if part[0].x is None or any(after.x is not before.out for before, after in pairwise(part)):
            raise ValueError(
                f"{type(model).__name__} from {learns!r} to {part[-1].name!r} is not a plain chain of modules: "
                "leave --cache-activations out"
            )
        self.example = part[0].x
        self._modules = [model.get_submodule(call.name) for call in part]
        self._automatic = part[0].automatic

    def __call__(self, x: Tensor) -> None:
        """Call the modules one after the other, the first one on x, in the number format that the model chose."""
        kind = x.device.type
        with torch.no_grad(), torch.autocast(kind, self._automatic, enabled=self._automatic is not None):
            for module in self._modules:
                x = module(x)


@contextlib.contextmanager
def entering(model: nn.Module, layer: str) -> Iterator[Callable[[Tensor], Tensor]]:
    """While the block runs, a function from images to what enters the named layer at first; its forward ends there."""
    found: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        found.append([*args, *kwargs.values()][0])
        raise _Enough

    def enter(x: Tensor) -> Tensor:
        with torch.no_grad(), contextlib.suppress(_Enough):
            model(x)
        return found.pop()

    hook = model.get_submodule(layer).register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield enter
    finally:
        hook.remove()


def modules_before(model: nn.Module, layer: str, x: Tensor) -> list[nn.Module]:
    """The modules that a forward of x has left by the time it first calls the named layer, each once."""
    left: dict[nn.Module, None] = {}
    hooks = [module.register_forward_hook(lambda m, *_: left.update({m: None})) for module in model.modules()]
    try:
        with eval_mode(model), entering(model, layer) as enter:
            enter(x)
    finally:
        for hook in hooks:
            hook.remove()
    return list(left)


class _Call(NamedTuple):
    name: str
    x: Tensor | None  # None if it was not called on one thing alone
    out: Tensor
    automatic: torch.dtype | None  # what autocast was to, if it was on


def _trace(model: nn.Module, names: Collection[str], x: Tensor) -> list[_Call]:
    # Every call of the named modules in a forward of x in eval mode.
    trace: list[_Call] = []

    def note(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], out: Tensor) -> None:
            given = [*args, *kwargs.values()]
            kind = out.device.type
            automatic = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
            trace.append(_Call(name, given[0] if len(given) == 1 else None, out, automatic))

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(note(name), with_kwargs=True) for name in names]
    try:
        with torch.no_grad(), eval_mode(model):
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return trace


def _stop(*_: object) -> None:
    raise _Enough


def _steps(model: nn.Module, attached: Collection[str]) -> list[str]:
    # Names of the modules that a forward consists of.
    leaves = [name for name, module in model.named_modules() if not any(module.children())]
    return [*leaves, *(name for name in attached if name not in leaves)]


def _keeping(model: nn.Module) -> set[str]:
    # Names of the modules that keep running statistics.
    leaves = {name: module for name, module in model.named_modules() if not any(module.children())}
    return {name for name, module in leaves.items() if next(module.buffers(), None) is not None}


def _end(order: list[str], learns: Collection[str], attached: Collection[str], keeps: Collection[str]) -> int:
    # The number of calls that are needed.
    needed = 1 + max((i for i, name in enumerate(order) if name in learns), default=len(order) - 1)
    for i, name in enumerate(order[needed:], start=needed):
        if name in attached:
            break
        if name in keeps:
            needed = i + 1
    return needed
