"""Winner-take-all: units compete for a patch, and the winners' weights move towards it (the instar rule).

| rule | r = compete(response) | post | decay | norm |
|---|---|---|---|---|
| HardWTA | 1 for the largest | r·r or r | diag Σ post | Σ r |
| KWTA(k) | 1 for the k largest | r·r or r | diag Σ post | Σ r |
| SoftWTA(temperature) | softmax across units | r·r or r | diag Σ post | Σ r |
| Instar(competition) | any, or the response itself | r | diag Σ abs post | Σ abs r |

With average="weighted" the winner's share r enters twice, as step length and as averaging weight:
ΔW_i = Σ r²(x − w_i)/Σ r (the paper's SWTA); with "plain" once: Σ r(x − w_i)/Σ r. Where r is negative the unit moves
towards −x: Σ r(x − sign(r) w_i)/Σ |r|.

S. Grossberg, "Adaptive pattern classification and universal recoding I", Biological Cybernetics 23, 1976.
G. Lagani et al., arXiv 2207.03172: SWTA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from fasthebb.competition import Competition, check_temperature, check_winners, hard, k_winners, power, softmax
from fasthebb.decay import Diagonal
from fasthebb.ops import total
from fasthebb.response import RaisedCosine, Response
from fasthebb.rules.base import Local, Terms


@dataclass(frozen=True)
class Attracted(Local):
    """A rule whose units move towards the patches, each by its share; shares are never negative."""

    response: Response = field(default=RaisedCosine(2.0), kw_only=True)

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        norm = total(a)
        return Terms(post, Diagonal(norm if post is a else total(post)), norm)

    def weigh(self, post: Tensor, a: Tensor, factor: Tensor) -> Terms:
        _, decay, norm, stats = self.learn(post * factor.abs(), a)
        return Terms(post * factor, decay, norm, stats)  # a negative factor moves towards −x


@dataclass(frozen=True)
class HardWTA(Attracted):
    """The unit of the largest response moves towards the mean of the patches it wins: a k-means step; ties all win."""

    def activity(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        return hard(y)


@dataclass(frozen=True)
class KWTA(Attracted):
    """The k units of the largest responses move towards the patch; ties all win.

    Args:
        k: number of winners; HardWTA is k = 1.

    Raises:
        ValueError: k is below 1, or above the number of units of a layer.
    """

    k: int = 1

    def __post_init__(self) -> None:
        check_winners("KWTA", self.k)

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        check_winners("KWTA", self.k, shape[1])
        return {}

    def activity(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        return k_winners(y, self.k)


@dataclass(frozen=True)
class SoftWTA(Attracted):
    """Every unit moves towards the patch by its share r of the competition.

    Args:
        temperature: softness of the competition, in units of the response; with "power" the k of r = s^(1/k)/Σ s^(1/k).
        competition: "exp" for the softmax, "power" for the power law.
        average: "weighted" for Σ r²(x − w)/Σ r, the paper's; "plain" for Σ r(x − w)/Σ r.

    Raises:
        ValueError: the temperature is not above 0, or a name is unknown.
    """

    temperature: float = 0.02
    competition: Literal["exp", "power"] = "exp"
    average: Literal["weighted", "plain"] = "weighted"

    def __post_init__(self) -> None:
        check_temperature("SoftWTA", self.temperature)
        if self.competition not in ("exp", "power"):
            raise ValueError(f"SoftWTA(competition={self.competition!r}): choose exp or power")
        if self.average not in ("weighted", "plain"):
            raise ValueError(f"SoftWTA(average={self.average!r}): choose weighted or plain")

    def activity(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        shares = softmax if self.competition == "exp" else power
        return shares(y, self.temperature, squared=self.average == "weighted")

    def post(self, a: Tensor) -> Tensor:
        return a.square() if self.average == "weighted" else a

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:  # noqa: ARG002
        a = self.activity(y, state)
        norm = total(a)
        post = a.square_() if self.average == "weighted" else a  # nobody else has it: a pass over memory less
        return Terms(post, Diagonal(norm if self.average == "plain" else total(post)), norm)


@dataclass(frozen=True)
class Instar(Attracted):
    """Every unit moves towards the patch by its share of a competition of your choice.

    Args:
        competition: who learns, an object of `fasthebb.competition`; None for Grossberg's instar, in which every unit
            learns by its own response.
    """

    competition: Competition | None = None

    def __post_init__(self) -> None:
        if self.competition is not None and not isinstance(self.competition, Competition):
            raise ValueError(
                f"{type(self).__name__}(competition={self.competition!r}): give an object of fasthebb.competition, "
                "such as Hard(), or None"
            )

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return {} if self.competition is None else self.competition.init_state(shape)

    def activity(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        return y if self.competition is None else self.competition(y, state)

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        return signed(post, a)

    def stats(self, y: Tensor, a: Tensor) -> dict[str, Tensor] | None:  # noqa: ARG002
        return None if self.competition is None else self.competition.stats(a)

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        return state if self.competition is None else self.competition.next_state(state, stats, count)


def signed(post: Tensor, a: Tensor) -> Terms:
    """The terms of units that move towards −x where their share is negative."""
    norm = total(a.abs())
    return Terms(post, Diagonal(norm if post is a else total(post.abs())), norm)
