"""Interleaved timing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

Step = Callable[[], None]


def interleaved(steps: Mapping[str, Step], *, rounds: int = 9, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of each step, `rounds` of them, every round running all steps in turn so that a slow spell hits all.

    `warmup` rounds come first and are not kept. With a GPU present the device is synchronised around each step.
    Raises ValueError for fewer than one round.
    """
    if rounds < 1 or warmup < 0:
        raise ValueError(f"rounds {rounds}, warmup {warmup}: give at least one round and no negative warm-up")
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for lap in range(warmup + rounds):
        for name, step in steps.items():
            elapsed = timed(step)
            if lap >= warmup:
                seconds[name].append(elapsed)
    return seconds


def timed(step: Step) -> float:
    """Seconds of one call."""
    synchronise()
    start = time.perf_counter()
    step()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    """Wait for what a GPU still does, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
