"""Label budgets: which images a run may know the label of.

A budget is a prefix of one seeded order over the labelled images, so a larger budget contains every smaller one. The
balanced order takes the j-th image of every class before the j+1-th of any.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal, InvalidOperation

import torch
from torch import Tensor


def parse_budget(text: str | int | float) -> int | float:
    """Read a label budget: "0.1" and "10%" are fractions, "500" is a count; numbers pass if they are budgets.

    Raises ValueError for what is neither a count of at least 1 nor a fraction in (0, 1].
    """
    if isinstance(text, (int, float)):
        value: int | float = text
    else:
        stripped = text.strip()
        try:
            value = int(stripped)
        except ValueError:
            value = _parse_fraction(stripped, text)
    _check_budget(value, text)
    return value


def few_labels(labels: Tensor | Sequence[int], budget: int | float, *, seed: int, balanced: bool = True) -> Tensor:
    """Choose the images whose labels may be used; what a caller reads of `labels` is `labels[indices]`, nothing else.

    labels: int [M], -1 is unlabelled and never chosen. budget: an int is a count, a float in (0, 1] a fraction
    of the labelled images, rounded half up. Balanced: counts per class differ by at most one while classes last, then
    the others fill in; otherwise a plain shuffle. Returns int64 [budget] in the order of choice: for the same seed and
    mode a smaller budget is a prefix of a larger one.

    Raises ValueError for a budget that is not positive, larger than the labelled data, or, balanced, under one per
    class.
    """
    labels = torch.as_tensor(labels, dtype=torch.int64).cpu()
    known = torch.nonzero(labels >= 0).flatten()
    count = _count(budget, len(known))
    if count > len(known):
        raise ValueError(f"label budget {budget} is {count} images, but only {len(known)} are labelled: choose fewer")
    order = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))]
    if not balanced:
        return order[:count]
    chosen = labels[order]
    classes = int(torch.count_nonzero(torch.bincount(chosen)))
    if count < classes:
        raise ValueError(
            f"label budget {budget} is {count} images for {classes} classes: give at least {classes}, or do not balance"
        )
    return order[torch.argsort(_rank_in_class(chosen), stable=True)][:count]


def holdout(labels: Tensor | Sequence[int], budget_indices: Tensor, *, fraction: float, seed: int) -> Tensor:
    """Draw validation images from the labelled ones that a budget, the largest of a run, leaves.

    labels: int [M]; budget_indices: int [B]. At most `fraction` of the labelled images, in [0, 1); fewer when fewer are
    left, none when none is. Returns sorted int64 indices, disjoint from `budget_indices`.

    Raises ValueError for a fraction outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"validation fraction {fraction} must lie in [0, 1)")
    labels = torch.as_tensor(labels, dtype=torch.int64).cpu()
    free = labels >= 0
    most = _times(fraction, int(free.sum()), ROUND_FLOOR)
    free[budget_indices.cpu()] = False
    rest = torch.nonzero(free).flatten()
    drawn = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))[:most]
    return rest[drawn].sort().values


def _parse_fraction(stripped: str, text: str) -> float:
    try:
        number = Decimal(stripped.removesuffix("%"))
    except InvalidOperation:
        raise ValueError(
            f"label budget {text!r} is not a number: write a count (500) or a fraction (0.1 or 10%)"
        ) from None
    return float(number / 100 if stripped.endswith("%") else number)


def _check_budget(budget: int | float, given: object) -> None:
    if isinstance(budget, bool):
        raise ValueError(f"label budget {given!r} is not a number: write a count (500) or a fraction (0.1 or 10%)")
    if isinstance(budget, float):
        if not 0 < budget <= 1:
            raise ValueError(f"label budget {given!r}: a fraction lies in (0, 1]; a count has no point (500)")
    elif budget < 1:
        raise ValueError(f"label budget {given!r}: a count is at least 1")


def _count(budget: int | float, size: int) -> int:
    """How many of `size` images a budget is."""
    if not isinstance(budget, (bool, float)):
        budget = operator.index(budget)
    _check_budget(budget, budget)
    if isinstance(budget, int):
        return budget
    count = _times(budget, size, ROUND_HALF_UP)
    if count == 0:
        raise ValueError(f"label budget {budget} of {size} images is less than one image: choose more")
    return count


def _times(fraction: float, size: int, rounding: str) -> int:
    """`fraction` x `size` rounded as its decimal digits say: 0.145 of 100 is exactly 14.5."""
    return int((Decimal(repr(float(fraction))) * size).to_integral_value(rounding))


def _rank_in_class(labels: Tensor) -> Tensor:
    """For each label [M], how many equal ones come before it."""
    by_class = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels)
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    return torch.empty_like(by_class).index_copy_(0, by_class, torch.arange(len(labels)) - first)
