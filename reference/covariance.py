"""The covariance rule: Hebb's rule on what a response exceeds its mean by.

    ΔW_i = 1/M Σ_m (y_mi − ȳ_i) x_m

ȳ_i is given here. In a network it slides, following a running mean of y_i.

T. J. Sejnowski. Storing covariance with nonlinearly interacting neurons. Journal of Mathematical Biology 4, 1977.
"""

import torch
from torch import Tensor

from reference.hebb import Rule


def covariance(mean: Tensor) -> Rule:
    """Return the rule with the mean responses `mean`, one per unit of the group: [C].

    >>> patches, w, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]]), torch.tensor([[3.0]])
    >>> covariance(torch.tensor([1.0]))(patches, w, y)
    tensor([[2., 4.]])
    """
    means: list[float] = mean.detach().to("cpu", torch.float64).tolist()

    def rule(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
        dw = torch.zeros_like(w)
        for x, y_m in zip(patches, y.tolist()):
            for i in range(len(w)):
                dw[i] += (y_m[i] - means[i]) * x
        return dw / len(patches)

    return rule


def next_mean(mean: Tensor, y: Tensor, rate: float) -> Tensor:
    """Return ȳ after a step with responses y [M, C]: it moves by `rate` towards their mean, [C].

    >>> next_mean(torch.tensor([1.0]), torch.tensor([[3.0], [7.0]]), 0.5)
    tensor([3.], dtype=torch.float64)
    """
    return torch.tensor(
        [(1 - rate) * float(mean[i]) + rate * sum(y_m[i] for y_m in y.tolist()) / len(y) for i in range(len(mean))],
        dtype=torch.float64,
    )
