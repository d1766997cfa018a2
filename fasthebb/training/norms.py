"""Batch norms that take the statistics of given images, and nothing else of a model changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a model."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def settle(norms: Sequence[_BatchNorm], batches: Iterable[Tensor], forward: Callable[[Tensor], object]) -> None:
    """Give batch norms the mean over all batches [N, ...] of each batch's statistics; they are in eval mode after it.

    `forward` is called on every batch, unless there are no norms.
    """
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.train()
        for number, x in enumerate(batches if norms else (), start=1):
            for norm in norms:
                norm.momentum = 1 / number
            forward(x)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
            norm.eval()
