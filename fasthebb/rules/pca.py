"""Principal components: the subspace rule, plain and weighted, and Hebbian PCA.

| rule | post | decay | norm |
|---|---|---|---|
| Subspace | f(y) | f(y)ᵀf(y) | count |
| WeightedSubspace | y | θ∘yᵀy, row i times θ_i | count |
| HPCA | f(y) | lower(f(y)ᵀf(y)), diagonal included | count |

E. Oja, "Neural networks, principal components, and subspaces", International Journal of Neural Systems 1, 1989.
E. Oja, H. Ogawa, J. Wangviwattana, "Principal component analysis by homogeneous neural networks", parts I and II, IEICE
Transactions on Information and Systems E75-D, 1992: the weighted subspace.
T. D. Sanger, "Optimal unsupervised learning in a single-layer linear feedforward neural network", Neural Networks 2,
1989.
G. Lagani et al., arXiv 2207.03172: HPCA with a nonlinearity, as matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fasthebb.activation import NAMED, Activation, AnyActivation, check_activation
from fasthebb.decay import Gram, LowerGram
from fasthebb.ops import count
from fasthebb.rules.base import Local, Rule, Terms


@dataclass(frozen=True)
class Activated(Rule):
    """A rule that passes responses through a function f: f(y) is its activity.

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
        """f(y), [N, G, C, L]."""
        if isinstance(self.activation, Activation):
            return self.activation(y, state)
        return self.activation(y) if callable(self.activation) else NAMED[self.activation](y)

    def stats(self, y: Tensor, a: Tensor) -> dict[str, Tensor] | None:  # noqa: ARG002
        """What f wants to remember of a batch."""
        return self.activation.stats(y) if isinstance(self.activation, Activation) else None

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        if isinstance(self.activation, Activation):
            return self.activation.next_state(state, stats, count)
        return state


@dataclass(frozen=True)
class Subspace(Activated, Local):
    """ΔW = E[f(y) (x − Wᵀf(y))ᵀ]: with f the identity the units together span the leading principal subspace.

    With another f this is nonlinear PCA, whose units differ.

    Args:
        activation: f, as in `Activated`.
    """

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        return Terms(post, decay=Gram(post, a), norm=count(a))


@dataclass(frozen=True)
class WeightedSubspace(Local):
    """ΔW_i = E[y_i (x − θ_i Σ_j y_j w_j)]: unit i learns the i-th principal component, at length 1/√θ_i.

    θ rises evenly over the units of a group, in channel order, from 1 for the first to `most` for the last.

    Args:
        most: θ of the last unit, above 1; the further the θ are apart, the sooner units leave one another's component.

    Raises:
        ValueError: `most` is not above 1, or not finite.
    """

    most: float = 2.0

    def __post_init__(self) -> None:
        if not 1 < self.most < float("inf"):
            raise ValueError(f"WeightedSubspace(most={self.most}): the last unit's weight must be above 1; try 2.0")

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        theta = torch.linspace(1, self.most, a.shape[2], dtype=a.dtype, device=a.device)
        return Terms(post, decay=Gram(theta.unsqueeze(-1) * post, a), norm=count(a))


@dataclass(frozen=True)
class HPCA(Activated, Local):
    """ΔW_i = E[f(y_i) (x − Σ_{j≤i} f(y_j) w_j)]: unit i learns the i-th principal component.

    With "identity" this is Sanger's rule (the generalised Hebbian algorithm). Units are ordered by channel index.

    Args:
        activation: f, as in `Activated`.
    """

    activation: AnyActivation = "relu"

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        return Terms(post, decay=LowerGram(post, a), norm=count(a))
