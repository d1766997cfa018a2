"""SoftHebb: soft competition in which the winner learns and the others unlearn.

    r_mi = exp(u_mi / T) / Σ_j exp(u_mj / T)
    c_mi = +r_mi for the winner, the first unit with the largest u_m; −r_mi for the others
    ΔW_i = 1/M Σ_m c_mi (x_m − u_mi w_i)

u is the response, x·w unless told otherwise. The signed c multiplies input and decay alike, so that, as in Oja's rule,
the length of a unit with ‖w‖ = 1 is at rest whether it learns or unlearns: w·(x − u w) = u (1 − ‖w‖²) = 0.

T. Moraitis, D. Toichkin, A. Journé, Y. Chua, Q. Guo. SoftHebb: Bayesian inference in unsupervised Hebbian soft
winner-take-all networks. Neuromorphic Computing and Engineering 2(4), 2022.
A. Journé, H. Garcia Rodriguez, Q. Guo, T. Moraitis. Hebbian deep learning without feedback. ICLR 2023.
"""

import torch
from torch import Tensor

from reference.hebb import Rule
from reference.instar import softmax


def softhebb(temperature: float = 1.0) -> Rule:
    """Return the SoftHebb rule with a softmax competition of the given temperature.

    >>> patches, w, u = torch.tensor([[2.0, 4.0]]), torch.eye(2), torch.tensor([[0.0, 0.0]])
    >>> softhebb()(patches, w, u)
    tensor([[ 1.,  2.],
            [-1., -2.]])
    """
    compete = softmax(temperature)

    def rule(patches: Tensor, w: Tensor, u: Tensor) -> Tensor:
        dw = torch.zeros_like(w)
        for x, u_m in zip(patches, u.tolist()):
            winner = u_m.index(max(u_m))
            r = compete(u_m)
            for i in range(len(w)):
                c = r[i] if i == winner else -r[i]
                dw[i] += c * (x - u_m[i] * w[i])
        return dw / len(patches)

    return rule
