"""The flat buffer: every layer's sums in one tensor per device, so that ranks add up in one all-reduce a step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fasthebb import distributed
from fasthebb.update import Sums

ALIGN = 16  # elements: sections start on cache lines


class Buffer:
    """Sums of several layers, views of one flat tensor: all numerators, then everything small.

    Args:
        shapes: (G, C, K) of every layer.
        states: the state of every layer's rule; its stats have these names and shapes.
        device, dtype: where the weights are, and what they are summed in.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        states: Sequence[Mapping[str, Tensor]],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        ranks = distributed.world_size()
        small = [
            (shape[:2], shape[:2], (1,), *(tuple(s.shape) for s in state.values()))
            for shape, state in zip(shapes, states)
        ]
        wanted = [*shapes, *(size for sizes in small for size in sizes), (ranks, len(shapes))]
        self.flat = torch.empty(sum(_padded(size) for size in wanted), device=device, dtype=dtype)
        self._numerators = sum(_padded(size) for size in shapes)
        views = iter(_views(self.flat, wanted))
        numerators = [next(views) for _ in shapes]
        self.sums = []
        for numerator, state in zip(numerators, states):
            decay, norm, count = next(views), next(views), next(views)
            self.sums.append(Sums(numerator, decay, norm, count, {name: next(views) for name in state}))
        self.broken = next(views)  # [ranks, layers]: not 0 where a rank's sums of a layer are not finite
        self.reset()

    def reset(self) -> None:
        """Begin a new step; numerators are only marked, the first addition overwrites them."""
        self.flat[self._numerators :].zero_()
        for sums in self.sums:
            sums.fresh, sums.decays = True, False

    def reduce(self) -> None:
        """Sum over ranks, noting beforehand which rank's sums of which layer are not finite."""
        for sums in self.sums:
            sums.settle()
        if distributed.world_size() > 1:
            norms = torch.stack([torch.linalg.vector_norm(sums.numerator) for sums in self.sums])
            self.broken[distributed.rank()] = norms.isfinite().logical_not()
            for sums in self.sums:
                sums.decays = True  # another rank may have a decay where this one had no sample
            distributed.all_reduce(self.flat)


def _padded(size: Sequence[int]) -> int:
    return -(-math.prod(size) // ALIGN) * ALIGN


def _views(flat: Tensor, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    sections = torch.split(flat, [_padded(size) for size in sizes])
    return [section[: math.prod(size)].view(*size) for section, size in zip(sections, sizes)]
