"""The self-organising map: units are points of a grid, and the winner's neighbours learn with it.

| rule | post | decay | norm |
|---|---|---|---|
| SOM | r = h(d(winner, i)) | diag Σ abs r | Σ abs r |

d is the distance on the grid, ρ the radius, h one of

    gaussian      exp(−d²/2ρ²)
    difference    (4 exp(−d²/2ρ²) − exp(−d²/8ρ²)) / 3     the winner excites near units and inhibits far ones
    exponential   exp(−d/ρ)

T. Kohonen, "Self-organized formation of topologically correct feature maps", Biological Cybernetics 43, 1982.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding

from fasthebb.rules.base import Terms
from fasthebb.rules.instar import Attracted, signed


def gaussian(d: Tensor, radius: Tensor) -> Tensor:
    """exp(−d²/2ρ²) for distances d of any shape and a radius []."""
    return (d / radius).square_().mul_(-0.5).exp_()


def difference(d: Tensor, radius: Tensor) -> Tensor:
    """A Gaussian less a flatter one twice as wide, 0 in total over a plane; negative from about 1.9 ρ on."""
    return gaussian(d, radius).mul_(4 / 3).sub_(gaussian(d, 2 * radius), alpha=1 / 3)


def exponential(d: Tensor, radius: Tensor) -> Tensor:
    """exp(−d/ρ)."""
    return (d / radius).neg_().exp_()


KERNELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gaussian": gaussian,
    "difference": difference,
    "exponential": exponential,
}


@dataclass(frozen=True)
class SOM(Attracted):
    """ΔW_i = Σ r_i (x − sign(r_i) w_i) / Σ |r_i|: a step of the batch map. Every group of units has a map of its own.

    The winner is the first unit of the largest response. The radius shrinks by the same factor every step.

    Args:
        shape: the grid, 1 to 3 sides whose product is the number of units, numbered row by row; None for the most
            nearly square one of two sides.
        kernel: h, "gaussian", "difference" or "exponential".
        radius: ρ at the first step, in steps of the grid; None for half of the longest side, or the final one if
            that is larger.
        final_radius: ρ after `steps` steps, and from then on.
        steps: in how many steps the radius shrinks.

    Raises:
        ValueError: a side, a radius or the steps are not above 0, the kernel is unknown, there are not 1 to 3 sides,
            or a layer has another number of units a group.
    """

    shape: tuple[int, ...] | None = None
    kernel: str = "gaussian"
    radius: float | None = None
    final_radius: float = 0.5
    steps: int = 1000

    def __post_init__(self) -> None:
        sides = self.shape if self.shape is None or isinstance(self.shape, tuple | list) else ()
        whole = sides is None or all(isinstance(n, int) and n >= 1 for n in sides)
        if sides is not None and not (whole and 1 <= len(sides) <= 3):
            raise ValueError(f"SOM(shape={self.shape}): give a map 1 to 3 sides of one unit or more, such as (8, 12)")
        if self.kernel not in tuple(KERNELS):
            raise ValueError(f"SOM(kernel={self.kernel!r}): choose {', '.join(KERNELS)}")
        for name in ("radius", "final_radius", "steps"):
            value = getattr(self, name)
            if value is not None and not 1e-6 <= value < math.inf:
                raise ValueError(f"SOM({name}={value}): it must be above 0, and at least 1e-6")

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        if self.shape is not None and math.prod(self.shape) != shape[1]:
            raise ValueError(
                f"SOM(shape={self.shape}): that is {math.prod(self.shape)} units, and the layer has {shape[1]} a group;"
                f" choose sides of product {shape[1]}, or None"
            )
        return {"steps": torch.zeros(())}

    def activity(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        sides = self.shape or nearly_square(y.shape[2])
        start = self.radius or max(max(sides) / 2, self.final_radius)
        radius = start * (self.final_radius / start) ** (state["steps"] / self.steps).clamp(max=1)
        winner = y.max(dim=-2).indices  # [N, G, L], the first of equals
        points = grid(sides, y)
        few = winner.numel() < len(points)  # then only their rows of the kernel, else all and a choice among them
        starts = points[winner.flatten()] if few else points
        rows = KERNELS[self.kernel](torch.cdist(starts, points, compute_mode=EXACT), radius)
        return (rows.view(*winner.shape, len(points)) if few else embedding(winner, rows)).mT

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        return signed(post, a)

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        return {"steps": state["steps"] + (count > 0)}


EXACT = "donot_use_mm_for_euclid_dist"


def grid(sides: Sequence[int], like: Tensor) -> Tensor:
    """The points of a grid, row by row, [C, sides]."""
    axes = [torch.arange(n, device=like.device, dtype=like.dtype) for n in sides]
    return torch.cartesian_prod(*axes).reshape(-1, len(sides))


def nearly_square(units: int) -> tuple[int, int]:
    """The two sides of product `units` that differ least, the shorter first."""
    side = max(n for n in range(1, units + 1) if n * n <= units and units % n == 0)
    return side, units // side
