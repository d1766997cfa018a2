"""Competition across units: responses [N, G, C, L] in, winners' shares [N, G, C, L] out.

Units compete within their group, at every location of every sample on its own. In hard and k-winner competition ties
all win; the shares of the soft ones sum to one.

| competition | shares r of responses s |
|---|---|
| Hard, KWinners(k) | 1 for the largest, or the k largest |
| Softmax(T), Power(T) | exp(s/T), or max(s, 0)^(1/T), normalised across units |
| Every | 1 for all |
| Threshold(inner, level) | inner(s) where s > level, else 0 |

The functions are for rules; the objects are what `Instar` takes. An object may remember, as those of
`fasthebb.conscience` do: its state is that of the rule, so it follows the same contract (`fasthebb.rules.base.Rule`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from fasthebb.ops import least, reciprocal, units_last


def hard(s: Tensor) -> Tensor:
    """1 for the units of the largest response, 0 for the rest."""
    return (s >= s.amax(dim=-2, keepdim=True)).to(s.dtype)


def k_winners(s: Tensor, k: int) -> Tensor:
    """1 for every unit whose response is at least the k-th largest, 0 for the rest.

    Raises:
        ValueError: k is below 1 or above the number of units.
    """
    units = s.shape[-2]
    if not 1 <= k <= units:
        raise ValueError(f"k={k}: there are {units} units to choose winners from; take k from 1 to {units}")
    kth = s.topk(k, dim=-2, sorted=True).values.narrow(-2, k - 1, 1)
    return (s >= kth).to(s.dtype)


def softmax(s: Tensor, temperature: float, *, squared: bool = False) -> Tensor:
    """exp(s/temperature), normalised across units; a share too small for a normal number is 0.

    squared: also one whose square is too small, for rules that let shares count by their squares.
    """
    scaled = s / temperature
    # softmax wants its dimension last in memory: this way neither of the two is copied
    r = torch.softmax(scaled.mT, dim=-1).mT if units_last(s) else torch.softmax(scaled, dim=-2)
    return torch.threshold_(r, least(r.dtype, squared=squared), 0.0)


def power(s: Tensor, temperature: float, *, squared: bool = False) -> Tensor:
    """max(s, 0)^(1/temperature), normalised across units, squared as of `softmax`; all 0 where no response is
    positive."""
    positive = s.clamp_min(0)
    most = positive.amax(dim=-2, keepdim=True)
    relative = positive / torch.where(most == 0, 1.0, most)  # the largest is 1 exactly: no underflow of all
    # Cut off before it is raised, which makes subnormal numbers; the largest is above the level.
    level = min(least(s.dtype, squared=squared) ** temperature, 1 - torch.finfo(s.dtype).eps)
    raised = torch.threshold_(relative, level, 0.0).pow_(1 / temperature)
    r = raised * reciprocal(raised.sum(dim=-2, keepdim=True))
    return torch.threshold_(r, least(r.dtype, squared=squared), 0.0)


@dataclass(frozen=True)
class Competition:
    """Which units learn of a patch, and how much."""

    def __call__(self, s: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        """Shares r [N, G, C, L] for responses s; pure, as `Rule.terms` is."""
        raise NotImplementedError  # pragma: no cover - abstract

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:  # noqa: ARG002
        """The memory for a layer of shape (G, C); a ValueError says that the competition does not fit it."""
        return {}

    def stats(self, r: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Sums over a batch of what it wants to remember, named as the state."""
        return {}

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """The memory after a step."""
        return state


@dataclass(frozen=True)
class Hard(Competition):
    """The unit of the largest response wins; ties all win."""

    def __call__(self, s: Tensor, state: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        return hard(s)


@dataclass(frozen=True)
class KWinners(Competition):
    """The k units of the largest responses win; ties all win.

    Raises:
        ValueError: k is below 1, or above the number of units of a layer.
    """

    k: int = 1

    def __post_init__(self) -> None:
        check_winners("KWinners", self.k)

    def __call__(self, s: Tensor, state: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        return k_winners(s, self.k)

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        check_winners("KWinners", self.k, shape[1])
        return {}


@dataclass(frozen=True)
class Softmax(Competition):
    """Shares exp(s/temperature), normalised across units.

    Raises:
        ValueError: the temperature is not above 0.
    """

    temperature: float = 0.02

    def __post_init__(self) -> None:
        check_temperature("Softmax", self.temperature)

    def __call__(self, s: Tensor, state: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        return softmax(s, self.temperature)


@dataclass(frozen=True)
class Power(Competition):
    """Shares max(s, 0)^(1/temperature), normalised across units.

    Raises:
        ValueError: the temperature is not above 0.
    """

    temperature: float = 0.05

    def __post_init__(self) -> None:
        check_temperature("Power", self.temperature)

    def __call__(self, s: Tensor, state: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        return power(s, self.temperature)


@dataclass(frozen=True)
class Every(Competition):
    """Every unit learns of every patch, with a share of 1: for `Threshold` and `Abstaining` to choose from."""

    def __call__(self, s: Tensor, state: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        return torch.ones_like(s)


@dataclass(frozen=True)
class Wrapping(Competition):
    """A competition that changes what an inner one sees, or what comes of it, and remembers what the inner one does.

    Raises:
        ValueError: inner is no competition, or one of the same kind is inside it: they would share a memory.
    """

    inner: Competition = Hard()

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Competition):
            raise ValueError(f"{type(self).__name__}(inner={self.inner!r}): give an object of fasthebb.competition")
        inside = self.inner
        while isinstance(inside, Wrapping):
            if type(inside) is type(self):
                raise ValueError(
                    f"{type(self).__name__}(inner={self.inner!r}): one of its kind is enough; take that out"
                )
            inside = inside.inner

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return self.inner.init_state(shape)

    def stats(self, r: Tensor) -> dict[str, Tensor]:
        return self.inner.stats(r)

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        return self.inner.next_state(state, stats, count)


@dataclass(frozen=True)
class Threshold(Wrapping):
    """Only units whose response is above a level learn, by their share of the inner competition.

    Args:
        inner: the shares; by default 1 for every unit above the level.
        level: in units of the response.

    Raises:
        ValueError: the level is not finite.
    """

    inner: Competition = Every()
    level: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isfinite(self.level):
            raise ValueError(f"Threshold(level={self.level}): the level must be finite, in units of the response")

    def __call__(self, s: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        return self.inner(s, state) * (s > self.level)


def check_winners(who: str, k: int, units: int | None = None) -> None:
    """Whether k of some units can win; raises ValueError."""
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"{who}(k={k}): at least one unit must win; take k from 1 to the number of units")
    if units is not None and k > units:
        raise ValueError(f"{who}(k={k}): the layer has {units} units a group; take k from 1 to {units}")


def check_temperature(who: str, temperature: float) -> None:
    """Whether a temperature is above 0 and finite, and so far from both that s/T is; raises ValueError."""
    if not 1e-30 <= temperature <= 1e30:
        raise ValueError(f"{who}(temperature={temperature}): the temperature must be above 0; try 0.02")
