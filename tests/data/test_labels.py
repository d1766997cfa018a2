"""Label budgets: nested, balanced, never unlabelled, and validation apart from them."""

from decimal import Decimal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fasthebb.data import few_labels, holdout, parse_budget

LABELS = st.lists(st.integers(-1, 4), min_size=1, max_size=60).filter(lambda labels: max(labels) >= 0)


@settings(max_examples=100, deadline=None)
@given(LABELS, st.booleans(), st.integers(0, 2**40), st.data())
def test_nested_and_labelled(labels: list[int], balanced: bool, seed: int, data: st.DataObject) -> None:
    known = [label for label in labels if label >= 0]
    least = len(set(known)) if balanced else 1
    large = data.draw(st.integers(least, len(known)))
    small = data.draw(st.integers(least, large))
    chosen = few_labels(labels, large, seed=seed, balanced=balanced)
    assert torch.equal(chosen[:small], few_labels(torch.tensor(labels), small, seed=seed, balanced=balanced))
    assert chosen.dtype == torch.int64
    assert len(set(chosen.tolist())) == large
    assert all(labels[i] >= 0 for i in chosen)


@settings(max_examples=100, deadline=None)
@given(LABELS, st.integers(0, 1000), st.data())
def test_balanced_while_classes_last(labels: list[int], seed: int, data: st.DataObject) -> None:
    sizes = {label: labels.count(label) for label in set(labels) - {-1}}
    budget = data.draw(st.integers(len(sizes), sum(sizes.values())))
    chosen = [labels[i] for i in few_labels(labels, budget, seed=seed)]
    most = max(chosen.count(label) for label in sizes)
    for label, size in sizes.items():
        assert chosen.count(label) >= min(size, most - 1)


@settings(max_examples=100, deadline=None)
@given(LABELS, st.floats(0, 0.99), st.integers(0, 1000), st.data())
def test_holdout_is_disjoint_and_bounded(labels: list[int], fraction: float, seed: int, data: st.DataObject) -> None:
    known = sum(label >= 0 for label in labels)
    budget = few_labels(labels, data.draw(st.integers(1, known)), seed=seed, balanced=False)
    held = holdout(labels, budget, fraction=fraction, seed=seed)
    assert not set(held.tolist()) & set(budget.tolist())
    assert len(held) == min(int(Decimal(repr(fraction)) * known), known - len(budget))  # as the fraction is written
    assert all(labels[i] >= 0 for i in held)
    assert torch.equal(held, held.unique())


def test_seeds_and_modes_differ() -> None:
    labels = torch.arange(1000) % 10
    draws = [
        few_labels(labels, 100, seed=seed, balanced=balanced).tolist() for seed in (0, 1) for balanced in (True, False)
    ]
    assert len({tuple(draw) for draw in draws}) == 4
    assert torch.bincount(labels[draws[0]]).tolist() == [10] * 10
    assert not torch.equal(
        holdout(labels, torch.arange(9), fraction=0.1, seed=0), holdout(labels, torch.arange(9), fraction=0.1, seed=1)
    )


def test_last_round_takes_classes_by_chance() -> None:
    labels = torch.arange(1000) % 10
    last = {int(labels[few_labels(labels, 11, seed=seed)[10]]) for seed in range(30)}
    assert len(last) > 5


@pytest.mark.parametrize(
    ("budget", "size", "count"),
    [(0.01, 50000, 500), (0.145, 100, 15), (0.15, 10, 2), (0.144, 100, 14), (1.0, 7, 7), (1, 7, 1), (0.5, 1, 1)],
)
def test_fractions_round_half_up(budget: float, size: int, count: int) -> None:
    assert len(few_labels(torch.zeros(size, dtype=torch.int64), budget, seed=0)) == count


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (0, "label budget 0: a count is at least 1"),
        (-3, "label budget -3: a count is at least 1"),
        (0.0, r"label budget 0.0: a fraction lies in \(0, 1\]"),
        (500.0, r"label budget 500.0: a fraction lies in \(0, 1\]; a count has no point"),
        (float("nan"), "label budget nan: a fraction"),
        (True, "label budget True is not a number"),
        (0.001, "label budget 0.001 of 90 images is less than one image"),
        (91, "label budget 91 is 91 images, but only 90 are labelled"),
        (8, "label budget 8 is 8 images for 9 classes: give at least 9"),
    ],
)
def test_bad_budgets(budget: float, message: str) -> None:
    labels = torch.arange(100) % 10 - 1
    with pytest.raises(ValueError, match=message):
        few_labels(labels, budget, seed=0)


def test_unbalanced_may_be_under_one_per_class() -> None:
    assert len(few_labels(torch.arange(100) % 10, 3, seed=0, balanced=False)) == 3


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_bad_holdout(fraction: float) -> None:
    with pytest.raises(ValueError, match="validation fraction"):
        holdout(torch.zeros(4), torch.tensor([0]), fraction=fraction, seed=0)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("0.1", 0.1),
        ("10%", 0.1),
        (" 0.7 % ", 0.007),
        ("100%", 1.0),
        ("500", 500),
        ("1", 1),
        ("1.0", 1.0),
        (7, 7),
        (0.2, 0.2),
    ],
)
def test_parse_budget(text: str | float, budget: float) -> None:
    parsed = parse_budget(text)
    assert parsed == budget
    assert type(parsed) is type(budget)


@pytest.mark.parametrize(
    "text", ["", "many", "0", "-5", "0.0", "1.5", "150%", "0%", "nan", "5 %%", "inf", 0, 2.0, True]
)
def test_parse_budget_refuses(text: str | float) -> None:
    with pytest.raises(ValueError, match=r"label budget .*") as caught:
        parse_budget(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)
