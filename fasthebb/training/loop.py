"""The loop that every training stage runs, and who may watch it.

A stage is `phases` × `epochs` passes over a loader, cut at `max_steps` a phase. Where it stands is one number, the
step: the order of images follows from seed and epoch, so a stage resumes in the middle of an epoch, exactly.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fasthebb.console import launched
from fasthebb.distributed import all_reduce, local_rank, rank, world_size
from fasthebb.training.passes import epoch_of, images_and_labels
from fasthebb.training.precision import AnyModule, Precision, calculate_in

History = list[dict[str, float]]
Step = Callable[[int, Tensor, Tensor], Mapping[str, "float | Tensor"]]  # of a number, images and labels


class Stateful(Protocol):
    """What a checkpoint can hold: a module, an optimizer, a Hebbian handle."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any) -> Any: ...


@dataclass
class Progress:
    """How far a stage is: steps done, seconds spent, finished epochs' records, sums of the one under way."""

    step: int = 0
    seconds: float = 0.0
    history: History = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)


class Watcher:
    """Sees a stage go by; this one does nothing, a run folder's writes checkpoints and metrics."""

    def restore(self, parts: Mapping[str, Stateful]) -> Progress:  # noqa: ARG002
        """Put `parts` where an earlier run left them, and say how far that was."""
        return Progress()

    def stepped(self, parts: Mapping[str, Stateful], progress: Progress) -> None:
        """Called after every step; may save, and may raise to end the stage."""

    def finished(self, parts: Mapping[str, Stateful], progress: Progress) -> None:
        """Called at the end of the stage."""

    def epoch(self, record: dict[str, float]) -> None:
        """Called with the record of every finished epoch."""

    def steps(self, steps: range, description: str) -> Iterable[int]:  # noqa: ARG002
        """The same steps, shown to whoever looks on."""
        return steps


@dataclass(frozen=True)
class Plan:
    """Which step is which batch: `phases` times `epochs` passes of `batches`, at most `max_steps` a phase."""

    batches: int
    epochs: int
    max_steps: int | None = None
    phases: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs={self.epochs}: train for at least one epoch")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps}: take at least one step")

    @property
    def per_phase(self) -> int:
        """Steps of one phase."""
        full = self.epochs * self.batches
        return full if self.max_steps is None else min(full, self.max_steps)

    @property
    def total(self) -> int:
        """Steps of all phases."""
        return self.phases * self.per_phase

    def place(self, step: int) -> tuple[int, int, int]:
        """Phase, epoch within it, and batch within that, of a step counted from 0."""
        phase, inside = divmod(step, self.per_phase)
        return phase, inside // self.batches, inside % self.batches

    def ends_epoch(self, step: int) -> bool:
        """Whether the step is the last of its epoch or phase."""
        inside = step % self.per_phase + 1
        return inside % self.batches == 0 or inside == self.per_phase


def train(
    loader: Any,
    plan: Plan,
    step: Step,
    *,
    parts: Mapping[str, Stateful],
    after_epoch: Callable[[int], Mapping[str, float]] | None = None,
    over: Callable[[Progress], bool] | None = None,
    watcher: Watcher | None = None,
    description: str = "train",
) -> Progress:
    """Run a stage: `step(number, x, labels)` on every batch, means of what it returns in an epoch's record.

    Args:
        loader: gives (x, labels), or x alone; with `batches(epoch, start)` it can resume inside an epoch.
        parts: what a checkpoint holds, by name.
        after_epoch: more entries for the record of the epoch that ended with a given step.
        over: asked before the first step and after every one, whether the stage ends early.
    """
    watcher = watcher or Watcher()
    draws = _Draws()
    progress = watcher.restore(parts)
    batches = _batches(loader, plan, progress.step)
    ended = over is not None and over(progress)
    with draws:
        for number in watcher.steps(range(progress.step, progress.step if ended else plan.total), description):
            x, labels = images_and_labels(next(batches))
            draws(number)
            began = time.perf_counter()
            for name, value in _taken(step, number, x, labels).items():
                progress.sums[name] = progress.sums.get(name, 0.0) + (float(value) * len(x) if len(x) else 0.0)
            progress.sums["images"] = progress.sums.get("images", 0.0) + len(x)
            if plan.ends_epoch(number) and torch.cuda.is_available():
                torch.cuda.synchronize()  # or the clock would not see what is still under way
            progress.seconds += time.perf_counter() - began
            progress.step = number + 1
            ended = over is not None and over(progress)
            if ended or plan.ends_epoch(number):
                progress.history.append(_record(plan, number, progress, after_epoch))
                progress.sums = {}
                watcher.epoch(progress.history[-1])
            watcher.stepped(parts, progress)
            if ended:
                break
    watcher.finished(parts, progress)
    return progress


def _taken(step: Step, number: int, x: Tensor, labels: Tensor) -> Mapping[str, float | Tensor]:
    try:
        return step(number, x, labels)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"A batch of {len(x)} image, and batch norms need two of them: give another --batch-size, or more images"
        ) from None


class _Draws(contextlib.ExitStack):
    # Of ranks, which share one seed for the same initial weights: in each step a rank draws numbers of its own, that
    # this seed, the step and the rank decide. After the stage their states are the same again.

    def __init__(self) -> None:
        super().__init__()
        self._seed = int(torch.randint(2**62, ())) if world_size() > 1 else None
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        self.enter_context(torch.random.fork_rng(devices, enabled=world_size() > 1))

    def __call__(self, number: int) -> None:
        if self._seed is not None:
            torch.manual_seed(int(np.random.SeedSequence((self._seed, number, rank())).generate_state(1)[0]))


def _of_all_ranks(sums: Mapping[str, float]) -> dict[str, float]:
    total = torch.tensor(list(sums.values()), dtype=torch.float64)
    all_reduce(total)
    return dict(zip(sums, total.tolist()))


def _record(
    plan: Plan, number: int, progress: Progress, after_epoch: Callable[[int], Mapping[str, float]] | None
) -> dict[str, float]:
    phase, epoch, _ = plan.place(number)
    sums = _of_all_ranks(progress.sums)
    images = sums.pop("images")
    means = {name: value / images for name, value in sums.items()}
    where = {"epoch": phase * plan.epochs + epoch + 1, "step": number + 1, "seconds": progress.seconds}
    return {**where, **means, **(after_epoch(number) if after_epoch else {})}


def _batches(loader: Any, plan: Plan, start: int) -> Iterator[Any]:
    step = start
    while step < plan.total:
        phase, epoch, batch = plan.place(step)
        for item in epoch_of(loader, phase * plan.epochs + epoch, batch):
            yield item
            step += 1
            if plan.ends_epoch(step - 1):
                break
        else:
            raise ValueError(f"The loader gave fewer batches than its length {plan.batches} in epoch {epoch}")


def device_of(name: str, *, shared: bool = False) -> torch.device:
    """The device called `name`; "auto" is a GPU where there is one. A GPU without number is the rank's own.

    shared: of processes that share no step, as those of a study: where there are more of them than GPUs, several take
    one.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if launched()[1] > 1 and name.startswith("cuda:"):
        raise ValueError(f"device {name!r}: each rank takes the GPU of its number on its machine; say cuda")
    try:
        device = torch.device(name)
        if name == "cuda" and launched()[1] > 1:
            device = torch.device("cuda", local_rank() % torch.cuda.device_count() if shared else local_rank())
            torch.cuda.set_device(device)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("it holds no data")
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).partition(" type at start")[0].splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here ({reason}); try cpu or auto") from None
    return device


def place(model: AnyModule, device: torch.device, precision: Precision = "fp32") -> AnyModule:
    """The model on a device, its convolutions channels-last: faster there and on CPUs, and the same numbers."""
    model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return calculate_in(model, precision)
