"""Finishes: what happens to a unit's summed update dw before it is written; 0/0 = 0.

Each is a function (dw, w) -> dw on [G, C, K], applied after the sum over samples, micro-batches and ranks. It owns `dw`
and may work in place. Those with arguments are objects, frozen dataclasses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fasthebb.ops import reciprocal


@dataclass(frozen=True)
class Finisher:
    """A finish with arguments."""

    def __call__(self, dw: Tensor, w: Tensor) -> Tensor:
        """The update [G, C, K] that is written, for the summed one and the weights [G, C, K]."""
        raise NotImplementedError  # pragma: no cover - abstract


Finish = Callable[[Tensor, Tensor], Tensor] | Finisher


def fan_in(dw: Tensor, w: Tensor) -> Tensor:  # noqa: ARG001
    """dw/√K: makes the step independent of the fan-in."""
    return dw.mul_(dw.shape[-1] ** -0.5)


def unit_norm(dw: Tensor, w: Tensor) -> Tensor:  # noqa: ARG001
    """dw/‖dw‖ per unit: only its direction counts."""
    dw.mul_(reciprocal(dw.abs().amax(dim=-1, keepdim=True)))  # else squares of the tiny or the huge are 0 or infinite
    return dw.mul_(reciprocal(_norm(dw)))


def tangent(dw: Tensor, w: Tensor) -> Tensor:
    """dw − (dw·w)w/‖w‖² per unit: the part that turns w without changing its length to first order."""
    direction = w * reciprocal(_norm(w))
    return dw.addcmul_((dw * direction).sum(dim=-1, keepdim=True), direction, value=-1)


def max_abs(dw: Tensor, w: Tensor) -> Tensor:  # noqa: ARG001
    """dw/max|dw| over the whole layer: the largest change of one weight is the learning rate."""
    return dw.mul_(reciprocal(torch.maximum(dw.amax(), dw.amin().neg())))  # without a copy of dw


@dataclass(frozen=True)
class NormRate(Finisher):
    """lr·|‖w‖ − 1|^power·dw: a rate of its own for every unit, which falls to 0 as its weights reach length 1.

    Use it with a learning rate of 1 in the optimiser, whichever that is. Source: SoftHebb's adaptive rate, Journé et
    al. 2023 (arXiv 2209.11883).

    Args:
        lr: the rate of a unit whose length is 0 or 2.
        power: how the rate falls towards length 1; with 0 it does not.

    Raises:
        ValueError: lr is not above 0, or the power is below 0.
    """

    lr: float = 1.0
    power: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"NormRate(lr={self.lr}): the rate must be above 0; try 0.1")
        if not 0 <= self.power < float("inf"):
            raise ValueError(f"NormRate(power={self.power}): the power must be 0 or more; try 0.5")

    def __call__(self, dw: Tensor, w: Tensor) -> Tensor:
        return dw.mul_(_norm(w).sub_(1).abs_().pow_(self.power).mul_(self.lr))


@dataclass(frozen=True)
class Chain(Finisher):
    """Finishes one after the other, as in Chain((max_abs, NormRate(0.08))).

    Raises:
        ValueError: one of them is not a function.
    """

    finishes: tuple[Finish, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.finishes, tuple | list):
            raise ValueError(f"Chain({self.finishes!r}): give a tuple of finishes, such as (max_abs, NormRate(0.08))")
        for finish in self.finishes:
            if not callable(finish):
                raise ValueError(f"Chain: {finish!r} is no finish; give functions (dw, w) -> dw")

    def __call__(self, dw: Tensor, w: Tensor) -> Tensor:
        for finish in self.finishes:
            dw = finish(dw, w)
        return dw


def _norm(t: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(t, dim=-1, keepdim=True)
    return norm
