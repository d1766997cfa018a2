"""Ridge regression in closed form, its strength of least leave-one-out error.

Golub, Heath, Wahba, Technometrics 21 (1979): with Z of orthogonal columns, ZᵀZ = diag(e), the hat matrix of the centred
problem is Z diag(1 / (e + strength)) Zᵀ, and 1/M with the intercept. Leaving the rows S out at once, their residuals r
become (I − H_SS)⁻¹ r. Z = X V for V of XᵀX; where F > M, Z = Q sqrt(e) for Q of XXᵀ. Neither X in float64 nor Z of X is
ever whole in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

STRENGTHS = torch.logspace(-6, 3, 19, dtype=torch.float64)  # of the ridge, times the mean eigenvalue of its Gram matrix
CHUNK = 4096  # rows or columns at a time in float64


class Ridge(NamedTuple):
    """weight: [F, classes]; strength; left_out: its mean squared leave-one-out error."""

    weight: Tensor
    strength: float
    left_out: float


@dataclass(frozen=True, eq=False)
class Standardised:
    """Features [M, F] of any float type, seen in float64 with mean 0 and deviation 1, a piece at a time."""

    x: Tensor
    mean: Tensor
    scale: Tensor

    def rows(self, copies: int = 1) -> Iterator[Tensor]:
        """Pieces [copies, m, F]: the copies of the same images together, as of `ridge`."""
        for piece in torch.split(views(self.x, copies), max(1, CHUNK // copies), dim=1):
            yield piece.to(torch.float64, copy=True).sub_(self.mean).div_(self.scale)

    def columns(self) -> Iterator[Tensor]:
        """Pieces [M, f]."""
        for start in range(0, self.x.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            yield self.x[:, part].to(torch.float64, copy=True).sub_(self.mean[part]).div_(self.scale[part])


def views(x: Tensor, copies: int) -> Tensor:
    """x [M, F] as [copies, M/copies, F]: the views of an image at one place of the second dimension."""
    return x.reshape(copies, len(x) // copies, x.shape[1])


def standardised(x: Tensor) -> Standardised:
    """Features [M, F] with their mean and deviation [F]; a constant feature keeps its scale."""
    mean = torch.stack([part.double().sum(0) for part in torch.split(x, CHUNK)]).sum(0) / len(x)
    squares = [(part.double() - mean).square().sum(0) for part in torch.split(x, CHUNK)]
    deviation = (torch.stack(squares).sum(0) / len(x)).sqrt()
    negligible = deviation <= 1e-6 * mean.abs().clamp(min=1e-30)
    return Standardised(x, mean, torch.where(negligible, torch.ones_like(deviation), deviation))


def ridge(data: Standardised, target: Tensor, copies: int = 1) -> Ridge:
    """Fit targets [M, classes] of mean 0, float64. copies: the M rows are so many views of M/copies images, one view of
    all after the other; the views of an image are left out together."""
    count, width = data.x.shape
    dual = width > count
    e, vectors = torch.linalg.eigh(_outer(data) if dual else _inner(data))
    e = torch.where(e > e[-1] * max(count, width) * torch.finfo(e.dtype).eps, e, torch.zeros_like(e))  # rounding
    split = max(1, CHUNK // copies)
    targets = torch.split(views(target, copies), split, dim=1)
    if dual:
        z = vectors * e.sqrt()
        zt = z.T @ target
        orthogonal: Iterable[Tensor] = torch.split(views(z, copies), split, dim=1)
    else:
        pairs = zip(data.rows(copies), targets)
        zt = vectors.T @ sum((x.flatten(0, 1).T @ t.flatten(0, 1) for x, t in pairs), start=target.new_zeros(()))
        orthogonal = (x @ vectors for x in data.rows(copies))
    strengths = STRENGTHS.to(e.device) * e.mean().clamp(min=1e-300)  # all features constant: any strength does
    shrunk = 1 / (e + strengths[:, None])  # [strengths, R]
    errors = target.new_zeros(len(strengths))
    for z, t in zip(orthogonal, targets):
        errors += _left_out(z, t, zt, shrunk, 1 / count)
    errors = errors.nan_to_num(torch.inf) / target.numel()
    best = int(errors.argmin())
    if dual:
        alpha = vectors @ (shrunk[best][:, None] * (vectors.T @ target))
        weight = torch.cat([x.T @ alpha for x in data.columns()])
    else:
        weight = vectors @ (shrunk[best][:, None] * zt)
    return Ridge(weight, float(strengths[best]), float(errors[best]))


def _inner(data: Standardised) -> Tensor:
    """XᵀX [F, F]."""
    gram = data.mean.new_zeros(data.x.shape[1], data.x.shape[1])
    for piece in data.rows():
        gram.addmm_(piece[0].T, piece[0])
    return gram


def _outer(data: Standardised) -> Tensor:
    """XXᵀ [M, M]."""
    gram = data.mean.new_zeros(len(data.x), len(data.x))
    for piece in data.columns():
        gram.addmm_(piece, piece.T)
    return gram


def _left_out(z: Tensor, target: Tensor, zt: Tensor, shrunk: Tensor, intercept: float) -> Tensor:
    """Sums of squared leave-one-out errors [strengths] of the images of a piece z [copies, m, R]."""
    copies = len(z)
    hat = torch.stack(
        [torch.stack([(a * b) @ shrunk.T for b in z], -1) for a in z], -2
    )  # [m, strengths, copies, copies]
    kept = torch.eye(copies, dtype=z.dtype, device=z.device) - intercept - hat
    found = []
    for number, one in enumerate(shrunk):
        residual = (target - z @ (one[:, None] * zt)).transpose(0, 1)  # [m, copies, classes]
        found.append(torch.linalg.solve_ex(kept[:, number], residual).result.square().sum())
    return torch.stack(found)
