"""Independent components by the natural gradient, and their hierarchical variant; the input is not used.

    ICA    ΔW_i = w_i − 1/M Σ_m f(s_mi) Σ_k s_mk w_k                 k over all units
    HICA   ΔW_i = w_i − 1/M Σ_m f(s_mi) Σ_{k ≤ i} s_mk w_k           k up to i, inclusive

s is the response, x·w unless told otherwise, and f is tanh unless told otherwise. A unit is at rest once f(s_i) is
uncorrelated with the other responses.

S. Amari, A. Cichocki, H. H. Yang. A new learning algorithm for blind signal separation. NIPS 8, 1995.
A. Hyvärinen, J. Karhunen, E. Oja. Independent Component Analysis. Wiley, 2001.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from reference.hebb import Rule

Function = Callable[[Tensor], Tensor]  # responses [M, C] -> [M, C]


def ica_of(f: Function) -> Rule:
    """Return the natural-gradient step of independent component analysis with the nonlinearity `f`.

    Shapes: w [C, K], s [M, C]; the result is shaped like w.
    """

    def rule(_patches: Tensor, w: Tensor, s: Tensor) -> Tensor:
        return torch.stack([w[i] - _mean_feedback(f(s), w, s, i, len(w)) for i in range(len(w))])

    return rule


def hica_of(f: Function) -> Rule:
    """Return the step in which a unit is decorrelated from itself and the units before it only.

    Shapes: w [C, K], s [M, C]; the result is shaped like w.
    """

    def rule(_patches: Tensor, w: Tensor, s: Tensor) -> Tensor:
        return torch.stack([w[i] - _mean_feedback(f(s), w, s, i, i + 1) for i in range(len(w))])

    return rule


ica = ica_of(torch.tanh)
hica = hica_of(torch.tanh)


def _mean_feedback(f: Tensor, w: Tensor, s: Tensor, i: int, stop: int) -> Tensor:
    """Return the mean over m of f_mi Σ_{k < stop} s_mk w_k."""
    total = torch.zeros_like(w[i])
    for f_m, s_m in zip(f, s):
        rebuilt = torch.zeros_like(w[i])
        for k in range(stop):
            rebuilt += s_m[k] * w[k]
        total += f_m[i] * rebuilt
    return total / len(s)
