"""Sums over samples and locations, and sliding means of them.

Shapes: N batch, G convolution groups, C units per group, L locations, K fan-in; M = N·L.
A response or post is [N, G, C, L]: a view of a layer's output in whatever memory order it has.
"""

from __future__ import annotations

import torch
from torch import Tensor

FEW = 256  # rows, of a product of narrow factors on a CPU: docs/performance.md
FULL = 4  # bytes of a number that is not narrow
MANY = 128  # units of which a CPU multiplies a lower half in blocks of rows, and
QUARTERS = 4  # how many: more blocks save work, and make smaller products


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


def columns(t: Tensor) -> Tensor:
    """t [N, G, C, L] as [G, C, M], contiguous: one row per unit."""
    n, groups, units, locations = t.shape
    return t.permute(1, 2, 0, 3).reshape(groups, units, n * locations).contiguous()


def gram(a: Tensor, b: Tensor) -> Tensor:
    """Σ a[n, g, i, l]·b[n, g, j, l] over n and l, as [G, I, J], for a [N, G, I, L] and b [N, G, J, L].

    Over many locations it is the weight gradient of a 1×1 convolution, which reads either memory order as it is; of
    narrow numbers, units last, a CPU's matrix product is faster.
    """
    n, groups, i, locations = a.shape
    j = b.shape[2]
    if locations <= 1 or n == 0 or (_matrices(a, b) and a.dtype.itemsize < FULL):
        return torch.bmm(rows(a).mT, rows(b))
    inputs, post = b.reshape(n, groups * j, locations, 1), a.reshape(n, groups * i, locations, 1)
    # of one sample torch cannot tell the format; told it of one in groups, it mixes these up
    last = units_last(b) and (n > 1 or groups == 1)
    format = torch.channels_last if last else torch.contiguous_format
    like = torch.empty(groups * i, j, 1, 1, dtype=inputs.dtype, device=inputs.device, memory_format=format)
    arguments = (None, (1, 1), (0, 0), (1, 1), False, (0, 0), groups, (False, True, False))
    dw: Tensor = torch.ops.aten.convolution_backward(post, inputs, like, *arguments)[1]
    return dw.reshape(groups, i, j)


def lower_gram(a: Tensor, b: Tensor) -> Tensor:
    """`gram` of as many units each, diagonal included and 0 above it, [G, C, C].

    Where a CPU can, only blocks of rows up to their last column are multiplied: five eighths of the work.
    """
    units = a.shape[2]
    if a.shape[3] <= 1 or units < MANY or not _matrices(a, b) or a.dtype.itemsize < FULL:
        return gram(a, b).tril_()
    first, second = rows(a).mT, rows(b)
    lower = first.new_zeros(first.shape[0], units, units)
    for start in range(0, units, size := -(-units // QUARTERS)):
        stop = start + size
        torch.bmm(first[:, start:stop], second[:, :, :stop], out=lower[:, start:stop, :stop])
    return lower.tril_()


def _matrices(a: Tensor, b: Tensor) -> bool:
    # Whether both are matrices with units next to each other, of a CPU, and so need no copy.
    return a.is_cpu and units_last(a) and units_last(b)


def wide(t: Tensor) -> Tensor:
    """t in the format of sums: float32 at least."""
    return t.to(torch.promote_types(t.dtype, torch.float32))


def add_product(out: Tensor, a: Tensor, b: Tensor, *, beta: float = 1.0, alpha: float = 1.0) -> None:
    """out ← beta·out + alpha·a·b [B, I, J], beta 0 or 1; factors narrower than out are multiplied as they are.

    With beta 0, out may hold anything, as in torch. On a CPU a product of a few rows costs the writing of it: it goes
    to `out` at once, of factors made wide, and is not written narrow first, read, and widened.
    """
    if out.is_cpu and a.shape[2] <= FEW:
        a, b = a.to(out.dtype), b.to(out.dtype)
    if a.dtype == out.dtype:
        torch.baddbmm(out, a, b, beta=beta, alpha=alpha, out=out)
    else:
        take(out, torch.bmm(a, b), beta=beta, alpha=alpha)


def take(out: Tensor, t: Tensor, *, beta: float, alpha: float = 1.0) -> None:
    """out ← beta·out + alpha·t, for beta 0 or 1 and t of any number format; for beta 0, out may hold anything."""
    if beta:
        out.add_(t, alpha=alpha)
    elif alpha == 1:
        out.copy_(t)
    else:
        torch.mul(t, alpha, out=out)


def reciprocal(t: Tensor) -> Tensor:
    """1/t, and 0 where t is 0 or too small for a finite reciprocal: the convention 0/0 = 0."""
    return torch.nan_to_num(t.reciprocal(), nan=torch.nan, posinf=0.0, neginf=0.0)


def least(dtype: torch.dtype, *, squared: bool) -> float:
    """A share up to which a winner's rivals have none: the least normal number, or 64 times one whose square is that.

    A CPU is ten times slower with subnormal numbers, which squares become, and their products with small inputs. Where
    shares count by their squares, what is left out is far below the rounding of a sum; in float16, whose range has no
    room for that, shares are left alone.
    """
    tiny = torch.finfo(dtype).tiny
    return float(64 * tiny**0.5 if squared and dtype != torch.float16 else tiny)


def slide(mean: Tensor, sums: Tensor, count: Tensor, rate: float) -> Tensor:
    """A sliding mean after a step of sums over `count` [] samples: mean + rate·(sums/count − mean); as is for none."""
    return torch.where(count > 0, torch.lerp(mean, sums * reciprocal(count), rate), mean)


def check_rate(who: str, rate: float) -> None:
    """Whether a sliding mean can move by this rate; raises ValueError."""
    if not 0 < rate <= 1:
        raise ValueError(f"{who}(rate={rate}): the sliding mean moves by this share a step, above 0 up to 1; try 0.1")
