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
        fixed = [(shape[:2], shape[:2], (), (ranks,)) for shape in shapes]  # decay, norm, count, broken
        stats = [[tuple(value.shape) for value in state.values()] for state in states]
        wanted = [*shapes, *(size for sizes in zip(fixed, stats) for group in sizes for size in group)]
        self.flat = torch.empty(sum(_padded(size) for size in wanted), device=device, dtype=dtype)
        self._numerators = sum(_padded(size) for size in shapes)
        views = iter(_views(self.flat, wanted))
        numerators = [next(views) for _ in shapes]
        self.sums = []
        for numerator, state in zip(numerators, states):
            decay, norm, count, broken = (next(views) for _ in range(4))
            self.sums.append(Sums(numerator, decay, norm, count, broken, {name: next(views) for name in state}))
        self.reset()

    def reset(self) -> None:
        """Begin a new step; numerators are only marked, the first addition overwrites them."""
        self.flat[self._numerators :].zero_()
        for sums in self.sums:
            sums.fresh, sums.decays = True, False

    def reduce(self, learns: Sequence[bool]) -> None:
        """Sum over ranks what layers that learn have, noting beforehand whether this rank's sums are finite."""
        if distributed.world_size() == 1:
            return
        learning = [sums for sums, some in zip(self.sums, learns) if some]
        for sums in learning:
            sums.settle()
            sums.broken[distributed.rank()] = torch.linalg.vector_norm(sums.numerator).isfinite().logical_not()
            sums.decays = True  # another rank may have a decay where this one had no sample
        if len(learning) == len(self.sums):
            distributed.all_reduce(self.flat)
            return
        for sums in learning:
            distributed.all_reduce(sums.numerator)
        distributed.all_reduce(self.flat[self._numerators :])


def _padded(size: Sequence[int]) -> int:
    return -(-math.prod(size) // ALIGN) * ALIGN


def _views(flat: Tensor, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    sections = torch.split(flat, [_padded(size) for size in sizes])
    return [section[: math.prod(size)].view(tuple(size)) for section, size in zip(sections, sizes)]
