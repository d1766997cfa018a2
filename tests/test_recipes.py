"""Recipes say what was published: budgets, rates, penalties, and images set aside."""

from __future__ import annotations

import pytest
import torch

from fasthebb.data.labels import few_labels, holdout, parse_budget
from fasthebb.options import plain
from fasthebb.recipes import RECIPES

IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "tinyimagenet": 100_000, "imagenet": 1_281_167}
PAPER = sorted(name for name in RECIPES if name.startswith("paper_"))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_is_named_after_itself(name: str) -> None:
    options = RECIPES[name]()
    assert options.recipe == name
    assert options.out.name == name
    assert plain(options) == plain(RECIPES[name]()), "nothing is drawn by chance"


def test_every_published_experiment_is_there() -> None:
    for data in ("cifar10", "cifar100", "tinyimagenet"):
        assert {f"paper_{data}_{method}" for method in ("hpca", "swta", "vae", "scratch")} <= set(PAPER)
        assert {f"paper_{data}_{method}_later" for method in ("hpca", "swta")} <= set(PAPER)
    assert {"paper_imagenet_hpca", "paper_imagenet_swta"} <= set(PAPER)


@pytest.mark.parametrize("name", PAPER)
def test_budgets_are_shares_of_what_validation_leaves(name: str) -> None:
    options = RECIPES[name]()
    images = IMAGES[name.split("_")[1]]
    labels = torch.arange(images) % 10
    aside = holdout(labels, torch.empty(0, dtype=torch.int64), fraction=options.validation, seed=0)
    assert len(aside) == (50_000 if "imagenet_" in name and "tiny" not in name else 10_000)
    counts = [int(parse_budget(text)) for text in options.budgets]
    left = images - len(aside)
    assert counts == [round(left * share / 100) for share in (1, 2, 3, 4, 5, 10, 25, 100)]
    assert len(few_labels(labels, counts[-1], seed=0, balanced=False)) == left


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("cifar10_hpca", 1e-3), ("cifar10_hpca_later", 1e-2), ("cifar10_vae", 1e-3),
        ("tinyimagenet_swta", 1e-3), ("cifar100_swta_later", 1e-2),
        ("imagenet_hpca", 1e-4), ("imagenet_hpca_later", 1e-3), ("imagenet_swta", 1e-3),
    ],
)  # fmt: skip
def test_rates_of_pre_training(name: str, rate: float) -> None:
    options = RECIPES[f"paper_{name}"]()
    (method,) = options.methods
    assert options.rates.get(method, options.lr) == rate
    assert options.whiten == (["swta"] if method == "swta" else [])
    if method == "hpca":
        assert (options.rules["hpca"].finish is not None) == name.endswith("later"), "divided by the root of K"


@pytest.mark.parametrize(
    ("data", "penalty"), [("cifar10", 5e-2), ("cifar100", 1e-2), ("tinyimagenet", 5e-3), ("imagenet", 1e-3)]
)
def test_fine_tuning_as_published(data: str, penalty: float) -> None:
    options = RECIPES[f"paper_{data}_hpca"]()
    assert (options.finetune_lr, options.finetune_epochs, options.weight_decay) == (1e-3, 20, penalty)
    assert (options.epochs, options.balanced, len(options.seeds)) == (20, False, 5)
    assert (options.batch_size, options.model) == ((32, "tenlayer") if data == "imagenet" else (64, "sixlayer"))
