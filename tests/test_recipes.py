"""Recipes say what was published: budgets, rates, penalties, and images set aside."""

from __future__ import annotations

import pytest
import torch

from fasthebb.data.labels import few_labels, holdout, parse_budget
from fasthebb.finish import Chain, NormRate, max_abs
from fasthebb.jobs.net import spot_of
from fasthebb.models import build, head_name, trainable_layers
from fasthebb.options import plain
from fasthebb.recipes import RECIPES, at_budgets
from fasthebb.rules import SoftHebb
from fasthebb.study.options import title_of

IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "tinyimagenet": 100_000, "imagenet": 1_281_167}
PAPER = sorted(name for name in RECIPES if name.startswith("paper_"))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_is_named_after_itself(name: str) -> None:
    options = RECIPES[name]()
    assert options.recipe == name
    assert options.out.name == name
    assert plain(options) == plain(RECIPES[name]()), "nothing is drawn by chance"


@pytest.mark.parametrize("budgets", [["1%"], "1%", '["100%", "30"]', ["1%", "2%", "5%", "10%", "25%", "100%"]])
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_at_other_budgets(name: str, budgets: list[str] | str) -> None:
    kept = {"1%": ["1%"], '["100%", "30"]': ["100%", "30"]}[budgets] if isinstance(budgets, str) else budgets
    recipe = RECIPES[name]()
    assert at_budgets(recipe, None) == recipe
    options = at_budgets(recipe, budgets)
    assert options.budgets == kept
    assert options.budget_seeds == {text: n for text, n in recipe.budget_seeds.items() if text in kept}
    for method, was in recipe.own.items():
        changed, shared = options.own[method], set(was.get("budgets", [])) & set(kept)
        assert ("budgets" in changed) == bool(shared)  # else all of the study's
        assert set(changed.get("budgets", [])) == shared
        assert set(changed.get("budget_seeds", {})) <= set(kept)
        assert {k: v for k, v in changed.items() if "budget" not in k} == {
            k: v for k, v in was.items() if "budget" not in k
        }
    assert set(options.tune_at) <= set(kept)


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


def test_softhebb_as_published() -> None:
    options = RECIPES["softhebb_cifar10"]()
    rules = options.rules["softhebb"]
    assert isinstance(rules, dict)
    for layer, rate, inverse in (("conv1", 0.08, 1.0), ("conv2", 0.005, 0.65), ("conv3", 0.01, 0.25)):
        assert rules[layer] == SoftHebb(1 / inverse, finish=Chain((max_abs, NormRate(rate, 0.5))))
    assert (options.lr, options.epochs, options.batch_size, options.validation) == (1.0, 1, 10, 0.0)
    assert (options.probe_method, options.probe_epochs, options.budgets) == ("adam", None, ["1.0"])
    model = build(options.model, classes=10)
    assert set(rules) == set(trainable_layers(model)) - {head_name(model)}
    spot = spot_of(model, head_name(model), torch.zeros(2, 3, 32, 32), options.pool)
    assert spot.size == 24_576, "the maps as they are"
    assert options.probe_depths == [3]


@pytest.mark.parametrize("name", ["softhebb_cifar10", "cifar10_depths"])
def test_reproductions_expect_what_they_measure(name: str) -> None:
    options = RECIPES[name]()
    depths = options.probe_depths or [1, 2, 3, 4, 5]
    measured = {(f"{title_of(method)} probe", depth) for method in options.methods for depth in depths}
    assert {(one.method, one.depth) for one in options.expected} <= measured
    for one in options.expected:
        assert one.published is None or one.low <= one.published <= one.high
        assert one.source
    assert not options.knn
    assert not options.finetune
