"""A study's numbers at a budget and a seed do not change when the labels outside that budget do.

Of methods with `tuning` this holds on the first seed at the budgets they are tuned at, by design; there is none here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import NET, equal, timeless, weights, write_images
from torch import Tensor

from fasthebb.cli import main
from fasthebb.data import Dataset, load
from fasthebb.jobs import setup
from fasthebb.study import bench

METHODS = ("hpca", "swta", "pca-patches", "kmeans-patches", "random", "scratch")
Budgets = dict[tuple[int, int], Tensor]  # images by seed and number of labels


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), each=20)


def study(data: Path, out: Path) -> Any:
    words = ("--data", f"folder:{data}", "--methods", *METHODS, "--budgets", "6,12", "--seeds", "0,1", "--epochs", "1")
    more = ("--finetune-steps", "3", "--svm", "--retrieval", "--whiten", "swta", "--cache-dir", str(out / "cache"))
    assert main(["study", *NET, *words, *more, "--batch-size", "16", "--out", str(out / "study"), "--quiet"]) == 0
    return timeless(json.loads((out / "study" / "results.json").read_text()))


@pytest.fixture(scope="module")
def honest(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Budgets]:
    """The study, and the images that each of its budgets is made of."""
    out = tmp_path_factory.mktemp("honest")
    chosen: Budgets = {}

    def spy(dataset: Dataset, labels: int, aside: Tensor, *, seed: int, **more: Any) -> tuple[Tensor, Tensor]:
        found = setup.budget(dataset, labels, aside, seed=seed, **more)
        chosen[seed, labels] = found[0]
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "budget", spy)
        return study(data, out), out / "study", chosen


@pytest.mark.parametrize("labels", [6, 12])
@pytest.mark.parametrize("seed", [0, 1])
def test_labels_outside_a_budget_are_never_seen(
    seed: int, labels: int, data: Path, honest: tuple[Any, Path, Budgets], tmp_path: Path
) -> None:
    records, folder, chosen = honest
    known = chosen[seed, labels]

    def scrambled(*words: Any, **more: Any) -> Dataset:
        dataset: Dataset = load(*words, **more)
        right = dataset.train.labels
        wrong = (right + torch.randint(1, 3, right.shape, generator=torch.Generator().manual_seed(labels))) % 3
        wrong[known] = right[known]
        return replace(dataset, train=replace(dataset.train, labels=wrong))

    def own(rows: Any) -> Any:
        return [row for row in rows if row["seed"] == seed and row["labels"] in (0, labels)]  # 0: of no label

    pick: Callable[..., tuple[Tensor, Tensor]] = lambda _dataset, n, *_, seed, **__: (chosen[seed, n], torch.empty(0))  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "budget", pick)  # who is chosen depends on all labels
        patch.setattr(setup, "load", scrambled)
        again = study(data, tmp_path)
    assert own(again) == own(records)
    assert again != records, "other budgets did see other labels"
    cells = {path.parent.parent.name for path in folder.glob("cells/*/checkpoints/last.pt")}
    mine = {cell for cell in cells if re.search(rf"-{labels}-s{seed}$|^pretrain-", cell)}
    assert len(mine) == 5 + 8
    for cell in sorted(mine):
        assert equal(weights(folder / "cells" / cell), weights(tmp_path / "study" / "cells" / cell)), cell
