"""Our own GPU kernels, where they beat what torch.compile makes of the same lines: docs/performance.md has the times.

`soft_shares` is SoftWTA's competition in one pass over the responses of a layer. In torch it is

    r = softmax(((y·u·v + 1)/2)² / temperature), units last;   r or r², Σ r, Σ r or Σ r²

with u one over the units' norms and v one over the patches': eight passes over memory, and three once compiled. Here
a row of all units stays in registers, so y is read once and the shares are written once. In Triton, which comes with
torch for CUDA; without it, on other devices and for other formats the torch lines are used.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from fasthebb.decay import Diagonal
from fasthebb.ops import least, reciprocal, units_last
from fasthebb.response import Patches, RaisedCosine
from fasthebb.rules.base import Rule, Terms
from fasthebb.rules.instar import SoftWTA
from fasthebb.update import said

MOST = 4096  # units: a row of them is in registers
TILE = 4096  # responses that a program works on at a time
PROGRAMS = 4096  # about as many at most; each leaves a row of sums


def quick(
    rule: Rule, y: Tensor, w: Tensor, patches: Patches, state: Mapping[str, Tensor], signal: Tensor | None
) -> Terms:
    """As `fasthebb.update.said`, by a kernel of our own where there is one for the rule, the device and the format."""
    if not (y.is_cuda and _fits(rule, y) and available()):
        return said(rule, y, w, patches, state, signal)
    assert isinstance(rule, SoftWTA)
    unit = reciprocal(torch.linalg.vector_norm(w[0], dim=-1))
    squared = rule.average == "weighted"
    post, norm, decay = soft_shares(y, unit, reciprocal(patches.norm()), rule.temperature, squared=squared)
    return Terms(post, Diagonal(decay), norm)


def soft_shares(
    y: Tensor, unit: Tensor, patch: Tensor, temperature: float, *, squared: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """r or, squared, r² [N, 1, C, L], Σ r [1, C] and the sum of the first [1, C]; r as in the module's docstring.

    Args:
        y: float32 [N, 1, C, L], units next to each other in memory, at most 4096.
        unit: one over the units' norms, [C].
        patch: one over the patches' norms, [N, 1, 1, L].
    """
    rows, units = y.shape[0] * y.shape[3], y.shape[2]
    width = 1 << (units - 1).bit_length()
    tile = max(1, TILE // width)
    turns = 1 << max(0, -(-rows // (tile * PROGRAMS)) - 1).bit_length()  # of each program; powers of 2: few kernels
    programs = max(1, -(-rows // (tile * turns)))
    post, sums = torch.empty_like(y), y.new_empty(2, programs, units)
    kernel = importlib.import_module("fasthebb.kernels.soft").shares  # which needs Triton
    kernel[(programs,)](
        y, unit.contiguous(), patch.contiguous(), post, sums, rows, units, programs * units, 1 / temperature,
        least(y.dtype, squared=squared), squared, turns, tile, width, num_warps=4 if width <= 1024 else 8,
    )  # fmt: skip
    norm, decay = sums.sum(1).unsqueeze(1)
    return post, norm, decay


@cache
def available() -> bool:
    """Whether Triton is here and its kernel runs: it needs a C compiler, and a GPU that is not too old."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        y, unit, patch = (torch.zeros(size, device="cuda") for size in ((1, 1, 1, 2), (2,), (1, 1, 1, 1)))
        soft_shares(y.mT, unit, patch, 1.0, squared=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        warnings.warn(f"SoftWTA takes PyTorch's operators, since Triton fails here ({reason})", stacklevel=2)
        return False
    return True


def _fits(rule: Rule, y: Tensor) -> bool:
    return (
        type(rule) is SoftWTA
        and rule.competition == "exp"
        and isinstance(rule.response, RaisedCosine)
        and rule.response.power == 2
        and y.dtype == torch.float32
        and y.shape[1] == 1
        and 1 < y.shape[2] <= MOST
        and units_last(y)
        and y.mT.is_contiguous()
    )
