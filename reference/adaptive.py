"""Nonlinearities that depend on what is remembered of earlier responses, unit by unit.

    adaptive    f(y_i) = σ_i f(y_i/σ_i), and 0 where σ_i is 0         σ_i² a sliding mean of y_i²
    switching   f(y_i) = tanh(y_i)          where E[y_i⁴] ≥ 3 E[y_i²]²: a super-Gaussian unit
                f(y_i) = y_i − tanh(y_i)    elsewhere                 both means slide

T.-W. Lee, M. Girolami, T. J. Sejnowski. Independent component analysis using an extended infomax algorithm for mixed
subgaussian and supergaussian sources. Neural Computation 11(2), 1999: the switch, and its sub-Gaussian side.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]  # responses [M, C] -> [M, C]


def adaptive(f: Callable[[float], float], variance: Tensor) -> Function:
    """Return f of the responses in units of their size, scaled back; `variance` [C] is one σ² per unit.

    >>> adaptive(lambda y: max(y, 1.0), torch.tensor([4.0, 0.0]))(torch.tensor([[1.0, 1.0], [6.0, 6.0]]))
    tensor([[2., 0.],
            [6., 0.]], dtype=torch.float64)
    """

    def unit(y: float, i: int) -> float:
        sigma = math.sqrt(float(variance[i]))
        return sigma * f(y / sigma) if sigma else 0.0

    return _each(unit)


def switching(second: Tensor, fourth: Tensor) -> Function:
    """Return the nonlinearity for units of mean square `second` [C] and mean fourth power `fourth` [C]."""

    def unit(y: float, i: int) -> float:
        peaked = float(fourth[i]) >= 3 * float(second[i]) ** 2
        return math.tanh(y) if peaked else y - math.tanh(y)

    return _each(unit)


def next_moment(mean: Tensor, y: Tensor, power: int, rate: float) -> Tensor:
    """Return the sliding mean [C] of y to a power after a step with responses y [M, C].

    >>> next_moment(torch.tensor([1.0]), torch.tensor([[3.0], [1.0]]), 2, 0.5)
    tensor([3.], dtype=torch.float64)
    """
    moments = [sum(y_m[i] ** power for y_m in y.tolist()) / len(y) for i in range(len(mean))]
    return torch.tensor([(1 - rate) * m + rate * new for m, new in zip(mean.tolist(), moments)], dtype=torch.float64)


def _each(unit: Callable[[float, int], float]) -> Function:
    return lambda y: torch.tensor(
        [[unit(y_mi, i) for i, y_mi in enumerate(y_m)] for y_m in y.tolist()], dtype=torch.float64
    )
