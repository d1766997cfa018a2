"""What a rule is and says, looked at before the engine takes it: mistakes of a new rule get a line of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from fasthebb.decay import Decay, Diagonal, Gram, LowerGram, Sum
from fasthebb.rules.base import Rule, Terms


def check_parts(rule: Rule) -> None:
    """See whether the parts of a rule are what they should be.

    Raises:
        ValueError: its response has no method for responses, or its finish cannot be called; classes are neither.
    """
    who = type(rule).__name__
    for what, part, fits in (
        ("response", rule.response, callable(rule.response)),
        ("finish", rule.finish, rule.finish is None or callable(rule.finish)),
    ):
        if isinstance(part, type):
            raise ValueError(f"{who}: {what} is the class {part.__name__}; did you mean {part.__name__}()?")
        if not fits:
            raise ValueError(f"{who}: {what} is {part!r}: give one of fasthebb.{what}, or a function like them")


def check_memory(rule: Rule, method: str, memory: object, before: Mapping[str, Tensor] | None = None) -> None:
    """See whether `memory` is what `init_state` or `next_state` returns: named tensors, after a step as `before` it.

    Raises:
        ValueError: it is not; the message names the rule.
    """
    who = f"{type(rule).__name__}.{method}"
    if not isinstance(memory, Mapping):
        raise ValueError(f"{who} returned {_said(memory)}: return tensors by name")
    if before is not None and memory.keys() != before.keys():
        raise ValueError(f"{who} returned {_names(memory)}: return what init_state names, {_names(before)}")
    for name, value in memory.items():
        if not isinstance(value, Tensor) or (before is not None and value.shape != before[name].shape):
            wanted = "a tensor" if before is None else f"{list(before[name].shape)}, as the memory before"
            raise ValueError(f"{who}: {name!r} is {_said(value)}: give {wanted}")


def check_finished(finish: object, out: object, dw: Tensor) -> None:
    """See whether what a finish made of an update dw [G, C, K] can take its place.

    Raises:
        ValueError: it is no tensor of this shape.
    """
    if not isinstance(out, Tensor) or out.shape != dw.shape:
        who = getattr(finish, "__name__", type(finish).__name__)
        raise ValueError(f"The finish {who} returned {_said(out)}: return the update, {_said(dw)}")


def check_terms(rule: Rule, terms: object, y: Tensor, state: Mapping[str, Tensor]) -> None:
    """See whether `terms` are what `Rule.terms` returns for responses y [N, G, C, L] and a state.

    Raises:
        ValueError: they are not; the message names the rule and the part that is wrong.
    """
    who = f"{type(rule).__name__}.terms"
    if not isinstance(terms, Terms):
        raise ValueError(f"{who} returned {type(terms).__name__}: return fasthebb.Terms(post, decay, norm)")
    if terms.post is not None:
        _like(f"{who}: post", terms.post, y)
    if terms.decay is not None:
        _check_decay(f"{who}: decay", terms.decay, y)
    _per_unit(f"{who}: norm", terms.norm, y)
    for name, value in (terms.stats or {}).items():
        if name not in state:
            raise ValueError(f"{who}: stats[{name!r}] is not in the state ({_names(state)}): name it in init_state")
        if not _fits(value, state[name].shape):
            raise ValueError(f"{who}: stats[{name!r}] is {_said(value)}: give {list(state[name].shape)}, as the state")


def _check_decay(what: str, decay: object, y: Tensor) -> None:
    if not isinstance(decay, Decay):
        raise ValueError(f"{what} is {_said(decay)}: give a fasthebb.decay.Diagonal, Gram or LowerGram, or None")
    for part in decay.parts if isinstance(decay, Sum) else (decay,):
        if isinstance(part, Diagonal):
            _per_unit(f"{what}: Diagonal", part.d, y)
        if isinstance(part, Gram | LowerGram):
            _like(f"{what}: {type(part).__name__}", part.a, y)
            _like(f"{what}: {type(part).__name__}", part.b, y)


def _like(what: str, value: object, y: Tensor) -> None:
    if not isinstance(value, Tensor) or value.shape != y.shape or value.dtype != y.dtype:
        raise ValueError(f"{what} is {_said(value)}: give {_said(y)}, as the responses")


def _per_unit(what: str, value: object, y: Tensor) -> None:
    units = y.shape[1:3]
    if not _fits(value, units):
        raise ValueError(f"{what} is {_said(value)}: give a number for each unit, {list(units)}")


def _fits(value: object, shape: Sequence[int]) -> bool:
    # Whether it is a number, or a tensor that can be added to one of this shape.
    if not isinstance(value, Tensor):
        return isinstance(value, int | float)
    sizes = zip(reversed(value.shape), reversed(shape))
    return value.ndim <= len(shape) and all(size in (1, wanted) for size, wanted in sizes)


def _said(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def _names(some: Mapping[str, object]) -> str:
    return ", ".join(sorted(some)) or "none"
