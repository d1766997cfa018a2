"""The self-organising map: units are points of a grid, and learn with their neighbours.

    ΔW_i = Σ_m r_mi (x_m − sign(r_mi) w_i) / Σ_m |r_mi|
    r_mi = h(d(winner of m, i))

and ΔW_i = 0 for a unit with Σ_m |r_mi| = 0. The winner is the first unit of the largest response; d is the distance of
two units on the grid, whose points are numbered row by row; h, of radius ρ, is one of

    gaussian      exp(−d²/2ρ²)
    difference    (4 exp(−d²/2ρ²) − exp(−d²/8ρ²)) / 3
    exponential   exp(−d/ρ)

ρ is given here. In a network it shrinks from step to step.

T. Kohonen. Self-organized formation of topologically correct feature maps. Biological Cybernetics 43, 1982.
"""

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from reference.hebb import Rule

Kernel = Callable[[float, float], float]  # distance on the grid, radius -> strength


def gaussian(d: float, radius: float) -> float:
    """Return exp(−d²/2ρ²)."""
    return math.exp(-d * d / (2 * radius * radius))


def difference(d: float, radius: float) -> float:
    """Return the difference of a Gaussian and a flatter one twice as wide: excitation near, inhibition far."""
    return (4 * gaussian(d, radius) - gaussian(d, 2 * radius)) / 3


def exponential(d: float, radius: float) -> float:
    """Return exp(−d/ρ)."""
    return math.exp(-d / radius)


def grid(units: int) -> tuple[int, int]:
    """Return the most nearly square grid of so many units, its shorter side first."""
    side = max(n for n in range(1, units + 1) if units % n == 0 and n * n <= units)
    return side, units // side


def som(shape: tuple[int, ...] | None, kernel: Kernel, radius: float) -> Rule:
    """Return the rule of a map of this shape, or of the most nearly square one, and this radius.

    >>> patches, w, y = torch.tensor([[1.0, 2.0]]), torch.zeros(3, 2), torch.tensor([[5.0, 0.0, 0.0]])
    >>> som((3,), exponential, 1.0)(patches, w, y)
    tensor([[1., 2.],
            [1., 2.],
            [1., 2.]])
    """

    def rule(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
        points = list(product(*[range(n) for n in shape or grid(len(w))]))
        dw = torch.zeros_like(w)
        for i in range(len(w)):
            norm = 0.0
            for x, y_m in zip(patches, y.tolist()):
                winner = y_m.index(max(y_m))
                r = kernel(math.dist(points[winner], points[i]), radius)
                dw[i] += r * x - abs(r) * w[i]
                norm += abs(r)
            dw[i] = dw[i] / norm if norm > 0 else torch.zeros_like(w[i])
        return dw

    return rule


def shrunk(radius: float, final_radius: float, step: float, steps: int) -> float:
    """Return the radius after `step` of `steps` steps: it shrinks by the same factor every step, and then stays."""
    return radius * (final_radius / radius) ** min(step / steps, 1.0)
