"""When a step is plain, captured or replayed; a stand-in for CUDA graphs repeats what was called inside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from fasthebb.training import captured
from fasthebb.training.captured import PLAIN, Captured


class Graph:
    """What was captured, to be done again."""

    under_way: Graph | None = None

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def replay(self) -> None:
        for call in self.calls:
            call()


@contextlib.contextmanager
def capturing(graph: Graph) -> Iterator[None]:
    Graph.under_way = graph
    yield
    Graph.under_way = None


class Adder:
    """A step that adds up what it sees, later where it is captured, as a GPU does; counts the times it was called."""

    def __init__(self) -> None:
        self.total, self.called, self.replays = torch.zeros(()), 0, 0

    def step(self, x: Tensor) -> None:
        self.called += 1

        def work() -> None:
            self.total += x.sum()

        Graph.under_way.calls.append(work) if Graph.under_way else work()

    def replayed(self) -> None:
        self.replays += 1


@pytest.fixture
def adder(monkeypatch: pytest.MonkeyPatch) -> Adder:
    monkeypatch.setattr(captured.torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(captured.torch.cuda, "graph", capturing)
    return Adder()


def test_every_batch_counts_once(adder: Adder) -> None:
    step = Captured(adder.step, adder.replayed)
    for number in range(10):
        step(torch.full((2,), float(number)))
        assert float(adder.total) == number * (number + 1)
    assert adder.called == PLAIN + 1
    assert adder.replays == 10 - PLAIN - 1
    assert adder.called + adder.replays == 10  # what a step does besides is done as often


def test_every_shape_and_kind_has_a_graph(adder: Adder) -> None:
    step, seen = Captured(adder.step, adder.replayed), 0.0
    for number in range(6):
        for count, kind in ((2, 0), (3, 0), (2, 1)):
            step(torch.full((count,), float(number)), of=kind)
            seen += count * number
    assert float(adder.total) == seen
    assert adder.called == 3 * (PLAIN + 1)


def test_too_few_for_a_graph(adder: Adder) -> None:
    step = Captured(adder.step, adder.replayed)
    for _ in range(PLAIN):
        step(torch.ones(2))
    assert (adder.called, adder.replays) == (PLAIN, 0)
