"""The commands on a folder of images: what they write, refuse to write, and may know."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny import COLOURS, NET, equal, snapshot, timeless, weights, write_images
from torch import Tensor

from fasthebb.cli import main
from fasthebb.data import Dataset, ImageSet, Loader
from fasthebb.jobs import evaluate, finetune, pretrain, setup
from fasthebb.jobs.setup import all_but, budget, set_aside

FIELDS = "dataset method rule labels fraction seed depth top1 top5 pretrain_seconds finetune_seconds peak_memory_mb"
READ_OUTS = ("--knn", "--probe", "--svm", "--retrieval")
RUN = {".lock", "config.yaml", "data.json", "model.json", "metrics.jsonl", "train.log", "checkpoints"}


def done(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{write_images(tmp_path_factory.mktemp('images'), each=20)}"


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    done("pretrain", *NET, "--data", data, "--epochs", 2, "--batch-size", 16, "--rule", "SoftWTA", "--out", run)
    return run


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, pretrained: Path) -> Path:
    run = tmp_path_factory.mktemp("tuned") / "run"
    words = ("--labels", "50%", "--epochs", 30, "--lr", 0.05, "--seed", 3, "--no-balanced")
    done("finetune", "--run", pretrained, *words, "--out", run)
    return run


def test_a_pretraining_folder(pretrained: Path, data: str) -> None:
    assert {p.name for p in pretrained.iterdir()} == RUN
    assert {p.name for p in (pretrained / "checkpoints").iterdir()} == {"last.pt", "last.safetensors"}
    config = yaml.safe_load((pretrained / "config.yaml").read_text())
    assert (config["data"], config["forward"], config["epochs"]) == (data, "unit_norm_relu", 2)
    assert config["rule"]["class_path"] == "fasthebb.SoftWTA"
    exported = load_file(pretrained / "checkpoints" / "last.safetensors")
    assert equal({name: exported.pop(name) for name in weights(pretrained)}, dict(weights(pretrained)))
    assert not exported
    assert [json.loads(line)["epoch"] for line in (pretrained / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert "44 images without labels, 2 layers by SoftWTA" in (pretrained / "train.log").read_text()


def test_a_finetuning_folder(tuned: Path, pretrained: Path) -> None:
    assert {p.name for p in tuned.iterdir()} == RUN | {"results.csv", "results.json", "environment.json"}
    net = json.loads((tuned / "model.json").read_text())
    assert net["classes"] == sorted(COLOURS)
    assert len(net["mean"]) == len(net["std"]) == 3
    assert (net["labels"], net["label_seed"], net["balanced"], net["seed"]) == ("50%", 3, False, 0)
    (row,) = json.loads((tuned / "results.json").read_text())
    assert list(row) == FIELDS.split()
    assert (row["method"], row["rule"], row["labels"], row["fraction"]) == ("finetune", "SoftWTA", 24, 0.5)
    assert (row["seed"], row["depth"], row["top5"]) == (3, None, None)
    assert row["top1"] > 60
    assert min(row["pretrain_seconds"], row["finetune_seconds"], row["peak_memory_mb"]) > 0
    (line,) = csv.DictReader((tuned / "results.csv").open())
    assert list(line) == FIELDS.split()
    assert float(line["top1"]) == row["top1"]
    assert not equal(weights(tuned), weights(pretrained))


def test_finetune_makes_a_folder_of_its_own(pretrained: Path) -> None:
    done("finetune", "--run", pretrained, "--labels", 6, "--max-steps", 2, "--head-only")
    run = pretrained / "finetune-6-s0"
    changed = {name for name, value in weights(run).items() if not torch.equal(value, weights(pretrained)[name])}
    assert changed == {"8.weight", "8.bias"}
    assert json.loads((run / "results.json").read_text())[0]["method"] == "head"


def test_evaluate_adds_to_the_results(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = json.loads((tuned / "results.json").read_text())
    done("evaluate", "--run", tuned, "--knn", "--probe")
    rows = json.loads((tuned / "results.json").read_text())
    assert rows[0] == before[0], "measured again, and known are still its times"
    found = {(r["method"], r["depth"], r["labels"], r["seed"]) for r in rows[1:]}
    assert found == {(method, depth, 24, 3) for depth in (1, 2, None) for method in ("probe", "knn")}
    assert capsys.readouterr().out.count("\n") == 3 + 1 + len(found)
    head, *lines = csv.reader((tuned / "confusion.csv").read_text().splitlines())
    assert head == ["true class", *sorted(COLOURS)]
    counts = [[int(number) for number in line[1:]] for line in lines]
    assert 100 * sum(counts[i][i] for i in range(3)) / sum(map(sum, counts)) == pytest.approx(rows[0]["top1"])
    done("evaluate", "--run", tuned, "--knn", "--probe")
    assert json.loads((tuned / "results.json").read_text()) == rows


@pytest.mark.parametrize(
    ("options", "labels"), [((), 48), (("--labels", "6"), 6), (("--labels", "0.25", "--seed", "1"), 12)]
)
def test_evaluate_a_pretraining_by_labels(pretrained: Path, options: tuple[str, ...], labels: int) -> None:
    done("evaluate", "--run", pretrained, "--probe", "--probe-method", "sgd", *options)
    rows = json.loads((pretrained / "results.json").read_text())
    assert {r["labels"] for r in rows[-2:]} == {labels}
    assert all(r["pretrain_seconds"] > 0 for r in rows)


@pytest.mark.parametrize("fixture", ["pretrained", "tuned"])
def test_an_existing_run(fixture: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    run = request.getfixturevalue(fixture)
    command = "pretrain" if fixture == "pretrained" else "finetune"
    again = [command, "--config", str(run / "config.yaml")]
    before = snapshot(run)
    assert main(again) == 1
    assert "holds a run already; add --resume" in capsys.readouterr().err
    assert main([*again, "--epochs", "7", "--resume"]) == 1
    assert "with epochs=" in capsys.readouterr().err
    assert main([*again, "--resume"]) == 0
    assert "is finished already" in capsys.readouterr().out
    assert snapshot(run) == before


@pytest.mark.parametrize("fixture", ["pretrained", "tuned"])
def test_a_runs_own_configuration_repeats_it(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = request.getfixturevalue(fixture)
    command = "pretrain" if fixture == "pretrained" else "finetune"
    done(command, "--out", tmp_path / "again", "--config", run / "config.yaml", "--quiet")
    assert equal(weights(tmp_path / "again"), weights(run))
    assert timeless([json.loads((tmp_path / "again" / "model.json").read_text())]) == timeless(
        [json.loads((run / "model.json").read_text())]
    )


def test_a_resumed_run_that_was_never_begun_begins(tmp_path: Path) -> None:
    done("pretrain", *NET, "--data", "digits", "--max-steps", 1, "--out", tmp_path / "run", "--resume")
    assert (tmp_path / "run" / "checkpoints" / "last.safetensors").exists()


def test_data_below_a_folder_is_found_again(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    run = tmp_path / "run"
    done("pretrain", *NET, "--data", "folder:images", "--data-dir", tmp_path, "--max-steps", 1, "--out", run)
    done("finetune", "--run", run, "--max-steps", 1, "--labels", 3)
    done("evaluate", "--run", run / "finetune-3-s0")
    done("evaluate", "--run", run / "finetune-3-s0", "--data", f"folder:{tmp_path / 'images'}")


@pytest.fixture
def scrambled(monkeypatch: pytest.MonkeyPatch, data: str) -> list[Tensor]:
    """Shuffle all labels of the training images but those of the indices in the list, whatever command loads them."""
    seen: list[Tensor] = []
    load = setup.load

    def other(*args: object, **more: object) -> Dataset:
        dataset = load(*args, **more)  # type: ignore[arg-type]
        labels = dataset.train.labels.clone()
        hidden = all_but(torch.cat(seen), len(labels)) if seen else torch.arange(len(labels))
        labels[hidden] = (labels[hidden] + 1) % 3
        return replace(dataset, train=ImageSet(dataset.train.images, labels, dataset.train.paths))

    monkeypatch.setattr(setup, "load", other)
    return seen


def test_pretraining_reads_no_label(pretrained: Path, tmp_path: Path, scrambled: list[Tensor]) -> None:
    done("pretrain", "--config", pretrained / "config.yaml", "--out", tmp_path / "again")
    assert equal(weights(tmp_path / "again"), weights(pretrained))


def test_images_set_aside_train_nothing(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    train = pretrain.pretrain

    def spy(model: object, hebb: object, loader: Loader, *args: object, **more: object) -> object:
        seen.append(loader.indices)
        return train(model, hebb, loader, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(pretrain, "pretrain", spy)
    done("pretrain", *NET, "--data", data, "--max-steps", 1, "--validation", 0.25, "--seed", 4, "--out", tmp_path / "x")
    aside = set_aside(setup.load(data), 0.25, 4)
    assert sorted([*seen[0].tolist(), *aside.tolist()]) == list(range(48))
    assert len(aside) == 12


@pytest.mark.parametrize("balanced", ["--balanced", "--no-balanced"])
def test_finetune_and_evaluate_read_no_label_outside_the_budget(
    pretrained: Path, tmp_path: Path, balanced: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    chosen: list[tuple[Tensor, Tensor]] = []

    def spy(*args: object, **more: object) -> tuple[Tensor, Tensor]:
        chosen.append(budget(*args, **more))  # type: ignore[arg-type]
        return chosen[-1]

    for module in (finetune, evaluate):
        monkeypatch.setattr(module, "budget", spy)
    words = ("finetune", "--run", pretrained, "--labels", "0.25", "--epochs", 3, "--lr", 0.05, balanced, "--out")
    done(*words, tmp_path / "a")
    done("evaluate", "--run", tmp_path / "a", *READ_OUTS)
    request.getfixturevalue("scrambled").append(chosen[0][0])
    for module in (finetune, evaluate):
        monkeypatch.setattr(module, "budget", lambda *args, **more: chosen[0])  # who is chosen depends on all labels
    done(*words, tmp_path / "b")
    done("evaluate", "--run", tmp_path / "b", *READ_OUTS)
    assert len(chosen[0][0]) == 12
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    rows = [timeless(json.loads((tmp_path / name / "results.json").read_text())) for name in "ab"]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 1 + 3 * 3 + 2 * 3, (
        "fine-tuned; three read-outs and their choice; three measures of retrieval"
    )


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(4, 30), min_size=1, max_size=5), budgets=st.lists(st.floats(0.01, 1.0), min_size=2),
    percent=st.integers(0, 50), seed=st.integers(0, 5), balanced=st.booleans(), own_validation=st.booleans(),
)  # fmt: skip
def test_budgets(
    sizes: list[int], budgets: list[float], percent: int, seed: int, balanced: bool, own_validation: bool
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    train = ImageSet(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels)
    dataset = Dataset("x", tuple(map(str, sizes)), train, train, train if own_validation else None, 0)
    aside = set_aside(dataset, percent / 100, seed)
    assert len(aside) == (0 if own_validation else percent * len(labels) // 100)
    smaller: set[int] = set()
    for count in sorted({max(len(sizes), round(part * len(labels))) for part in budgets}):
        chosen, validation = budget(dataset, count, aside, seed=seed + 1, balanced=balanced)
        mine = set(chosen.tolist())
        assert len(chosen) == len(mine) == count
        assert smaller <= mine, "nested"
        assert mine.isdisjoint(validation.tolist())
        assert set(validation.tolist()) <= set(aside.tolist())
        if count <= len(labels) - len(aside):
            assert len(validation) == len(aside), "images set aside are touched last"
        smaller = mine
    chosen, validation = budget(dataset, 1.0, aside, seed=seed + 1, balanced=balanced)
    assert len(chosen) == len(labels)
    assert len(validation) == 0, "at 100 % nothing is left to select on"
