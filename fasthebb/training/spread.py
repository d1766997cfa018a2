"""Backpropagation on several ranks: each has its share of a batch, and gradients are those of the whole batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fasthebb.distributed import all_reduce, rank, telling, world_size


class Spread:
    """A model under DistributedDataParallel; on one rank the model itself.

    Args:
        model: with the same weights on all ranks.
        loader: of this rank's images: its `part` of the batches of a `fasthebb.data.Loader`, whose shares may be
            uneven, or any other that gives all ranks equally many.
    """

    def __init__(self, model: nn.Module, loader: Any) -> None:
        self._model, self._loader = model, loader
        self._wrapped: nn.Module = model
        self._learning: tuple[bool, ...] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The model's scores."""
        if world_size() > 1:
            self._wrap()
        with telling():
            scores: Tensor = self._wrapped(x)
        return scores

    def _wrap(self) -> None:
        # Anew whenever other parameters learn: the wrapper reduces those that did when it was made.
        learning = tuple(parameter.requires_grad for parameter in self._model.parameters())
        if learning != self._learning:
            self._wrapped = self._model  # the old wrapper's hooks go first
            with telling():
                self._wrapped = DistributedDataParallel(self._model)
            self._learning = learning

    def broken(self, loss: Tensor) -> int | None:
        """A rank whose loss is not finite; None if there is none."""
        flags = torch.zeros(world_size(), device=loss.device)
        flags[rank()] = ~torch.isfinite(loss.detach())
        all_reduce(flags)
        return int(flags.argmax()) if flags.any() else None

    def backward(self, loss: Tensor, images: int, batch: int) -> None:
        """Gradients of the loss of the whole batch, of which `loss` is the mean over this rank's images.

        batch: its number in the epoch.
        """
        if world_size() > 1 and getattr(self._loader, "part", (0, 1))[1] == world_size():
            whole = self._loader.images_in(batch) * self._loader.views
            loss = loss * (images * world_size() / whole)
        with telling():
            loss.backward()  # type: ignore[no-untyped-call]
