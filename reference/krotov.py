"""Krotov and Hopfield's competing hidden units: the winner learns, the k-th unlearns.

    g_mi = +1 for the unit with the largest response, −delta for the one with the k-th largest, 0 for the others
    ΔW_i = 1/M Σ_m g_mi (x_m − y_mi w_i)

Equal responses rank in the order of the units; where a group has fewer than k units nobody unlearns. The authors take
y = Σ_k sign(w_k) |w_k|^(p − 1) x_k, `responses.lebesgue(p)`, and divide ΔW by its largest entry, `finishes.max_abs`.

D. Krotov, J. J. Hopfield. Unsupervised learning by competing hidden units. PNAS 116(16), 2019.
"""

import torch
from torch import Tensor

from reference.hebb import Rule


def krotov(delta: float = 0.4, k: int = 2) -> Rule:
    """Return the rule in which the k-th unit, k ≥ 2, unlearns with strength `delta`.

    >>> patches, w, y = torch.tensor([[2.0, 0.0]]), torch.eye(2), torch.tensor([[2.0, 0.0]])
    >>> krotov(delta=0.5)(patches, w, y)
    tensor([[ 0.,  0.],
            [-1.,  0.]])
    """

    def rule(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
        dw = torch.zeros_like(w)
        for x, y_m in zip(patches, y.tolist()):
            ranking = sorted(range(len(w)), key=lambda i: -y_m[i])
            for i in range(len(w)):
                if i == ranking[0]:
                    g = 1.0
                elif k <= len(w) and i == ranking[k - 1]:
                    g = -delta
                else:
                    g = 0.0
                dw[i] += g * (x - y_m[i] * w[i])
        return dw / len(patches)

    return rule
