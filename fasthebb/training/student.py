"""A student learns what a teacher makes of images without labels: its scores, as shares of the classes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fasthebb.data import Loader
from fasthebb.training.finetune import finetune
from fasthebb.training.loop import History, Watcher


def soft_targets(scores: Tensor, temperature: float, labels: Tensor | None = None) -> Tensor:
    """softmax(scores / temperature), float32 [M, classes]; of an image whose label is known, that class alone.

    Source: Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015 (arXiv 1503.02531).

    Args:
        scores: of a teacher, [M, classes]; those of a ridge probe lie about −1 for a class that it is not, 1 for the
            class that it is, and ask for a temperature well below 1.
        temperature: above 0; the lower, the harder.
        labels: int64 [M], −1 for unknown ones.

    Raises:
        ValueError: the temperature is not above 0, scores are not finite, or labels do not fit them.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: give a number above 0")
    if not scores.isfinite().all():
        raise ValueError("scores hold NaN or infinity: the net that gave them has diverged")
    targets = (scores.double() / temperature).softmax(1).float()
    if labels is None:
        return targets
    classes = scores.shape[1]
    if labels.shape != scores.shape[:1] or int(labels.max()) >= classes:
        raise ValueError(
            f"labels are {list(labels.shape)} up to {int(labels.max())}, scores {list(scores.shape)}: "
            "give [M] below the number of classes"
        )
    labels = labels.to(scores.device)
    return torch.where((labels >= 0)[:, None], F.one_hot(labels.clamp(min=0), classes).float(), targets)


def teach(
    student: nn.Module,
    loader: Loader,
    targets: Tensor,
    *,
    steps: int,
    lr: float,
    weight_decay: float = 0.0,
    head: str | None = None,
    momentum: float = 0.9,
    watcher: Watcher | None = None,
) -> History:
    """Train a classifier on soft targets, by the cross-entropy of its scores with them, as `finetune` does.

    Args:
        student: on the device to train on.
        loader: gives the images; its labels are never read.
        targets: shares of the classes, [M, classes]: a row for each image of the loader's set, by its number there, as
            of `soft_targets`.
        steps: how many.
        lr: learning rate of SGD with Nesterov momentum, halved ten times in the second half.
        head: name of the classifying layer; the last Linear by default.

    Returns:
        The records of `finetune`; accuracy is how often the student agrees with the teacher, in percent.

    Raises:
        ValueError: an image has no row, or the loader gives more than one view of an image in a batch.
        FloatingPointError: the loss is not finite.
    """
    taught = _Taught(loader, targets)
    epochs = -(-steps // len(loader))
    return finetune(
        student, taught, epochs=epochs, max_steps=steps, lr=lr, weight_decay=weight_decay, head=head,
        momentum=momentum, watcher=watcher,
    )  # fmt: skip


class _Taught:
    # The batches of a loader, with rows of targets in place of labels.

    def __init__(self, loader: Loader, targets: Tensor) -> None:
        largest = int(loader.indices.max())
        if targets.ndim != 2 or largest >= len(targets):
            raise ValueError(f"targets are {list(targets.shape)}: give a row for each image, up to number {largest}")
        if loader.views > 1:
            raise ValueError(f"views={loader.views}: a student sees an image once in a batch; give a loader of one")
        if loader.part[1] > 1:
            raise ValueError(f"part={loader.part}: a student learns in one process; give a loader of whole batches")
        self._loader, self._targets = loader, targets

    def __len__(self) -> int:
        return len(self._loader)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order, done = self._loader.order(epoch), start * self._loader.batch_size
        for x, _ in self._loader.batches(epoch, start):
            numbers = order[done : done + len(x)]
            yield x, self._targets[numbers.to(self._targets.device)]
            done += len(x)
