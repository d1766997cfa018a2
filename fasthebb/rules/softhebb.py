"""SoftHebb: soft competition in which the winner learns and the others unlearn.

| rule | post | decay | norm |
|---|---|---|---|
| SoftHebb(temperature) | c = +r for the winner, −r for the rest; r = softmax(y/T) | diag Σ c·y | count |

The winner is the first unit of the largest response. c multiplies input and decay alike, so a unit of length 1 keeps
its length to first order, whether it learns or unlearns: w·(x − y w) = y (1 − ‖w‖²).

T. Moraitis, D. Toichkin, A. Journé, Y. Chua, Q. Guo, "SoftHebb: Bayesian inference in unsupervised Hebbian soft
winner-take-all networks", Neuromorphic Computing and Engineering 2, 2022: the rule, and the prior.
A. Journé, H. Garcia Rodriguez, Q. Guo, T. Moraitis, "Hebbian deep learning without feedback", ICLR 2023
(arXiv 2209.11883): the losers' sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fasthebb.competition import check_temperature, softmax
from fasthebb.ops import slide, total
from fasthebb.rules.base import Terms
from fasthebb.rules.hebb import Oja


@dataclass(frozen=True)
class SoftHebb(Oja):
    """ΔW_i = E[c_i (x − y_i w_i)], with c = softmax(y/T), negative for all units but the winner.

    Args:
        temperature: T, softness of the competition, in units of the response.
        prior_rate: above 0, log π_i is added to y_i/T in the competition, where π_i is a sliding mean of the unit's
            share: how much of it each step replaces.

    Raises:
        ValueError: the temperature is not above 0, or the rate is outside [0, 1].
    """

    temperature: float = 1.0
    prior_rate: float = 0.0

    def __post_init__(self) -> None:
        check_temperature("SoftHebb", self.temperature)
        if not 0 <= self.prior_rate <= 1:
            raise ValueError(f"SoftHebb(prior_rate={self.prior_rate}): a rate lies in [0, 1]; take 0 for no prior")

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return {"prior": torch.full(shape, 1 / shape[1], dtype=torch.float64)} if self.prior_rate else {}

    def post(self, a: Tensor) -> Tensor:
        if self.prior_rate:
            raise ValueError(f"SoftHebb(prior_rate={self.prior_rate}): only terms() sees the prior; wrap prior_rate=0")
        return _signed(softmax(a, self.temperature), a)

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:
        if not self.prior_rate:
            return super().terms(y, state, signal)
        biased = torch.add(y, state["prior"].log().unsqueeze(-1), alpha=self.temperature)
        r = softmax(biased, self.temperature)
        stats = {"prior": total(r)}
        return self.learn(_signed(r, biased), y).remembering(stats)

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        if not self.prior_rate:
            return state
        return {"prior": slide(state["prior"], stats["prior"], count, self.prior_rate)}


def _signed(r: Tensor, s: Tensor) -> Tensor:
    # Shares r, in place, with the sign of all but the first of the largest responses s turned.
    winner = s.max(dim=-2, keepdim=True).indices  # twice as fast as argmax
    share = r.gather(-2, winner)
    return r.neg_().scatter_(-2, winner, share)
