"""Principal components: the subspace rule and Hebbian PCA.

| rule | post | decay | norm |
|---|---|---|---|
| Subspace | f(y) | f(y)ᵀf(y) | count |
| HPCA | f(y) | lower(f(y)ᵀf(y)), diagonal included | count |

E. Oja, "Neural networks, principal components, and subspaces", International Journal of Neural Systems 1, 1989.
T. D. Sanger, "Optimal unsupervised learning in a single-layer linear feedforward neural network", Neural Networks 2,
1989.
G. Lagani et al., arXiv 2207.03172: HPCA with a nonlinearity, as matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fasthebb.activation import NAMED, Activation, AnyActivation, check_activation
from fasthebb.decay import Gram, LowerGram
from fasthebb.ops import count
from fasthebb.rules.base import Local, Terms


@dataclass(frozen=True)
class Activated(Local):
    """A rule whose units do f(y).

    Args:
        activation: f, one of "relu", "tanh", "identity", a function of a tensor, or an object of `fasthebb.activation`.

    Raises:
        ValueError: the activation is none of these.
    """

    activation: AnyActivation = "identity"

    def __post_init__(self) -> None:
        check_activation(type(self).__name__, self.activation)

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return self.activation.init_state(shape) if isinstance(self.activation, Activation) else {}

    def activity(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        if isinstance(self.activation, Activation):
            return self.activation(y, state)
        return self.activation(y) if callable(self.activation) else NAMED[self.activation](y)

    def stats(self, y: Tensor, a: Tensor) -> dict[str, Tensor] | None:  # noqa: ARG002
        return self.activation.stats(y) if isinstance(self.activation, Activation) else None

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        if isinstance(self.activation, Activation):
            return self.activation.next_state(state, stats, count)
        return state


@dataclass(frozen=True)
class Subspace(Activated):
    """ΔW = E[f(y) (x − Wᵀf(y))ᵀ]: with f the identity the units together span the leading principal subspace."""

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        return Terms(post, decay=Gram(post, a), norm=count(a))


@dataclass(frozen=True)
class HPCA(Activated):
    """ΔW_i = E[f(y_i) (x − Σ_{j≤i} f(y_j) w_j)]: unit i learns the i-th principal component.

    With "identity" this is Sanger's rule (the generalised Hebbian algorithm). Units are ordered by channel index.

    Args:
        activation: f, as in `Activated`.
    """

    activation: AnyActivation = "relu"

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        return Terms(post, decay=LowerGram(post, a), norm=count(a))
