"""Principal components: the subspace rule and Hebbian PCA.

| rule | post | decay | norm |
|---|---|---|---|
| Subspace | y | yᵀy | count |
| HPCA | f(y) | lower(f(y)ᵀf(y)), diagonal included | count |

E. Oja, "Neural networks, principal components, and subspaces", International Journal of Neural Systems 1, 1989.
T. D. Sanger, "Optimal unsupervised learning in a single-layer linear feedforward neural network", Neural Networks 2,
1989.
G. Lagani et al., arXiv 2207.03172: HPCA with a nonlinearity, as matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fasthebb.decay import Gram, LowerGram
from fasthebb.ops import count
from fasthebb.rules.base import Local, Terms

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "identity": lambda y: y,
}


@dataclass(frozen=True)
class Subspace(Local):
    """ΔW = E[y (x − Wᵀy)ᵀ]: the units together span the leading principal subspace."""

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        return Terms(post, decay=Gram(post, a), norm=count(a))


@dataclass(frozen=True)
class HPCA(Local):
    """ΔW_i = E[f(y_i) (x − Σ_{j≤i} f(y_j) w_j)]: unit i learns the i-th principal component.

    With "identity" this is Sanger's rule (the generalised Hebbian algorithm). Units are ordered by channel index.

    Args:
        activation: f, one of "relu", "tanh", "identity", or a function of a tensor.

    Raises:
        ValueError: the activation is none of these.
    """

    activation: str | Callable[[Tensor], Tensor] = "relu"

    def __post_init__(self) -> None:
        if not callable(self.activation) and self.activation not in ACTIVATIONS:
            raise ValueError(
                f"HPCA(activation={self.activation!r}): choose {', '.join(ACTIVATIONS)} or pass a function"
            )

    def activity(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        f = self.activation if callable(self.activation) else ACTIVATIONS[self.activation]
        return f(y)

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        return Terms(post, decay=LowerGram(post, a), norm=count(a))
