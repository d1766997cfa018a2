"""The processes of one study, started by torchrun: each takes a method and a seed that no other has, if there is one.

They share the study's folder and nothing else. What a process has taken it holds by a lock, which ends with it; what is
done is marked, so that a later run does not look at it again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from fasthebb.study.bench import Bench
from fasthebb.study.cells import METHODS, UNTRAINED, hebbian
from fasthebb.study.places import AbandonedError, held, place, taken
from fasthebb.study.tuning import tuned_budgets

PAUSE = 1.0  # seconds until one that found nothing to do looks again


def together(benches: Sequence[Bench]) -> None:
    """Do a share of what a study measures, and come back when all of it is done, by whichever process."""
    left = [bench for bench in benches if bench.budgets]
    while left:
        busy = [bench for bench in left if not _done(bench)]
        taken = next((bench for bench in busy if _ready(bench) and _take(bench)), None)
        left = [bench for bench in busy if bench is not taken]
        if taken is None and left:
            time.sleep(PAUSE)


def _take(bench: Bench) -> bool:
    # Whether it was free, and now is done.
    with held(place(bench)) as free:
        if free and not _done(bench):
            try:
                METHODS.get(bench.method.base, hebbian)(bench)
            except AbandonedError:
                return False
            _mark(bench).touch()
    return free


def _ready(bench: Bench) -> bool:
    # Other seeds than the first take the settings that it chooses: somebody has to be at it, or done with it.
    first = bench.options.seeds[0]
    follows = bench.seed != first and tuned_budgets(bench) and not _mark(bench, first).exists()
    if follows and not taken(place(bench, seed=first)):
        return False
    return not _waits(bench)


def _waits(bench: Bench) -> bool:
    # Whether another process is at the method that pre-trains this one's net, and has not pre-trained it yet.
    by = bench.method.pretrained_by
    if by == bench.method.name or bench.method.base in UNTRAINED or bench.pretrained(by):
        return False
    return taken(place(bench, name=by))


def _done(bench: Bench) -> bool:
    return _mark(bench).exists()


def _mark(bench: Bench, seed: int | None = None) -> Path:
    of = place(bench, seed=seed)
    return of.with_name(f"{of.name}.done")
