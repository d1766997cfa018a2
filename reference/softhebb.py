"""SoftHebb: soft competition in which the winner learns and the others unlearn.

    r_mi = exp(u_mi / T) / Σ_j exp(u_mj / T)
    c_mi = +r_mi for the winner, the first unit with the largest u_m; −r_mi for the others
    ΔW_i = 1/M Σ_m c_mi (x_m − u_mi w_i)

With a prior π, u_mi / T + log π_i competes in place of u_mi / T, and the largest of these wins; π_i slides towards the
mean of r_mi over m.

u is the response, x·w unless told otherwise. The signed c multiplies input and decay alike, so that, as in Oja's rule,
the length of a unit with ‖w‖ = 1 is at rest whether it learns or unlearns: w·(x − u w) = u (1 − ‖w‖²) = 0.

T. Moraitis, D. Toichkin, A. Journé, Y. Chua, Q. Guo. SoftHebb: Bayesian inference in unsupervised Hebbian soft
winner-take-all networks. Neuromorphic Computing and Engineering 2(4), 2022.
A. Journé, H. Garcia Rodriguez, Q. Guo, T. Moraitis. Hebbian deep learning without feedback. ICLR 2023.
"""

import math

import torch
from torch import Tensor

from reference.hebb import Rule
from reference.instar import softmax


def softhebb(temperature: float = 1.0, prior: Tensor | None = None) -> Rule:
    """Return the SoftHebb rule with a softmax competition of the given temperature, and a prior [C] if there is one.

    >>> patches, w, u = torch.tensor([[2.0, 4.0]]), torch.eye(2), torch.tensor([[0.0, 0.0]])
    >>> softhebb()(patches, w, u)
    tensor([[ 1.,  2.],
            [-1., -2.]])
    >>> softhebb(prior=torch.tensor([0.25, 0.75]))(patches, w, u)
    tensor([[-0.5000, -1.0000],
            [ 1.5000,  3.0000]])
    """

    def rule(patches: Tensor, w: Tensor, u: Tensor) -> Tensor:
        dw = torch.zeros_like(w)
        for x, u_m in zip(patches, u.tolist()):
            potentials = _potentials(u_m, temperature, prior)
            winner = potentials.index(max(potentials))
            r = softmax(1.0)(potentials)
            for i in range(len(w)):
                c = r[i] if i == winner else -r[i]
                dw[i] += c * (x - u_m[i] * w[i])
        return dw / len(patches)

    return rule


def next_prior(prior: Tensor, u: Tensor, temperature: float, rate: float) -> Tensor:
    """Return the prior [C] after a step with responses u [M, C]: (1 − rate) π_i + rate · 1/M Σ_m r_mi."""
    shares = torch.zeros_like(prior)
    for u_m in u.tolist():
        r = softmax(1.0)(_potentials(u_m, temperature, prior))
        for i in range(len(prior)):
            shares[i] += r[i] / len(u)
    return (1 - rate) * prior + rate * shares


def _potentials(u: list[float], temperature: float, prior: Tensor | None) -> list[float]:
    logs = [0.0] * len(u) if prior is None else [math.log(p) for p in prior.tolist()]
    return [u_i / temperature + log for u_i, log in zip(u, logs)]
