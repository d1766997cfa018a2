"""Hebb's rule and Oja's stabilisation of it.

| rule | post | decay | norm |
|---|---|---|---|
| Hebb | y | – | count |
| Oja | y | diag Σ y² | count |

D. O. Hebb, The Organization of Behavior, 1949. E. Oja, "A simplified neuron model as a principal component analyzer",
Journal of Mathematical Biology 15, 1982, equation 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fasthebb.decay import Diagonal
from fasthebb.ops import count, total
from fasthebb.rules.base import Local, Terms


@dataclass(frozen=True)
class Hebb(Local):
    """ΔW_i = E[y_i x]: cells that fire together wire together; grows without bound unless the caller bounds it."""

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        return Terms(post, decay=None, norm=count(a))


@dataclass(frozen=True)
class Oja(Local):
    """ΔW_i = E[y_i (x − y_i w_i)]: every unit on its own converges to the first principal component, ‖w‖ = 1."""

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        return Terms(post, decay=Diagonal(total(post * a)), norm=count(a))
