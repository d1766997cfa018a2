"""Principal components: Oja's subspace rule, plain and weighted, and Hebbian PCA (Sanger's rule with a nonlinearity f).

    Subspace            ΔW_i = 1/M Σ_m y_mi ( x_m − Σ_j y_mj w_j )                    j over all units
    weighted subspace   ΔW_i = 1/M Σ_m y_mi ( x_m − θ_i Σ_j y_mj w_j )                j over all units
    HPCA                ΔW_i = 1/M Σ_m f(y_mi) ( x_m − Σ_{j ≤ i} f(y_mj) w_j )        j up to i, inclusive

With f the identity HPCA is the generalised Hebbian algorithm: unit i finds the i-th principal component, since it sees
only what the units before it leave unexplained.

E. Oja. Neural networks, principal components, and subspaces. International Journal of Neural Systems 1(1), 1989.
E. Oja, H. Ogawa, J. Wangviwattana. Principal component analysis by homogeneous neural networks, parts I and II. IEICE
Transactions on Information and Systems E75-D, 1992.
T. D. Sanger. Optimal unsupervised learning in a single-layer linear feedforward neural network. Neural Networks 2(6),
1989.
G. Lagani, C. Gennaro, H. Fassold, G. Amato. FastHebb: scaling Hebbian training of deep neural networks to ImageNet
level. SISAP 2022 (arXiv 2207.03172).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reference.hebb import Rule


def subspace(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
    """Return the mean of response times what all units together leave unexplained of the input.

    Shapes: patches [M, K], w [C, K], y [M, C]; the result is shaped like w.
    """
    dw = torch.zeros_like(w)
    for x, y_m in zip(patches, y):
        for i in range(len(w)):
            rebuilt = torch.zeros_like(x)
            for j in range(len(w)):
                rebuilt += y_m[j] * w[j]
            dw[i] += y_m[i] * (x - rebuilt)
    return dw / len(patches)


def weighted_subspace(theta: Sequence[float]) -> Rule:
    """Return the subspace rule in which unit i takes `theta[i]` times what all units together rebuild.

    >>> weighted_subspace([1.0, 3.0])(torch.tensor([[1.0, 2.0]]), torch.eye(2), torch.tensor([[1.0, 2.0]]))
    tensor([[ 0.,  0.],
            [-4., -8.]])
    """

    def rule(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
        dw = torch.zeros_like(w)
        for x, y_m in zip(patches, y):
            for i in range(len(w)):
                rebuilt = torch.zeros_like(x)
                for j in range(len(w)):
                    rebuilt += y_m[j] * w[j]
                dw[i] += y_m[i] * (x - theta[i] * rebuilt)
        return dw / len(patches)

    return rule


def hpca(f: Callable[[Tensor], Tensor]) -> Rule:
    """Return Hebbian PCA with the elementwise nonlinearity `f`, such as `torch.relu` or `torch.tanh`.

    The order of the components is the order of the units in their group.
    """

    def rule(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
        dw = torch.zeros_like(w)
        for x, y_m in zip(patches, y):
            for i in range(len(w)):
                rebuilt = torch.zeros_like(x)
                for j in range(i + 1):
                    rebuilt += f(y_m[j]) * w[j]
                dw[i] += f(y_m[i]) * (x - rebuilt)
        return dw / len(patches)

    return rule
