"""Sums over samples and locations.

Shapes: N batch, G convolution groups, C units per group, L locations, K fan-in; M = N·L.
A response or post is [N, G, C, L]: a view of a layer's output in whatever memory order it has.
"""

from __future__ import annotations

import torch
from torch import Tensor


def total(t: Tensor) -> Tensor:
    """Sum of t [N, G, C, L] over samples and locations, as [G, C]."""
    return t.sum(dim=(0, 3))


def count(t: Tensor) -> float:
    """Number of samples times locations of t [N, G, C, L]."""
    return float(t.shape[0] * t.shape[3])


def units_last(t: Tensor) -> bool:
    """Whether units lie next to each other in memory, as in Linear and channels-last outputs."""
    return t.stride(2) == 1 and t.shape[2] > 1


def rows(t: Tensor) -> Tensor:
    """t [N, G, C, L] as [G, M, C]: one row per sample and location; free where units lie next to each other."""
    n, groups, units, locations = t.shape
    return t.permute(1, 0, 3, 2).reshape(groups, n * locations, units)


def gram(a: Tensor, b: Tensor) -> Tensor:
    """Σ a[n, g, i, l]·b[n, g, j, l] over n and l, as [G, I, J], for a [N, G, I, L] and b [N, G, J, L]."""
    n, groups, i, locations = a.shape
    j = b.shape[2]
    if units_last(a) or locations < i:
        return torch.bmm(rows(a).mT, rows(b))
    per_sample = torch.matmul(a, b.mT)  # [N, G, I, J]: no copy of a or b; small, for I, J < L
    return per_sample.sum(dim=0) if n != 1 else per_sample.view(groups, i, j)


def reciprocal(t: Tensor) -> Tensor:
    """1/t, and 0 where t is 0 or too small for a finite reciprocal: the convention 0/0 = 0."""
    return torch.where(t.abs() > torch.finfo(t.dtype).tiny, t, torch.inf).reciprocal()
