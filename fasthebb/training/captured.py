"""A step as one CUDA graph: what a GPU was told once it does again and again, without waiting for the program.

A step of a small net is hundreds of short kernels, each told to the GPU by Python in more time than it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

PLAIN = 3  # steps before a capture, in which libraries choose what they use from then on


class _Graph(NamedTuple):
    graph: torch.cuda.CUDAGraph
    x: Tensor  # what a replay reads


class Captured:
    """A step on images on a GPU, captured after some plain ones and then replayed, for each shape of a batch.

    Args:
        step: takes images, and changes tensors in place alone; what else it does is done in plain steps and in the
            capture only.
        replayed: called after every replay, for what else there is to do.
    """

    def __init__(self, step: Callable[[Tensor], None], replayed: Callable[[], None]) -> None:
        self._step, self._replayed = step, replayed
        self._graphs: dict[Hashable, _Graph] = {}
        self._seen: dict[Hashable, int] = {}

    def __call__(self, x: Tensor, *, of: Hashable = None) -> None:
        """Do a step on x; steps of something else than before have another `of`."""
        key = (of, x.shape, x.dtype, x.stride())
        if key in self._graphs:
            graph, held = self._graphs[key]
            held.copy_(x)
            graph.replay()
            self._replayed()
            return
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] <= PLAIN:
            self._step(x)
            return
        held, graph = x.clone(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(held)
        self._graphs[key] = _Graph(graph, held)
        graph.replay()  # a capture does nothing yet
