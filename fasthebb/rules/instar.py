"""Winner-take-all: units compete for a patch, and the winners' weights move towards it (the instar rule).

| rule | r = compete(response) | post | decay | norm |
|---|---|---|---|---|
| HardWTA | 1 for the largest | r·r or r | diag Σ post | Σ r |
| KWTA(k) | 1 for the k largest | r·r or r | diag Σ post | Σ r |
| SoftWTA(temperature) | softmax across units | r·r or r | diag Σ post | Σ r |

With average="weighted" the winner's share r enters twice, as step length and as averaging weight:
ΔW_i = Σ r²(x − w_i)/Σ r (the paper's SWTA); with "plain" once: Σ r(x − w_i)/Σ r.

S. Grossberg, "Adaptive pattern classification and universal recoding I", Biological Cybernetics 23, 1976.
G. Lagani et al., arXiv 2207.03172: SWTA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from fasthebb.competition import hard, k_winners, power, softmax
from fasthebb.decay import Diagonal
from fasthebb.ops import total
from fasthebb.response import RaisedCosine, Response
from fasthebb.rules.base import Rule, Terms


@dataclass(frozen=True)
class _Instar(Rule):
    response: Response = field(default=RaisedCosine(2.0), kw_only=True)

    def compete(self, s: Tensor) -> Tensor:
        raise NotImplementedError  # pragma: no cover - abstract

    def step_length(self, r: Tensor) -> Tensor:
        return r

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:  # noqa: ARG002
        r = self.compete(y)
        norm = total(r)
        post = self.step_length(r)
        return Terms(post=post, decay=Diagonal(norm if post is r else total(post)), norm=norm)


@dataclass(frozen=True)
class HardWTA(_Instar):
    """The unit of the largest response moves towards the mean of the patches it wins: a k-means step; ties all win."""

    def compete(self, s: Tensor) -> Tensor:
        return hard(s)


@dataclass(frozen=True)
class KWTA(_Instar):
    """The k units of the largest responses move towards the patch; ties all win.

    Args:
        k: number of winners; HardWTA is k = 1.

    Raises:
        ValueError: k is below 1, or above the number of units of a layer.
    """

    k: int = 1

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"KWTA(k={self.k}): at least one unit must win; take k from 1 to the number of units")

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        if self.k > shape[1]:
            raise ValueError(f"KWTA(k={self.k}): the layer has {shape[1]} units a group; take k from 1 to {shape[1]}")
        return {}

    def compete(self, s: Tensor) -> Tensor:
        return k_winners(s, self.k)


@dataclass(frozen=True)
class SoftWTA(_Instar):
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
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"SoftWTA(temperature={self.temperature}): the temperature must be above 0; try 0.02")
        if self.competition not in ("exp", "power"):
            raise ValueError(f"SoftWTA(competition={self.competition!r}): choose exp or power")
        if self.average not in ("weighted", "plain"):
            raise ValueError(f"SoftWTA(average={self.average!r}): choose weighted or plain")

    def compete(self, s: Tensor) -> Tensor:
        return softmax(s, self.temperature) if self.competition == "exp" else power(s, self.temperature)

    def step_length(self, r: Tensor) -> Tensor:
        return r.square() if self.average == "weighted" else r
