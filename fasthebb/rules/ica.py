"""Independent components: the natural gradient, and its hierarchical variant.

| rule | post | decay | norm |
|---|---|---|---|
| ICA | none: the input is not used | f(y)ᵀy − count·I | count |
| HICA | none | lower(f(y)ᵀy), diagonal included, − count·I | count |

A unit is at rest once E[f(y_i) y_i] is 1 and f(y_i) is uncorrelated with the other responses; in HICA, with those of
the units before it.

S. Amari, A. Cichocki, H. H. Yang, "A new learning algorithm for blind signal separation", NIPS 8, 1995.
G. Lagani et al., arXiv 2207.03172: both, as rules of the layers of deep nets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fasthebb.activation import AnyActivation
from fasthebb.decay import Decay, Diagonal, Gram, LowerGram
from fasthebb.ops import count
from fasthebb.rules.base import Terms
from fasthebb.rules.pca import Activated


@dataclass(frozen=True)
class ICA(Activated):
    """ΔW_i = w_i − E[f(y_i) Σ_k y_k w_k]: the units become independent.

    W is multiplied from the left, so its rows stay in the space that they span at the start.

    Args:
        activation: f, as in `Activated`; "tanh" suits super-Gaussian components, `fasthebb.activation.Switching` both
            kinds.
    """

    activation: AnyActivation = "tanh"

    def feedback(self, f: Tensor, y: Tensor) -> Decay:
        """What is taken of every unit's weights for f(y_i) and the responses it goes with."""
        return Gram(f, y)

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:  # noqa: ARG002
        f, samples = self.activity(y, state), count(y)
        growth = Diagonal(y.new_full(y.shape[1:3], -samples))
        return Terms(None, self.feedback(f, y) + growth, samples, self.stats(y, f))


@dataclass(frozen=True)
class HICA(ICA):
    """ΔW_i = w_i − E[f(y_i) Σ_{k≤i} y_k w_k]: a unit becomes independent of those before it, in channel order.

    Unit i stays in the span of the first i rows that W had at the start; the first keeps its direction.
    """

    def feedback(self, f: Tensor, y: Tensor) -> Decay:
        return LowerGram(f, y)
