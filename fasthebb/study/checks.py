"""Whether names and numbers in a study's options make sense."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from fasthebb.console import nearest
from fasthebb.data.labels import parse_budget
from fasthebb.models.blocks import one_of

if TYPE_CHECKING:
    from fasthebb.study.options import StudyOptions

SOFTHEBB = "softhebb"


def check_method(name: str, known: Sequence[str]) -> None:
    """See whether there is a method.

    Raises:
        ValueError: there is none, or it is SoftHebb, whose rules nobody gave.
    """
    if name not in known and nearest(name, [*known, SOFTHEBB]) == SOFTHEBB:
        typo = "" if name == SOFTHEBB else f" is unknown: did you mean {SOFTHEBB!r}? It"
        raise ValueError(
            f"method {name!r}{typo} needs its own net and a rule for each layer: give --minutes or "
            "--recipe softhebb_cifar10, which have them, or --rules"
        )
    one_of("method", name, known)


def check_rates(rates: Mapping[str, float], known: Iterable[str]) -> None:
    """Check learning rates by method.

    Raises:
        ValueError: there is no such method, or a rate is not above 0.
    """
    known = list(known)
    for name, rate in rates.items():
        one_of("rate of method", name, known)
        if not 0 < rate < float("inf"):
            raise ValueError(f"--rates {name}={rate}: a learning rate must be above 0")


def check_budgets(options: StudyOptions) -> None:
    """Check the budgets of a method, and how many seeds measure them.

    Raises:
        ValueError: a budget is none, or is measured by no seed.
    """
    for text in options.budgets:
        parse_budget(text)
    for text, seeds in options.budget_seeds.items():
        one_of("--budget-seeds: budget", text, options.budgets)
        if seeds < 1:
            raise ValueError(f"--budget-seeds {text}={seeds}: give 1 or more, or leave the budget out of --budgets")
