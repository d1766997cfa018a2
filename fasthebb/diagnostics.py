"""What can be told of units from their responses and weights; pure functions on tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def win_share(y: Tensor) -> Tensor:
    """The share of samples and locations at which each unit responds most in its group, [G·C], for y [N, G, C, L].

    The shares of a group sum to one; of equal responses the first unit's counts.
    """
    n, groups, units, locations = y.shape
    winners = y.argmax(dim=2)  # [N, G, L]
    number = winners + units * torch.arange(groups, device=y.device)[:, None]
    wins = torch.bincount(number.flatten(), minlength=groups * units)
    return wins.to(torch.get_default_dtype()) / max(1, n * locations)
