"""Krotov and Hopfield's competing hidden units: the winner learns, the k-th unlearns.

| rule | post | decay | norm |
|---|---|---|---|
| Krotov(delta, k) | g = +1 for the largest response, −delta for the k-th largest, 0 for the rest | diag Σ g·y | count |

Equal responses rank in the order of the units. The response is y = Σ sign(w)|w|^(p−1) x, the dot product for p = 2.

D. Krotov, J. J. Hopfield, "Unsupervised learning by competing hidden units", PNAS 116, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fasthebb.response import Lebesgue, Response
from fasthebb.rules.hebb import Oja


@dataclass(frozen=True)
class Krotov(Oja):
    """ΔW_i = E[g_i (x − y_i w_i)], with g = 1 for the winner and −delta for the unit of the k-th largest response.

    The authors divide ΔW by its largest entry: `finish=max_abs`. In a group of fewer than k units nobody unlearns.

    Args:
        delta: how strongly the k-th unit unlearns.
        k: its rank; 2 is the runner-up. The search costs k − 1 more maxima.

    Raises:
        ValueError: delta is below 0, or k is below 2.
    """

    delta: float = 0.4
    k: int = 2
    response: Response = field(default=Lebesgue(2.0), kw_only=True)

    def __post_init__(self) -> None:
        if not 0 <= self.delta < 1e30:
            raise ValueError(f"Krotov(delta={self.delta}): the strength of unlearning must be 0 or more; try 0.4")
        if self.k < 2:
            raise ValueError(f"Krotov(k={self.k}): the winner does not unlearn; take a rank from 2 on")

    def post(self, a: Tensor) -> Tensor:
        winner = _first_largest(a)
        post = torch.zeros_like(a).scatter_(-2, winner, 1)
        if not self.delta or self.k > a.shape[-2]:
            return post
        rest = a.scatter(-2, winner, -torch.inf)
        for _ in range(self.k - 2):
            rest.scatter_(-2, _first_largest(rest), -torch.inf)
        return post.scatter_(-2, _first_largest(rest), -self.delta)


def _first_largest(t: Tensor) -> Tensor:
    return t.max(dim=-2, keepdim=True).indices
