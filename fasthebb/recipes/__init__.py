"""Recipes: one Python function per published or shipped experiment; a variant calls another and changes a field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import yaml

from fasthebb.recipes.few_labels import few_labels_cifar10, few_labels_fashion_mnist, few_labels_tiny_imagenet
from fasthebb.recipes.large import large_cifar10, large_fashion_mnist, large_tiny_imagenet
from fasthebb.recipes.matched import fixmatch_cifar10, fixmatch_fashion_mnist
from fasthebb.recipes.paper import PAPER
from fasthebb.recipes.reproductions import cifar10_depths, softhebb_cifar10
from fasthebb.recipes.shipped import cifar10, digits, fashion_mnist
from fasthebb.recipes.transfer import transfer_cifar10
from fasthebb.study.options import StudyOptions

RECIPES: dict[str, Callable[[], StudyOptions]] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "softhebb_cifar10": softhebb_cifar10,
    "cifar10_depths": cifar10_depths,
    "few_labels_cifar10": few_labels_cifar10,
    "few_labels_fashion_mnist": few_labels_fashion_mnist,
    "few_labels_tiny_imagenet": few_labels_tiny_imagenet,
    "fixmatch_cifar10": fixmatch_cifar10,
    "fixmatch_fashion_mnist": fixmatch_fashion_mnist,
    "large_cifar10": large_cifar10,
    "large_fashion_mnist": large_fashion_mnist,
    "large_tiny_imagenet": large_tiny_imagenet,
    "transfer_cifar10": transfer_cifar10,
    **PAPER,
}


def at_budgets(options: StudyOptions, budgets: Sequence[str] | str | None) -> StudyOptions:
    """A recipe's options without what they say of other label budgets, as --budgets or a file gives these, or all."""
    if budgets is None:
        return options
    given = yaml.safe_load(budgets) if isinstance(budgets, str) else budgets
    kept = [str(text) for text in (given if isinstance(given, list) else [given])]

    def narrowed(was: dict[str, Any]) -> dict[str, Any]:
        changed = dict(was)
        for name in {"budgets", "tune_at"} & set(was):
            changed[name] = [text for text in was[name] if text in kept]
        if "budget_seeds" in was:
            changed["budget_seeds"] = {text: count for text, count in was["budget_seeds"].items() if text in kept}
        return {name: value for name, value in changed.items() if name != "budgets" or value}

    own = {name: narrowed(changed) for name, changed in options.own.items()}
    base = narrowed({"budget_seeds": options.budget_seeds, "tune_at": options.tune_at})
    return replace(options, budgets=kept, own=own, **base)
