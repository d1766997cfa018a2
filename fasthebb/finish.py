"""Finishes: what happens to a unit's summed update dw before it is written; 0/0 = 0.

Each is a function (dw, w) -> dw on [G, C, K], applied after the sum over samples, micro-batches and ranks. It owns `dw`
and may work in place.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fasthebb.ops import reciprocal

Finish = Callable[[Tensor, Tensor], Tensor]


def fan_in(dw: Tensor, w: Tensor) -> Tensor:  # noqa: ARG001
    """dw/√K: makes the step independent of the fan-in."""
    return dw.mul_(dw.shape[-1] ** -0.5)


def unit_norm(dw: Tensor, w: Tensor) -> Tensor:  # noqa: ARG001
    """dw/‖dw‖ per unit: only its direction counts."""
    return dw.mul_(reciprocal(_norm(dw)))


def tangent(dw: Tensor, w: Tensor) -> Tensor:
    """dw − (dw·w)w/‖w‖² per unit: the part that turns w without changing its length to first order."""
    direction = w * reciprocal(_norm(w))
    return dw.addcmul_((dw * direction).sum(dim=-1, keepdim=True), direction, value=-1)


def max_abs(dw: Tensor, w: Tensor) -> Tensor:  # noqa: ARG001
    """dw/max|dw| over the whole layer: the largest change of one weight is the learning rate."""
    return dw.mul_(reciprocal(dw.abs().amax()))


def _norm(t: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(t, dim=-1, keepdim=True)
    return norm
