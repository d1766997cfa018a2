"""A study's numbers do not change when the labels outside its budgets do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import NET, equal, timeless, weights, write_images
from torch import Tensor

from fasthebb.cli import main
from fasthebb.data import Dataset, load
from fasthebb.jobs import setup
from fasthebb.study import bench

METHODS = ("hpca", "swta", "pca-patches", "kmeans-patches", "random", "scratch")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), each=20)


def study(data: Path, out: Path) -> Any:
    words = ("--data", f"folder:{data}", "--methods", *METHODS, "--budgets", "6,12", "--seeds", "0", "--epochs", "1")
    more = ("--finetune-steps", "3", "--svm", "--retrieval", "--whiten", "swta", "--cache-dir", str(out / "cache"))
    assert main(["study", *NET, *words, *more, "--batch-size", "16", "--out", str(out / "study"), "--quiet"]) == 0
    return timeless(json.loads((out / "study" / "results.json").read_text()))


@pytest.fixture(scope="module")
def honest(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, dict[int, Tensor]]:
    """The study, and the images that each of its budgets is made of."""
    out = tmp_path_factory.mktemp("honest")
    chosen: dict[int, Tensor] = {}

    def spy(dataset: Dataset, labels: int, aside: Tensor, **more: Any) -> tuple[Tensor, Tensor]:
        found = setup.budget(dataset, labels, aside, **more)
        chosen[labels] = found[0]
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "budget", spy)
        return study(data, out), out / "study", chosen


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(labels=st.lists(st.integers(0, 2), min_size=48, max_size=48))
def test_labels_outside_the_budgets_are_never_seen(
    labels: list[int],
    data: Path,
    honest: tuple[Any, Path, dict[int, Tensor]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    records, folder, chosen = honest
    out = tmp_path_factory.mktemp("scrambled")
    known = chosen[12]

    def scrambled(*words: Any, **more: Any) -> Dataset:
        dataset: Dataset = load(*words, **more)
        wrong = torch.tensor(labels)
        wrong[known] = dataset.train.labels[known]
        return replace(dataset, train=replace(dataset.train, labels=wrong))

    pick: Callable[..., tuple[Tensor, Tensor]] = lambda _dataset, count, *_, **__: (chosen[count], torch.empty(0))  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "budget", pick)  # who is chosen depends on all labels
        patch.setattr(setup, "load", scrambled)
        assert study(data, out) == records
    for cell in sorted(path.parent.parent for path in folder.glob("cells/*/checkpoints/last.pt")):
        assert equal(weights(cell), weights(out / "study" / "cells" / cell.name)), cell.name
