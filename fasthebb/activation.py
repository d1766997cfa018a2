"""Activations f that a rule applies to its responses: named functions, and objects that remember.

An object's state is that of the rule, so it follows the same contract (`fasthebb.rules.base.Rule`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

NAMED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "identity": lambda y: y,
}


@dataclass(frozen=True)
class Activation:
    """A function of responses [N, G, C, L] that depends on what it remembers of earlier ones."""

    def __call__(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        """f(y); pure, as `Rule.terms` is."""
        raise NotImplementedError  # pragma: no cover - abstract

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        """The memory for a layer of shape (G, C)."""
        raise NotImplementedError  # pragma: no cover - abstract

    def stats(self, y: Tensor) -> dict[str, Tensor]:
        """Sums over a batch of what it wants to remember, named as the state."""
        raise NotImplementedError  # pragma: no cover - abstract

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        """The memory after a step."""
        raise NotImplementedError  # pragma: no cover - abstract


AnyActivation = str | Callable[[Tensor], Tensor] | Activation


def check_activation(who: str, f: AnyActivation) -> None:
    """Whether f is an activation; raises ValueError."""
    if not callable(f) and f not in NAMED:
        raise ValueError(f"{who}(activation={f!r}): choose {', '.join(NAMED)} or pass a function")
