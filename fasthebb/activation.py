"""Activations f that a rule applies to its responses: named functions, and objects that remember.

| object | f(y) | remembers, per unit |
|---|---|---|
| Adaptive(f) | σ f(y/σ) | σ², a sliding mean of y² |
| Switching | tanh(y) if E[y⁴] ≥ 3 E[y²]², else y − tanh(y) | sliding means of y² and y⁴ |

An object's state is that of the rule, so it follows the same contract (`fasthebb.rules.base.Rule`).

T.-W. Lee, M. Girolami, T. J. Sejnowski, "Independent component analysis using an extended infomax algorithm for mixed
subgaussian and supergaussian sources", Neural Computation 11, 1999: the switch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fasthebb.ops import check_rate, reciprocal, slide, total

if TYPE_CHECKING:
    Function = Callable[[Tensor], Tensor]
else:
    Function = Callable[[Tensor], Any]  # a parser of options cannot see what built-in functions of torch return

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


@dataclass(frozen=True)
class Adaptive(Activation):
    """σ f(y/σ), σ² a sliding mean of y² per unit: f sees responses of one size, whatever the scale of the input.

    σ is that of the steps before, 1 at first; where it is 0, f(y) is 0.

    Args:
        f: one of "relu", "tanh", "identity", or a function of a tensor.
        rate: share of a step in the sliding mean, above 0 and at most 1.

    Raises:
        ValueError: f is none of these, or the rate is out of range.
    """

    f: Function | str = "tanh"
    rate: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.f, Activation) or not (callable(self.f) or self.f in NAMED):
            raise ValueError(f"Adaptive(f={self.f!r}): choose {', '.join(NAMED)} or pass a function of a tensor")
        check_rate("Adaptive", self.rate)

    def __call__(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        f = NAMED[self.f] if isinstance(self.f, str) else self.f
        sigma = state["variance"].sqrt().unsqueeze(-1)
        return f(y * reciprocal(sigma)) * sigma

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return {"variance": torch.ones(shape)}

    def stats(self, y: Tensor) -> dict[str, Tensor]:
        return {"variance": total(y.square())}

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        return {name: slide(mean, stats[name], count, self.rate) for name, mean in state.items()}


@dataclass(frozen=True)
class Switching(Activation):
    """tanh(y) for a super-Gaussian unit, y − tanh(y) for a sub-Gaussian one: independent components of either kind.

    The kind is the sign of the excess kurtosis E[y⁴] − 3 E[y²]² over the steps before, responses taken as centred; a
    unit counts as super-Gaussian at first. The sub-Gaussian form is that of extended infomax; the super-Gaussian one is
    plain `ICA`'s rather than y + tanh(y), from which units unmix more slowly.

    Args:
        rate: share of a step in the sliding means, above 0 and at most 1.

    Raises:
        ValueError: the rate is out of range.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        check_rate("Switching", self.rate)

    def __call__(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        flat = (state["fourth"] < 3 * state["second"].square()).to(y.dtype).unsqueeze(-1)
        return torch.tanh(y).mul_(1 - 2 * flat).addcmul_(y, flat)

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return {"second": torch.zeros(shape), "fourth": torch.zeros(shape)}

    def stats(self, y: Tensor) -> dict[str, Tensor]:
        squares = y.square()
        second = total(squares)
        return {"second": second, "fourth": total(squares.square_())}

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        return {name: slide(mean, stats[name], count, self.rate) for name, mean in state.items()}


AnyActivation = Activation | Function | str  # text last, for a parser of options takes the first that fits


def check_activation(who: str, f: AnyActivation) -> None:
    """Whether f is an activation; raises ValueError."""
    if not callable(f) and f not in NAMED:
        raise ValueError(f"{who}(activation={f!r}): choose {', '.join(NAMED)}, Adaptive, Switching or pass a function")
