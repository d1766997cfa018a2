"""torch.distributed, as no-ops on one rank."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fasthebb.console import launched

LONG = timedelta(days=7)  # what a rank waits for another one that prepares data or reads out


class LostRankError(ConnectionError):
    """A sum over ranks failed, since another rank is gone or silent."""


def world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def local_rank() -> int:
    """This process's number among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


@contextlib.contextmanager
def joined(timeout: float | None) -> Iterator[None]:
    """Be one of the ranks that torchrun started, while the block runs; nothing without torchrun.

    timeout: seconds after which a rank that waits for another gives up; None is a week.

    Raises:
        ConnectionError: the ranks do not find each other.
    """
    if launched()[1] == 1 or world_size() > 1:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # Modules that come with this one take the group of the moment for a default, and keep it and its threads for ever;
    # a thread of gloo that outlives the group ends the interpreter by SIGABRT now and then.
    importlib.import_module("torch._dynamo")
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    wait = LONG if timeout is None else timedelta(seconds=timeout)
    try:
        store, number, ranks = next(rendezvous("env://", timeout=wait))
        # torchrun keeps one store through its restarts, and old addresses in it
        store = PrefixStore(f"fasthebb-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group(backend, store=store, rank=number, world_size=ranks, timeout=wait)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConnectionError(
            f"rank {launched()[0]} of {launched()[1]} finds no others ({reason}): start them by torchrun"
        ) from None
    try:
        yield
    finally:
        dist.destroy_process_group()


def all_reduce(t: Tensor) -> None:
    """Sum t over ranks, in place.

    Raises:
        LostRankError: another rank is gone, or did not come in time.
    """
    if world_size() > 1:
        with telling():
            began = time.perf_counter()
            _reduce(t)
            TRAFFIC.add(t.nbytes, time.perf_counter() - began)


def _reduce(t: Tensor) -> None:
    try:
        dist.all_reduce(t)
    except RuntimeError as error:
        if t.device.type != "cpu" or "No backend type associated" not in str(error):
            raise
        moved = t.cuda()  # a group of NCCL alone knows no other device
        dist.all_reduce(moved)
        t.copy_(moved)


def summed(t: Tensor) -> Tensor:
    """The sum of t over ranks, through which gradients flow.

    Raises:
        LostRankError: as `all_reduce`.
    """
    total: Tensor = _Sum.apply(t)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, t: Tensor) -> Tensor:
        total = t.clone()
        all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(_, gradient)


class Traffic:
    """What sums over ranks cost this process: bytes and seconds, those of waiting for other ranks included.

    On accelerators, where sums run beside the program, the seconds are those of asking for them.
    """

    def __init__(self) -> None:
        self._bytes, self._seconds = 0, 0.0

    def add(self, size: int, seconds: float) -> None:
        """Note a sum of `size` bytes."""
        self._bytes, self._seconds = self._bytes + size, self._seconds + seconds

    def take(self, steps: int) -> dict[str, float]:
        """Megabytes and milliseconds a step, `reduce_mb` and `reduce_ms`, of so many steps since the last call."""
        found = {"reduce_mb": self._bytes / steps / 1e6, "reduce_ms": self._seconds / steps * 1e3}
        self._bytes, self._seconds = 0, 0.0
        return found


TRAFFIC = Traffic()


def gathered(t: Tensor) -> Tensor:
    """The rows of all ranks' tensors [m, ...], m their own, one rank's after the other: on every rank, [M, ...]."""
    if world_size() == 1:
        return t
    with telling():
        counts = torch.zeros(world_size(), dtype=torch.int64, device=t.device)
        counts[rank()] = len(t)
        dist.all_reduce(counts)
        padded = t.new_zeros(int(counts.max()), *t.shape[1:])
        padded[: len(t)] = t
        parts = [torch.empty_like(padded) for _ in range(world_size())]
        dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts)])


def shared(rows: Tensor) -> Tensor:
    """This rank's part of rows, the same on all ranks: `gathered` puts the parts together again.

    Raises:
        ValueError: there are fewer than ranks.
    """
    if len(rows) < world_size():
        raise ValueError(f"{len(rows)} images for {world_size()} ranks: start fewer ranks")
    return rows.tensor_split(world_size())[rank()]


def from_first(tensors: list[Tensor]) -> None:
    """Give every rank the values that these tensors have on rank 0, in place."""
    if world_size() > 1:
        with telling():
            for t in tensors:
                dist.broadcast(t, 0)


@contextlib.contextmanager
def first_of_machine() -> Iterator[None]:
    """Run the block on the first rank of every machine, then on its others: they find in a cache what it made.

    All leave it together, however long it takes.
    """
    if world_size() == 1:
        yield
        return
    with telling():
        waiting = dist.new_group(backend="gloo", timeout=LONG)
        if local_rank() > 0:
            dist.barrier(waiting)
    yield
    with telling():
        if local_rank() == 0:
            dist.barrier(waiting)
        dist.barrier(waiting)
    dist.destroy_process_group(waiting)


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """What torch raises in the block where another rank is gone becomes LostRankError."""
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or (not isinstance(error, dist.DistBackendError) and "gloo" not in str(error).lower()):
            raise
        reason = " ".join(str(error).split())[:160]
        raise LostRankError(
            f"rank {rank()} lost another rank, which died or hangs ({reason}): see what that one said; "
            "torchrun --max-restarts with --resume goes on by itself"
        ) from None
