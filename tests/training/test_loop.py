"""The loop: which step is which batch, and what an epoch's record says."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fasthebb.training.loop import Plan, Progress, Watcher, device_of, train

SMALL = st.integers(1, 6)


def walk(batches: int, epochs: int, max_steps: int | None, phases: int) -> list[tuple[int, int, int]]:
    """Phase, epoch and batch of every step, counted out."""
    places = []
    for phase in range(phases):
        of_phase = [(phase, epoch, batch) for epoch in range(epochs) for batch in range(batches)]
        places += of_phase[:max_steps]
    return places


@given(SMALL, SMALL, st.none() | st.integers(1, 40), SMALL)
def test_plan_places_steps_as_counted_out(batches: int, epochs: int, max_steps: int | None, phases: int) -> None:
    plan, places = Plan(batches, epochs, max_steps, phases), walk(batches, epochs, max_steps, phases)
    assert plan.total == len(places)
    assert [plan.place(step) for step in range(plan.total)] == places
    ends = [a[:2] != b[:2] for a, b in pairwise(places)] + [True]
    assert [plan.ends_epoch(step) for step in range(plan.total)] == ends


@pytest.mark.parametrize(("plan", "said"), [((1, 0), "epochs=0"), ((1, 1, 0), "max_steps=0"), ((1, -1), "epochs=-1")])
def test_plan_refuses(plan: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Plan(*plan)


class Batches:
    """Batches of one, two and three images, of their number; notes the epochs that it is asked for."""

    def __init__(self, sizes: tuple[int, ...] = (1, 2, 3)) -> None:
        self.sizes = sizes
        self.epochs: list[int] = []

    def __len__(self) -> int:
        return 3

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __iter__(self) -> object:
        return ((torch.full((size, 1), float(size)), torch.zeros(size)) for size in self.sizes)


def value(number: int, x: Tensor, labels: Tensor) -> dict[str, float | Tensor]:
    return {"value": x.mean(), "number": float(number)}


def test_records_are_means_over_images() -> None:
    loader = Batches()
    history = train(loader, Plan(3, 2, phases=2), value, parts={}, after_epoch=lambda n: {"after": n}).history
    assert loader.epochs == [0, 1, 2, 3]
    assert [(r["epoch"], r["step"], r["after"]) for r in history] == [(1, 3, 2), (2, 6, 5), (3, 9, 8), (4, 12, 11)]
    assert [r["value"] for r in history] == pytest.approx([14 / 6] * 4)
    assert history[1]["number"] == pytest.approx((3 * 1 + 4 * 2 + 5 * 3) / 6)
    assert 0 < history[0]["seconds"] < history[-1]["seconds"]


def test_a_cut_epoch_has_a_record_of_its_steps() -> None:
    history = train(Batches(), Plan(3, 5, max_steps=4), value, parts={}).history
    assert [(r["epoch"], r["step"], r["value"]) for r in history] == [(1, 3, pytest.approx(14 / 6)), (2, 4, 1.0)]


def test_a_stage_that_is_over_has_a_record_of_its_steps() -> None:
    asked: list[int] = []

    def over(progress: Progress) -> bool:
        asked.append(progress.step)
        return progress.step == 5

    progress = train(Batches(), Plan(3, 9), value, parts={}, over=over)
    assert asked == [0, 1, 2, 3, 4, 5]
    assert [(r["epoch"], r["step"], r["value"]) for r in progress.history] == [
        (1, 3, pytest.approx(14 / 6)), (2, 5, pytest.approx(5 / 3)),
    ]  # fmt: skip

    class Over(Watcher):
        def restore(self, parts: object) -> Progress:
            return progress

    again = train(Batches(), Plan(3, 9), value, parts={}, over=over, watcher=Over())
    assert (again.step, len(again.history)) == (5, 2)


def test_a_short_loader_is_an_error() -> None:
    with pytest.raises(ValueError, match="fewer batches than its length 3 in epoch 0"):
        train(Batches((1, 2)), Plan(3, 1), value, parts={})


def test_a_plain_loader_cannot_start_inside_an_epoch() -> None:
    class Before(Watcher):
        def restore(self, parts: object) -> Progress:
            return Progress(step=1)

    with pytest.raises(ValueError, match="middle of an epoch"):
        train(Batches(), Plan(3, 1), value, parts={}, watcher=Before())


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "meta", "hpu"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(ValueError, match=f"device '{name}' cannot be used here"):
        device_of(name)


def test_devices() -> None:
    assert device_of("cpu").type == "cpu"
    assert device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
