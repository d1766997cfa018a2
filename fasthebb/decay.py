"""Decay: the linear operator that the update takes from W, applied in its cheapest exact form.

`decay @ w` for w [G, C, K] is [G, C, K]. With a, b [N, G, C, L] and M = N·L:

    Diagonal(d)       d∘W                     d [G, C]
    Gram(a, b)        (aᵀb) W                 dense 2C²(M + K), or aᵀ(b W) at 4MCK
    LowerGram(a, b)   lower(aᵀb) W            dense C²(M + K), or causal over blocks k of units at 4MCK:
                                              out_k = a_kᵀS + lower(a_kᵀb_k) W_k ;  S += b_k W_k

Factors narrower than the sums, as in bfloat16, are multiplied as they are, but in the causal form and, on a CPU, where
they have few rows.
Both factored forms keep an [M, K] matrix, so they also need M < C. `correlate` merges them with the correlation of a
dense layer: aᵀX − decay·W = aᵀR with R = X − what the units up to here explain. lower() includes the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fasthebb.ops import add_product, columns, gram, lower_gram, rows, wide

BLOCK = 32  # units per block of the causal form: fewer waste less below the diagonal, more make fuller products
LEAST = 8  # units per block where there are few samples
CUDA_BLOCK = 256  # on a GPU, whose small products cost a launch each

Narrow = Callable[[Tensor], Tensor]


class Decay:
    """A linear operator on W [G, C, K], a sum over samples."""

    def subtract(self, out: Tensor, w: Tensor) -> None:
        """out −= decay·w, in place; both [G, C, K]."""
        raise NotImplementedError  # pragma: no cover - abstract

    def summed(self) -> Decay:
        """The same operator with the sum over samples carried out, so that parts of a batch add up."""
        return self

    def rounded(self, narrow: Narrow) -> Decay:  # noqa: ARG002
        """The same operator with the factors of its matrix products in a narrower format; `narrow` makes one so."""
        return self

    def __matmul__(self, w: Tensor) -> Tensor:
        out = torch.zeros_like(w)
        self.subtract(out, w)
        return out.neg_()

    def __add__(self, other: Decay) -> Decay:
        return Sum((*_parts(self), *_parts(other)))


@dataclass(frozen=True, eq=False)
class Diagonal(Decay):
    """d∘W: every unit decays by its own factor; d [G, C]."""

    d: Tensor

    def subtract(self, out: Tensor, w: Tensor) -> None:
        out.addcmul_(self.d.unsqueeze(-1), w, value=-1)


@dataclass(frozen=True, eq=False)
class Matrix(Decay):
    """m·W for a full matrix m [G, C, C]."""

    m: Tensor

    def rounded(self, narrow: Narrow) -> Decay:
        return Matrix(narrow(self.m))

    def subtract(self, out: Tensor, w: Tensor) -> None:
        add_product(out, self.m, w.to(self.m.dtype), alpha=-1)


@dataclass(frozen=True, eq=False)
class LowerMatrix(Decay):
    """m·W for a lower triangular matrix m [G, C, C], its upper half skipped block by block."""

    m: Tensor

    def rounded(self, narrow: Narrow) -> Decay:
        return LowerMatrix(narrow(self.m))

    def subtract(self, out: Tensor, w: Tensor) -> None:
        w = w.to(self.m.dtype)
        for start, stop in _blocks(w.shape[1], 4 * BLOCK):
            add_product(out[:, start:stop], self.m[:, start:stop, :stop], w[:, :stop], alpha=-1)


@dataclass(frozen=True, eq=False)
class Gram(Decay):
    """(aᵀb)·W; a, b [N, G, C, L]."""

    a: Tensor
    b: Tensor

    def summed(self) -> Decay:
        return Matrix(wide(gram(self.a, self.b)))

    def rounded(self, narrow: Narrow) -> Decay:
        return Gram(narrow(self.a), narrow(self.b))

    def factored(self, fan_in: int, samples: int) -> bool:
        """Whether aᵀ(b W) costs less than (aᵀb) W over a batch of `samples` rows, and no more memory."""
        units = self.a.shape[2]
        return samples < units and 2 * samples * fan_in < units * (samples + fan_in)

    def subtract(self, out: Tensor, w: Tensor) -> None:
        if self.factored(w.shape[2], _samples(self.a)):
            add_product(out, rows(self.a).mT, torch.bmm(rows(self.b), w.to(self.b.dtype)), alpha=-1)
        else:
            Matrix(gram(self.a, self.b)).subtract(out, w)

    def correlate(self, out: Tensor, x: Tensor, w: Tensor, beta: float) -> None:
        """out ← beta·out + aᵀx − decay·w for the inputs x [G, M, K] of a dense layer."""
        b = rows(self.b)
        residual = torch.baddbmm(x.to(b.dtype), b, w.to(b.dtype), alpha=-1)
        add_product(out, rows(self.a).mT, residual, beta=beta)


@dataclass(frozen=True, eq=False)
class LowerGram(Decay):
    """lower(aᵀb)·W, diagonal included; a, b [N, G, C, L]."""

    a: Tensor
    b: Tensor

    def summed(self) -> Decay:
        return LowerMatrix(wide(lower_gram(self.a, self.b)))

    def rounded(self, narrow: Narrow) -> Decay:
        return LowerGram(narrow(self.a), narrow(self.b))

    def factored(self, fan_in: int, samples: int) -> bool:
        """Whether the causal form costs less than the dense one over a batch of `samples` rows, and no more memory."""
        units, block = self.a.shape[2], _block(samples, self.a.device)
        return samples < units and 4 * samples * fan_in + 2 * block * (samples + fan_in) < units * (samples + fan_in)

    def subtract(self, out: Tensor, w: Tensor) -> None:
        if self.factored(w.shape[2], _samples(self.a)):
            explained = w.new_zeros(w.shape[0], _samples(self.a), w.shape[2])
            self._causal(out, explained, w, beta=1.0)
        else:
            LowerMatrix(lower_gram(self.a, self.b)).subtract(out, w)

    def correlate(self, out: Tensor, x: Tensor, w: Tensor, beta: float) -> None:
        """out ← beta·out + aᵀx − decay·w for the inputs x [G, M, K] of a dense layer."""
        self._causal(out, x.to(w.dtype, copy=True), w, beta)

    def _causal(self, out: Tensor, residual: Tensor, w: Tensor, beta: float) -> None:
        # residual [G, M, K] is what the units before this block leave of the input; starting from 0 gives −decay·w.
        # Never narrow: it waits for memory, and converting w and out takes longer than narrower products save.
        columns_a = columns(wide(self.a))
        columns_b = columns_a if self.b is self.a else columns(wide(self.b))
        size = _block(residual.shape[1], residual.device)
        for a, b, out_g, rest, w_g in zip(columns_a, columns_b, out, residual, w):
            blocks = (t.split(size) for t in (a, b, out_g, w_g))
            for inside, a_k, b_k, out_k, w_k in zip(_diagonal(a, b, size), *blocks):
                torch.addmm(out_k, inside, w_k, beta=beta, alpha=-1, out=out_k)
                out_k.addmm_(a_k, rest)
                rest.addmm_(b_k.T, w_k, alpha=-1)


@dataclass(frozen=True, eq=False)
class Sum(Decay):
    """A sum of decays; sums of the same summed kind are one."""

    parts: tuple[Decay, ...]

    def rounded(self, narrow: Narrow) -> Decay:
        return Sum(tuple(part.rounded(narrow) for part in self.parts))

    def summed(self) -> Decay:
        kinds: dict[type[Decay], Decay] = {}
        for part in (part.summed() for part in self.parts):
            kinds[type(part)] = _merge(kinds[type(part)], part) if type(part) in kinds else part
        return Sum(tuple(kinds.values()))

    def subtract(self, out: Tensor, w: Tensor) -> None:
        for part in self.parts:
            part.subtract(out, w)


def _block(samples: int, device: torch.device) -> int:
    # Units per block: about as many as samples, so that the product inside a block does not cost more than the others.
    if device.type == "cuda":
        return CUDA_BLOCK
    return min(BLOCK, max(LEAST, 1 << (max(samples, 1) - 1).bit_length()))


def _diagonal(a: Tensor, b: Tensor, size: int) -> list[Tensor]:
    # The diagonal blocks lower(a_k b_kᵀ) of a, b [C, M], of so many units: all whole ones in one batched product.
    whole = len(a) // size * size
    split = (whole // size, size, a.shape[1])
    squares = list(torch.bmm(a[:whole].view(split), b[:whole].view(split).mT).tril_())
    return squares if whole == len(a) else [*squares, torch.mm(a[whole:], b[whole:].T).tril_()]


def _merge(left: Decay, right: Decay) -> Decay:
    if isinstance(left, Diagonal) and isinstance(right, Diagonal):
        return Diagonal(left.d + right.d)
    if isinstance(left, Matrix) and isinstance(right, Matrix):
        return Matrix(left.m + right.m)
    assert isinstance(left, LowerMatrix)
    assert isinstance(right, LowerMatrix)
    return LowerMatrix(left.m + right.m)


def _parts(decay: Decay) -> tuple[Decay, ...]:
    return decay.parts if isinstance(decay, Sum) else (decay,)


def _samples(t: Tensor) -> int:
    return t.shape[0] * t.shape[3]


def _blocks(units: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, units, size):
        yield start, min(start + size, units)
