"""torch.distributed, as no-ops on one rank."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def all_reduce(t: Tensor) -> None:
    """Sum t over ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(t)
