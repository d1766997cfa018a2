"""Who watches a training stage of a run folder: metrics, checkpoints, and a stop between two steps.

Of several ranks the first one writes. All read its checkpoint; the others go on a little when a signal comes, so that
they do not leave it in the middle of a sum.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fasthebb.distributed import all_reduce, rank, world_size
from fasthebb.files import append_line, atomic_write
from fasthebb.training import checkpoint
from fasthebb.training.curves import Curves
from fasthebb.training.loop import Progress, Stateful, Watcher
from fasthebb.training.stop import Interrupted

if TYPE_CHECKING:
    from fasthebb.training.run import RunFolder


LAST_STEPS = 10  # that a rank takes after a signal, if the first one has not stopped before


class RunWatcher(Watcher):
    """Writes the metrics and checkpoints of one training stage into a folder.

    Args:
        run: the run folder that the stage is part of.
        about: plain values that say what the checkpoint is of.
        every: steps between checkpoints.
        path: the stage's folder; checkpoints/last.pt in it is where an earlier run left the stage.
        curves: writes TensorBoard's files, if they are wanted.
    """

    def __init__(
        self, run: RunFolder, about: Mapping[str, Any], every: int, path: Path, curves: Curves | None = None
    ) -> None:
        self._run, self._about, self._every, self._path, self._curves = run, about, every, path, curves
        self._last = path / "checkpoints" / "last.pt"
        self._saved = -1
        self._first = rank() == 0
        self._steps_left = LAST_STEPS

    def restore(self, parts: Mapping[str, Stateful]) -> Progress:
        progress = self._restore(parts)
        self._run.stop.deferred = True
        return progress

    def _restore(self, parts: Mapping[str, Stateful]) -> Progress:
        if not self._first:
            _together(0)  # when the first rank has a checkpoint
            there = self._last.exists()
            progress = checkpoint.restore(checkpoint.load(self._last), parts) if there else Progress(step=-1)
            _together(progress.step)
            return replace(progress, sums=dict.fromkeys(progress.sums, 0.0))  # the first rank has what there was
        self._last.parent.mkdir(parents=True, exist_ok=True)
        if self._last.exists():
            progress = checkpoint.restore(checkpoint.load(self._last), parts)
            self._saved = progress.step
        else:
            progress = Progress()
            self._save(parts, progress)
        _together(0)
        _together(progress.step)
        lines = [json.dumps(record) + "\n" for record in progress.history]
        atomic_write(self._path / "metrics.jsonl", "".join(lines))
        if self._curves is not None:
            self._curves.restore(progress.history)
        return progress

    def stepped(self, parts: Mapping[str, Stateful], progress: Progress) -> None:
        self._run.begun = True
        requested = self._run.stop.requested
        if requested or progress.step % self._every == 0:
            self._save(parts, progress)
        if requested and (self._first or not self._steps_left):
            raise Interrupted
        self._steps_left -= requested

    def finished(self, parts: Mapping[str, Stateful], progress: Progress) -> None:
        self._save(parts, progress)
        if self._curves is not None:
            self._curves.close()
        self._run.stop.deferred = False

    def epoch(self, record: dict[str, float]) -> None:
        if self._first:
            append_line(self._path / "metrics.jsonl", json.dumps(record))
        if self._curves is not None:
            self._curves.add(record)

    def steps(self, steps: range, description: str) -> Iterable[int]:
        return self._run.console.progress(steps, description)

    def _save(self, parts: Mapping[str, Stateful], progress: Progress) -> None:
        if self._first and self._saved != progress.step:
            if world_size() > 1:  # sums of this rank's images alone say nothing: those after it make the record
                progress = replace(progress, sums={})
            checkpoint.save(self._last, parts, progress, self._about)
            self._saved = progress.step


def _together(step: int) -> None:
    # All ranks are here, at the same step.
    steps = torch.zeros(world_size(), dtype=torch.int64)
    steps[rank()] = step
    all_reduce(steps)
    if (steps != step).any():
        raise ValueError(
            f"Ranks begin at steps {', '.join(map(str, steps.tolist()))}: put the run folder where all of them see it"
        )
