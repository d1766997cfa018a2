"""Passes over a loader: how long, from which batch on, and what a batch holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def batches_of(loader: Any) -> int:
    """How many batches an epoch of a loader has.

    Raises:
        ValueError: it does not say, or there are none.
    """
    try:
        count = len(loader)
    except TypeError:
        raise ValueError(
            f"The loader, of type {type(loader).__name__}, has no length, and epochs need to go through it "
            "again: give a DataLoader of a data set with a length, a fasthebb.data.Loader, or a list of batches"
        ) from None
    if not count:
        raise ValueError("The loader gives no batch; give it at least two images")
    return count


def images_and_labels(batch: Any) -> tuple[Tensor, Tensor]:
    """Images and labels of what a loader gives; images alone are unlabelled (-1)."""
    if not isinstance(batch, Tensor) and len(batch) > 1:
        return batch[0], batch[1]
    x = batch if isinstance(batch, Tensor) else batch[0]
    return x, torch.full((len(x),), -1)


def epoch_of(loader: Any, epoch: int, start: int) -> Iterator[Any]:
    """The batches of an epoch from one of them on.

    Raises:
        ValueError: the loader cannot start there.
    """
    if hasattr(loader, "batches"):
        yield from loader.batches(epoch, start)
        return
    if start:
        raise ValueError("This loader cannot start in the middle of an epoch; use fasthebb.data.Loader to resume")
    if hasattr(loader, "set_epoch"):
        loader.set_epoch(epoch)
    yield from loader
