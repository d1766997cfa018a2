"""Choosing settings: the split, the nearest budget, and a study that chooses by labels of its budgets alone."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from tiny import NET, equal, fails, timeless, weights, write_images
from torch import Tensor

from fasthebb.cli import main
from fasthebb.data import Dataset, load
from fasthebb.evaluation.results import load as load_results
from fasthebb.evaluation.results import load_tuning
from fasthebb.files import atomic_write
from fasthebb.jobs import setup
from fasthebb.study import bench, supervised, tuning
from fasthebb.study.options import StudyOptions
from fasthebb.study.places import AbandonedError, held, place, taken
from fasthebb.study.tuning import choice_table, nearest, split

SETTINGS = [{"finetune_lr": 1e-6}, {"finetune_lr": 0.05, "weight_decay": 0.0}]


def test_the_split_takes_a_fifth_of_every_class() -> None:
    labels = torch.tensor([0] * 10 + [1] * 5 + [2] * 2 + [3])[torch.randperm(18)]
    train, test = split(labels, seed=3)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(18))
    assert Counter(labels[test].tolist()) == {0: 2, 1: 1, 2: 1}, "3 has a single image, which trains"
    assert torch.equal(split(labels, seed=3)[1], test)
    assert not torch.equal(split(labels, seed=4)[1], test)
    with pytest.raises(ValueError, match="3 labels are one a class"):
        split(torch.tensor([0, 2, 1]), seed=0)


@pytest.mark.parametrize(("labels", "at"), [(500, 500), (1000, 500), (2500, 5000), (50000, 5000), (50, 500)])
def test_the_nearest_budget_by_ratio(labels: int, at: int) -> None:
    assert nearest(labels, [5000, 500]) == at


def test_of_two_as_near_the_smaller() -> None:
    assert nearest(20, [40, 10]) == 10


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), each=30)


def words(data: Path, out: Path, *methods: str) -> list[str]:
    config = {"tuning": SETTINGS, "tune_at": [15, 30], "tune_steps": 3, "methods": [*methods] or ["hpca", "scratch"]}
    out.mkdir(parents=True, exist_ok=True)
    (out / "options.yaml").write_text(yaml.safe_dump(config))
    more = ("--budgets", "9,15,30", "--seeds", "0,1", "--epochs", "1", "--finetune-steps", "6", "--no-knn")
    return [
        "study", *NET, "--data", f"folder:{data}", *more, "--batch-size", "16", "--max-steps", "1", "--validation", "0",
        "--config", str(out / "options.yaml"), "--out", str(out / "study"), "--quiet",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def tuned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, float]]]:
    """A study, and the rate of every training end to end in it."""
    out, rates = tmp_path_factory.mktemp("tuned"), []
    with pytest.MonkeyPatch.context() as patch:
        finetune = supervised.finetune

        def noted(model: Any, loader: Any, **more: Any) -> Any:
            rates.append((f"{len(loader.indices)} images, {more['max_steps']} steps", more["lr"]))
            return finetune(model, loader, **more)

        patch.setattr(supervised, "finetune", noted)
        assert main(words(data, out)) == 0
    return out / "study", rates


def test_what_is_chosen_where(tuned: tuple[Path, list[tuple[str, float]]]) -> None:
    folder, rates = tuned
    found = load_tuning(folder)
    assert [(one["method"], one["labels"]) for one in found] == [
        ("HPCA fine-tuned", 15), ("HPCA fine-tuned", 30), ("scratch", 15), ("scratch", 30),
    ]  # fmt: skip
    for one in found:
        assert one["settings"] == SETTINGS
        assert one["chosen"] == one["accuracies"].index(max(one["accuracies"]))
    assert Counter(kind for kind, _ in rates) == {
        "12 images, 3 steps": 4, "24 images, 3 steps": 4,  # two methods, two settings
        "9 images, 6 steps": 4, "15 images, 6 steps": 4, "30 images, 6 steps": 4,  # two methods, two seeds
    }  # fmt: skip
    rate = {(one["method"], one["labels"]): SETTINGS[one["chosen"]]["finetune_lr"] for one in found}
    for labels, at in ((9, 15), (15, 15), (30, 30)):
        used = Counter(lr for kind, lr in rates if kind == f"{labels} images, 6 steps")
        assert used == Counter(rate[method, at] for method in ("HPCA fine-tuned", "scratch") for _ in (0, 1))
    assert {p.name for p in (folder / "cells").glob("tune-*")} == {
        f"tune-{cell}-{labels}-s0" for cell in ("finetune-hpca", "scratch-backprop") for labels in (15, 30)
    }


@pytest.mark.parametrize(("own", "at"), [(["9", "15"], 15), (["9"], 9)])
def test_budgets_of_its_own(data: Path, tmp_path: Path, own: list[str], at: int) -> None:
    more = ("--own", json.dumps({"scratch": {"budgets": own}}))
    assert main([*words(data, tmp_path, "hpca", "scratch"), *more]) == 0
    found = [(one["method"], one["labels"]) for one in load_tuning(tmp_path / "study")]
    assert found == [("HPCA fine-tuned", 15), ("HPCA fine-tuned", 30), ("scratch", at)]


def test_the_table(tuned: tuple[Path, list[tuple[str, float]]], tmp_path: Path) -> None:
    folder, _ = tuned
    records, _ = load_results(folder)
    assert len(json.loads((folder / "results.json").read_text())["records"]) == len(records)
    head, lines = choice_table(load_tuning(folder), "*{}*")
    assert head == ["method", "labels", "finetune lr 1e-06", "finetune lr 0.05, weight decay 0.0"]
    assert [line[:2] for line in lines] == [[m, n] for m in ("HPCA fine-tuned", "scratch") for n in ("15", "30")]
    assert all(sum("*" in cell for cell in line) == 1 for line in lines)
    assert main(["report", "--run", str(folder), "--publish", str(tmp_path / "page"), "--quiet"]) == 0
    for page in (folder / "report.html", tmp_path / "page.md"):
        assert "finetune lr 0.05, weight decay 0.0" in page.read_text()


def test_resumed_while_choosing(
    tuned: tuple[Path, list[tuple[str, float]]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = supervised._tried
    count = 0

    def fails_once(*given: Any) -> float:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return tried(*given)

    monkeypatch.setattr(supervised, "_tried", fails_once)
    assert main(words(data, tmp_path, "scratch")) == 75
    assert main([*words(data, tmp_path, "scratch"), "--resume"]) == 0
    assert count == 5, "four settings, one of them twice"
    whole = [one for one in load_tuning(tuned[0]) if one["method"] == "scratch"]
    assert load_tuning(tmp_path / "study") == whole
    before, after = (
        [row for row in timeless(json.loads((folder / "results.json").read_text())["records"]) if not row["rule"]]
        for folder in (tuned[0], tmp_path / "study")
    )
    assert before == after


def test_no_label_outside_the_budgets_is_seen(
    tuned: tuple[Path, list[tuple[str, float]]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load(f"folder:{data}", image_size=12)
    aside = torch.empty(0, dtype=torch.int64)
    chosen = {
        (labels, seed): setup.budget(whole, labels, aside, seed=seed, balanced=True)[0]
        for labels in (9, 15, 30) for seed in (0, 1)
    }  # fmt: skip
    known = torch.cat([chosen[30, 0], chosen[30, 1]])

    def scrambled(*given: Any, **more: Any) -> Dataset:
        dataset = load(*given, **more)
        wrong = (dataset.train.labels + 1) % 3
        wrong[known] = dataset.train.labels[known]
        return replace(dataset, train=replace(dataset.train, labels=wrong))

    def pick(_: Dataset, labels: int, __: Tensor, *, seed: int, **___: Any) -> tuple[Tensor, Tensor]:
        return chosen[labels, seed], aside

    monkeypatch.setattr(bench, "budget", pick)  # who is chosen depends on all labels
    monkeypatch.setattr(setup, "load", scrambled)
    assert main(words(data, tmp_path)) == 0
    assert load_tuning(tmp_path / "study") == load_tuning(tuned[0])
    for cell in sorted(path.parent.parent.name for path in tuned[0].glob("cells/*/checkpoints/last.pt")):
        assert equal(weights(tuned[0] / "cells" / cell), weights(tmp_path / "study" / "cells" / cell)), cell


def test_what_makes_no_sense(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="5 settings are more than"):
        StudyOptions(tuning=[{"finetune_lr": 0.1}] * 5)
    with pytest.raises(ValueError, match="--tuning 2: option 'momentum' is unknown"):
        StudyOptions(tuning=[{}, {"momentum": 0.5}])
    with pytest.raises(ValueError, match=r"--finetune-lr -1\.0: give a number above 0"):
        StudyOptions(tuning=[{"finetune_lr": -1}])
    config = tmp_path / "options.yaml"
    config.write_text(yaml.safe_dump({"tuning": SETTINGS, "methods": ["scratch"]}))
    given = ("study", *NET, "--data", f"folder:{data}", "--config", config, "--out", tmp_path / "x", "--budgets", "3,9")
    assert "--tune-at 3: 3 labels are one a class" in fails(capsys, 1, *given)
    assert "--tune-at 6: 6 labels are no budget of this study" in fails(capsys, 1, *given, "--tune-at", "6,9")
    assert not (tmp_path / "x").exists()


def test_another_process_waits_until_the_first_seed_has_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = StudyOptions(tuning=SETTINGS, seeds=[0, 1])
    folder = SimpleNamespace(path=tmp_path)
    other: Any = SimpleNamespace(
        options=options, method=options.method("scratch"), seed=1, cell=lambda name, seed: tmp_path / f"{name}-s{seed}",
        folder=folder,
    )  # fmt: skip
    monkeypatch.setattr(tuning, "tuned_budgets", lambda bench: [20])
    monkeypatch.setattr(tuning, "launched", lambda: (1, 2))
    monkeypatch.setattr(tuning, "PAUSE", 0.01)
    found: list[StudyOptions] = []

    def choose() -> None:
        found.append(tuning.chosen(other, "scratch", "scratch", 50, accuracy))

    def accuracy(*_: object) -> float:
        raise AssertionError("the first seed alone chooses")

    with pytest.raises(AbandonedError):
        choose()  # nobody is at the first seed
    waiting = threading.Thread(target=choose)
    file = tmp_path / "tune-scratch-20-s0" / tuning.FILE
    file.parent.mkdir()
    with held(place(other, seed=0)) as free:
        assert free
        assert taken(place(other, seed=0))
        waiting.start()
        for known in ({"settings": SETTINGS}, {"settings": SETTINGS, "chosen": 1}):
            waiting.join(0.1)
            assert waiting.is_alive()
            assert found == []
            atomic_write(file, json.dumps(known))
        waiting.join(5)
    assert not taken(place(other, seed=0))
    choose()
    assert [options.finetune_lr for options in found] == [0.05, 0.05]
