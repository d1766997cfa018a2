"""What can be told of units from their responses and weights; pure functions on tensors."""

from __future__ import annotations

from collections.abc import Mapping

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


def broken_layer(state: Mapping[str, Tensor]) -> str | None:
    """Name of the first module in a model's state dict that holds NaN or infinity; None if all is finite."""
    broken = (name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all())
    return next((name.rpartition(".")[0] for name in broken), None)
