"""What may be done to ΔW once it is summed and divided: a finish, with 0/0 = 0.

    fan_in      ΔW_i / √K
    unit_norm   ΔW_i / ‖ΔW_i‖
    tangent     ΔW_i − (ΔW_i·w_i) w_i / ‖w_i‖²       the part that turns w_i and does not stretch it
    max_abs     ΔW / max |ΔW|                        the maximum over all units of all groups
    norm_rate   lr · |‖w_i‖ − 1|^p · ΔW_i            SoftHebb's rate, 0 for a unit of length 1
    chain       one finish after the other

A finish takes and returns one [C, K] tensor per group, since `max_abs` must see the whole layer.

Rate by norm: A. Journé, H. Garcia Rodriguez, Q. Guo, T. Moraitis. Hebbian deep learning without feedback. ICLR 2023.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from reference.responses import dot, norm

Finish = Callable[[list[Tensor], list[Tensor]], list[Tensor]]  # ΔW and W, [C, K] per group -> ΔW


def fan_in(dw: list[Tensor], w: list[Tensor]) -> list[Tensor]:
    """Divide by √K, K the number of inputs of one unit."""
    return [_per_unit(lambda dw_i, _: dw_i / math.sqrt(dw_i.numel()), *group) for group in zip(dw, w)]


def unit_norm(dw: list[Tensor], w: list[Tensor]) -> list[Tensor]:
    """Scale the update of every unit to norm 1, a zero update staying zero."""

    def normalise(dw_i: Tensor, _: Tensor) -> Tensor:
        length = norm(dw_i)
        return dw_i / length if length > 0 else dw_i

    return [_per_unit(normalise, *group) for group in zip(dw, w)]


def tangent(dw: list[Tensor], w: list[Tensor]) -> list[Tensor]:
    """Remove from the update of every unit its component along the weights of that unit."""

    def project(dw_i: Tensor, w_i: Tensor) -> Tensor:
        squared = dot(w_i, w_i)
        return dw_i - dot(dw_i, w_i) / squared * w_i if squared > 0 else dw_i

    return [_per_unit(project, *group) for group in zip(dw, w)]


def max_abs(dw: list[Tensor], _w: list[Tensor]) -> list[Tensor]:
    """Divide by the largest absolute entry of the layer, a zero update staying zero."""
    largest = max(abs(entry) for group in dw for row in group.tolist() for entry in row)
    return [group / largest if largest > 0 else group for group in dw]


def norm_rate(lr: float = 1.0, power: float = 0.5) -> Finish:
    """Return the finish that scales the update of every unit by lr · |‖w‖ − 1|^power."""

    def rate(dw_i: Tensor, w_i: Tensor) -> Tensor:
        return lr * abs(float(norm(w_i)) - 1) ** power * dw_i

    return lambda dw, w: [_per_unit(rate, *group) for group in zip(dw, w)]


def chain(*finishes: Finish) -> Finish:
    """Return the finish that applies these in their order."""

    def finish(dw: list[Tensor], w: list[Tensor]) -> list[Tensor]:
        for each in finishes:
            dw = each(dw, w)
        return dw

    return finish


def _per_unit(finish: Callable[[Tensor, Tensor], Tensor], dw: Tensor, w: Tensor) -> Tensor:
    return torch.stack([finish(dw_i, w_i) for dw_i, w_i in zip(dw, w)])
