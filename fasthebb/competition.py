"""Competition across units: responses [N, G, C, L] in, winners' shares [N, G, C, L] out.

Units compete within their group, at every location of every sample on its own. In hard and k-winner competition ties
all win; the shares of the soft ones sum to one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fasthebb.ops import reciprocal, units_last


def hard(s: Tensor) -> Tensor:
    """1 for the units of the largest response, 0 for the rest."""
    return (s >= s.amax(dim=-2, keepdim=True)).to(s.dtype)


def k_winners(s: Tensor, k: int) -> Tensor:
    """1 for every unit whose response is at least the k-th largest, 0 for the rest.

    Raises:
        ValueError: k is below 1 or above the number of units.
    """
    units = s.shape[-2]
    if not 1 <= k <= units:
        raise ValueError(f"k={k}: there are {units} units to choose winners from; take k from 1 to {units}")
    kth = s.topk(k, dim=-2, sorted=True).values.narrow(-2, k - 1, 1)
    return (s >= kth).to(s.dtype)


def softmax(s: Tensor, temperature: float) -> Tensor:
    """exp(s/temperature), normalised across units."""
    scaled = s / temperature
    if units_last(s):  # softmax wants its dimension last in memory: this way neither of the two is copied
        return torch.softmax(scaled.mT, dim=-1).mT
    return torch.softmax(scaled, dim=-2)


def power(s: Tensor, temperature: float) -> Tensor:
    """max(s, 0)^(1/temperature), normalised across units; all 0 where no response is positive."""
    positive = s.clamp_min(0)
    relative = positive * reciprocal(positive.amax(dim=-2, keepdim=True))  # the largest is 1: no underflow of all
    raised = relative.pow(1 / temperature)
    return raised * reciprocal(raised.sum(dim=-2, keepdim=True))
