"""FixMatch on top, of a net that SoftHebb's features taught and of one from scratch: both see images without labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fasthebb.recipes.few_labels import few_labels_cifar10, few_labels_fashion_mnist
from fasthebb.study.options import StudyOptions

# Beside 64 labelled images a step.
MORE: dict[str, Any] = {"fixmatch_steps": 600, "fixmatch_ratio": 3, "fixmatch_hidden_rate": 10.0}


def fixmatch_cifar10() -> StudyOptions:
    """CIFAR-10 at 1, 2 and 5 % of the labels, three seeds: hours on two cores."""
    return _matched(few_labels_cifar10(), "fixmatch_cifar10")


def fixmatch_fashion_mnist() -> StudyOptions:
    """Fashion-MNIST, as `fixmatch_cifar10`."""
    return _matched(few_labels_fashion_mnist(), "fixmatch_fashion_mnist")


def _matched(base: StudyOptions, name: str) -> StudyOptions:
    few = base.own["teaching"]["budgets"]
    own = {
        "taught": {**base.own["teaching"], "title": "SoftHebb", **MORE},
        "scratch": {**base.own["scratch"], **MORE},
    }
    return replace(
        base,
        recipe=name,
        methods=list(own),
        own=own,
        budgets=few,
        seeds=[0, 1, 2],
        budget_seeds={},
        tune_at=[few[0], few[-1]],
        out=Path(f"runs/{name}"),
    )
