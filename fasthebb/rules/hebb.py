"""Hebb's rule and Oja's stabilisation of it.

| rule | post | decay | norm |
|---|---|---|---|
| Hebb | y | – | count |
| Oja | y | diag Σ y² | count |

D. O. Hebb, The Organization of Behavior, 1949. E. Oja, "A simplified neuron model as a principal component analyzer",
Journal of Mathematical Biology 15, 1982, equation 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fasthebb.decay import Diagonal
from fasthebb.ops import count, total
from fasthebb.rules.base import Rule, Terms


@dataclass(frozen=True)
class Hebb(Rule):
    """ΔW_i = E[y_i x]: cells that fire together wire together; grows without bound unless the caller bounds it."""

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:  # noqa: ARG002
        return Terms(post=y, decay=None, norm=count(y))


@dataclass(frozen=True)
class Oja(Rule):
    """ΔW_i = E[y_i (x − y_i w_i)]: every unit on its own converges to the first principal component, ‖w‖ = 1."""

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:  # noqa: ARG002
        return Terms(post=y, decay=Diagonal(total(y * y)), norm=count(y))
