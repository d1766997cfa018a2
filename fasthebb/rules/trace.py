"""The trace rule: a unit that was active a moment ago learns what is seen now, and so comes to answer to both alike.

| rule | post | decay | norm |
|---|---|---|---|
| Trace | r̄ | diag Σ abs r̄ | Σ abs r |

r = compete(response) as in `Instar`; r̄ is its trace along the locations L, which are moments of time:

    r̄_t = (1 − δ) r̄_{t−1} + δ r_t,  r̄ = 0 before the first

P. Földiák, "Learning invariance from transformation sequences", Neural Computation 3, 1991: Δw_i = α r̄_i (x − w_i).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fasthebb.competition import Competition, Hard
from fasthebb.ops import check_rate
from fasthebb.rules.instar import Instar


@dataclass(frozen=True)
class Trace(Instar):
    """ΔW_i = Σ r̄_i (x − w_i) / Σ r_i: units move towards what follows and what they won, and bridge transformations.

    Time is the order of the locations of a sample: for layers that see sequences, a Linear on [N, T, K] or a Conv1d.
    On a map of more dimensions the trace runs on from row to row. Every sample starts anew.

    Args:
        competition: who is active, as in `Instar`.
        rate: δ, how far the trace moves towards the activity at every location; 1 leaves no trace, and is `Instar`.

    Raises:
        ValueError: the rate is not above 0 and at most 1.
    """

    competition: Competition | None = field(default=Hard())
    rate: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("Trace", self.rate)

    def post(self, a: Tensor) -> Tensor:
        return trace(a, self.rate)


def trace(a: Tensor, rate: float) -> Tensor:
    """r̄_t = (1 − rate) r̄_{t−1} + rate·a_t along the last dimension of a [..., L], from 0.

    Each turn doubles how far back the trace reaches: r̄_t += (1 − rate)^reach r̄_{t−reach}. It ends where older
    activity is below rounding.
    """
    traced, spare = a * rate, torch.empty_like(a)
    reach, kept = 1, 1 - rate
    while reach < a.shape[-1] and kept > torch.finfo(a.dtype).eps:
        spare[..., :reach] = traced[..., :reach]
        torch.add(traced[..., reach:], traced[..., :-reach], alpha=kept, out=spare[..., reach:])
        traced, spare = spare, traced
        reach, kept = 2 * reach, kept * kept
    return traced
