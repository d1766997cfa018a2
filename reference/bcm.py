"""Bienenstock, Cooper and Munro's rule: a response above the threshold strengthens, one below it weakens.

    ΔW_i = 1/M Σ_m y_mi (y_mi − θ_i) x_m

θ_i is given here. In a network it slides, following a running mean of y_i², and takes the place of a decay: weights
that grow raise their own threshold.

E. L. Bienenstock, L. N. Cooper, P. W. Munro. Theory for the development of neuron selectivity: orientation specificity
and binocular interaction in visual cortex. Journal of Neuroscience 2(1), 1982.
N. Intrator, L. N. Cooper. Objective function formulation of the BCM theory of visual cortical plasticity: statistical
connections, stability conditions. Neural Networks 5(1), 1992.
"""

import torch
from torch import Tensor

from reference.hebb import Rule


def bcm(theta: Tensor) -> Rule:
    """Return the rule with the thresholds `theta`, one per unit of the group: [C].

    The units of a grouped layer have thresholds of their own: give `update` one such rule per group.
    Shapes: patches [M, K], w [C, K], y [M, C]; the result is shaped like w.

    >>> patches, w, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]]), torch.tensor([[3.0]])
    >>> bcm(torch.tensor([1.0]))(patches, w, y)
    tensor([[ 6., 12.]])
    """
    thresholds: list[float] = theta.detach().to("cpu", torch.float64).tolist()

    def rule(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
        dw = torch.zeros_like(w)
        for x, y_m in zip(patches, y.tolist()):
            for i in range(len(w)):
                dw[i] += y_m[i] * (y_m[i] - thresholds[i]) * x
        return dw / len(patches)

    return rule


def next_threshold(theta: Tensor, y: Tensor, rate: float) -> Tensor:
    """Return θ after a step with responses y [M, C]: it moves by `rate` towards their mean square, [C].

    >>> next_threshold(torch.tensor([1.0]), torch.tensor([[3.0], [1.0]]), 0.5)
    tensor([3.], dtype=torch.float64)
    """
    return torch.tensor(
        [
            (1 - rate) * float(theta[i]) + rate * sum(y_m[i] * y_m[i] for y_m in y.tolist()) / len(y)
            for i in range(len(theta))
        ],
        dtype=torch.float64,
    )
