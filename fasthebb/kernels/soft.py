"""SoftWTA's shares, their powers and sums per unit, in Triton: the equation is in `fasthebb.kernels`."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def shares(  # type: ignore[no-untyped-def]
    y, unit, patch, post, sums, rows, units, norms, inverse, least,
    squared: tl.constexpr, turns: tl.constexpr, tile: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    """Each program goes through some tiles of rows, and leaves its sums in a row of its own.

    No atomics, so that the same batch gives the same bits.

    Args:
        y, post: [rows, units]. unit: [units]. patch: [rows]. sums: [2, programs, units]. norms: where the second of
            these begins. inverse: of the temperature. least: up to which a share is 0.
        turns: tiles of a program. tile: rows of one. width: units, rounded up to a power of 2.
    """
    column = tl.arange(0, width)
    known = column < units
    u = tl.load(unit + column, known, 0.0)
    norm = tl.zeros((width,), tl.float32)
    decay = tl.zeros((width,), tl.float32)
    for turn in range(turns):
        row = (tl.program_id(0) * turns + turn) * tile + tl.arange(0, tile)
        inside = (row < rows)[:, None] & known[None, :]
        at = row[:, None].to(tl.int64) * units + column[None, :]
        cosine = tl.load(y + at, inside, 0.0) * tl.load(patch + row, row < rows, 0.0)[:, None] * u[None, :]
        half = 0.5 * cosine + 0.5
        s = tl.where(known[None, :], half * half * inverse, float("-inf"))
        e = tl.exp(s - tl.max(s, 1)[:, None])
        r = e / tl.sum(e, 1)[:, None]
        r = tl.where(inside & (r > least), r, 0.0)
        p = r * r if squared else r
        tl.store(post + at, p, inside)
        norm += tl.sum(r, 0)
        decay += tl.sum(p, 0)
    mine = sums + tl.program_id(0) * units + column
    tl.store(mine, norm, known)
    tl.store(mine + norms, decay, known)
