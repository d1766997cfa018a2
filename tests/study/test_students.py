"""Students of frozen probes: what they are taught, and that no label outside the budget reaches them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import NET, QUIET, equal, fails, timeless, weights, write_images
from torch import Tensor

from fasthebb.cli import main
from fasthebb.data import Dataset, load
from fasthebb.evaluation import topk_accuracy
from fasthebb.evaluation.results import Record, summarise
from fasthebb.jobs import setup
from fasthebb.jobs.trained import read_net
from fasthebb.study import bench, students
from fasthebb.study.families import family
from fasthebb.study.options import StudyOptions
from fasthebb.study.verdict import hebbian
from fasthebb.training.finetune import accuracy

CPU = torch.device("cpu")
OWN = {"beside": {"is": "hpca", "together": True, "probe": False}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), each=20)


def study(data: Path, out: Path, *extra: str) -> Path:
    config = {"methods": ["hpca", "beside"], "own": OWN, "student": True, "student_model": "tiny:net"}
    (out / "options.yaml").write_text(yaml.safe_dump(config))
    words = ("--data", f"folder:{data}", "--budgets", "6,15", "--seeds", "0", "--epochs", "1", "--batch-size", "16")
    more = ("--finetune-steps", "4", "--mirror", "--no-knn", "--no-finetune", "--validation", "0", "--quiet")
    config = ("--config", str(out / "options.yaml"), "--out", str(out / "study"))
    assert main(["study", *NET, *words, *more, *config, *extra, "--width", "2"]) == 0
    return out / "study"


def noting(targets: list[Tensor]) -> Callable[..., Any]:
    """What teaches a student, and notes its targets."""
    teach = students.teach

    def noted(model: Any, loader: Any, wanted: Tensor, **more: Any) -> Any:
        targets.append(wanted)
        return teach(model, loader, wanted, **more)

    return noted


@pytest.fixture(scope="module")
def taught(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Tensor]]:
    """A study, and the targets of every student."""
    targets: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(students, "teach", noting(targets))
        return study(data, tmp_path_factory.mktemp("taught")), targets


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return found


def test_cells_and_records(taught: tuple[Path, list[Tensor]]) -> None:
    folder, _ = taught
    cells = {path.name for path in (folder / "cells").iterdir()}
    each = {f"{cell}-s0" for m in ("hpca", "beside") for cell in (f"frozen-{m}", f"teacher-{m}", f"student-{m}-6",
                                                                f"student-{m}-15")}  # fmt: skip
    assert cells == {"pretrain-hpca-s0", *each}
    found = [Record(**r) for r in rows(folder) if "student" in r["method"]]
    assert [(r.method, r.rule, r.labels, r.depth) for r in found] == [
        (f"{title} {name}", "HPCA", labels, None)
        for title in ("HPCA", "beside")
        for labels in (6, 15)
        for name in ("student", "student and teacher")
    ]
    assert all((r.pretrain_seconds or 0) > 0 and r.finetune_seconds for r in found)
    assert all(hebbian(row) and family(row) == (row.method.split(" student")[0], "HPCA")
               for row in summarise(found))  # fmt: skip


def test_targets_are_the_probes_scores_and_the_known_labels(taught: tuple[Path, list[Tensor]], data: Path) -> None:
    folder, targets = taught
    whole = load(f"folder:{data}", image_size=12).train
    budgets = [setup.budget(load(f"folder:{data}", image_size=12), n, torch.empty(0).long(), seed=0, balanced=True)[0]
               for n in (6, 15)]  # fmt: skip
    for place, (method, labels) in enumerate((m, n) for m in ("hpca", "beside") for n in (6, 15)):
        kept = load_file(folder / "cells" / f"teacher-{method}-s0" / "teacher.safetensors")
        assert torch.equal(kept["images"], torch.arange(len(whole)))
        known = torch.zeros(len(whole), dtype=torch.bool)
        known[budgets[place % 2]] = True
        soft = (kept[str(labels)].double() / 0.2).softmax(1).float()
        torch.testing.assert_close(targets[place][~known], soft[~known])
        assert torch.equal(targets[place][known], torch.eye(3)[whole.labels[known]])


def test_the_teacher_is_the_probe_that_was_read_out(
    data: Path, taught: tuple[Path, list[Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On test images in place of training images it scores as it did there."""
    folder, _ = taught
    features = students._features

    def of_test(bench: Any, net: Any, model: Any, spots: Any, images: Tensor) -> Any:
        if len(images) == 15:  # the labelled ones; there are 12 for testing
            return features(bench, net, model, spots, images)
        other = replace(bench, dataset=replace(bench.dataset, train=bench.dataset.test))
        return features(other, net, model, spots, torch.arange(len(bench.dataset.test)))

    monkeypatch.setattr(students, "_features", of_test)
    monkeypatch.setattr(students, "seen", lambda bench, _: torch.arange(len(bench.dataset.test)))
    monkeypatch.setattr(students, "_student", lambda *_: [])
    again = study(data, tmp_path)
    for method in ("hpca", "beside"):
        for labels in ("6", "15"):
            scores = load_file(folder / "cells" / f"frozen-{method}-s0" / "scores.safetensors")[labels]
            taught_ = load_file(again / "cells" / f"teacher-{method}-s0" / "teacher.safetensors")[labels]
            torch.testing.assert_close(taught_, scores, rtol=1e-4, atol=1e-5)


def test_a_student_is_a_net_of_its_own(taught: tuple[Path, list[Tensor]], data: Path) -> None:
    folder, _ = taught
    net, model = read_net(folder / "cells" / "student-hpca-15-s0", QUIET)
    assert (net.model, net.width, net.rule, net.label_count) == ("tiny:net", 1.0, "HPCA", 15)
    test = load(f"folder:{data}", image_size=12).test
    measured = next(r for r in rows(folder) if (r["method"], r["labels"]) == ("HPCA student", 15))
    assert accuracy(model, net.loader(test, 256, torch.device("cpu"), shuffle=False)) == measured["top1"]


@pytest.mark.parametrize("labels", [6, 15])
def test_both_together(taught: tuple[Path, list[Tensor]], data: Path, labels: int) -> None:
    folder, _ = taught
    net, model = read_net(folder / "cells" / f"student-hpca-{labels}-s0", QUIET)
    test = load(f"folder:{data}", image_size=12).test
    views = [
        torch.cat([model.eval()(x).softmax(1) for x, _ in net.loader(test, 5, CPU, shuffle=False, augment=augment)])
        for augment in ("none", "mirror")
    ]
    scores = load_file(folder / "cells" / "frozen-hpca-s0" / "scores.safetensors")[str(labels)]
    mean = sum(views) / 2 + (scores / 0.2).softmax(1)
    name = "HPCA student and teacher"
    measured = next(r for r in rows(folder) if (r["method"], r["labels"]) == (name, labels))
    assert topk_accuracy(mean, test.labels) == measured["top1"]


def test_a_budget_without_the_last_class(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn plainly, few labels may lack it: a probe then scores fewer classes, and the student has them all."""
    targets: list[Tensor] = []
    monkeypatch.setattr(students, "teach", noting(targets))
    labels = load(f"folder:{data}", image_size=12).train.labels
    few = (labels < 2).nonzero().flatten()[::6][:6]
    assert set(labels[few].tolist()) == {0, 1}
    monkeypatch.setattr(bench, "budget", lambda *_, **__: (few, torch.empty(0)))
    folder = study(data, tmp_path, "--no-balanced")
    assert [wanted.shape for wanted in targets] == [(len(labels), 3)] * 2
    assert all(torch.equal(wanted[:, 2], torch.zeros(len(labels))) for wanted in targets)
    assert all(wanted.sum(1).sub(1).abs().max() < 1e-6 for wanted in targets)
    assert [r["top1"] is not None for r in rows(folder) if "and teacher" in r["method"]] == [True, True]


def test_no_label_outside_the_budgets_is_seen(
    taught: tuple[Path, list[Tensor]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load(f"folder:{data}", image_size=12)
    chosen = {n: setup.budget(whole, n, torch.empty(0).long(), seed=0, balanced=True)[0] for n in (6, 15)}

    def scrambled(*given: Any, **more: Any) -> Dataset:
        dataset = load(*given, **more)
        wrong = (dataset.train.labels + 1) % 3
        wrong[chosen[15]] = dataset.train.labels[chosen[15]]
        return replace(dataset, train=replace(dataset.train, labels=wrong))

    monkeypatch.setattr(bench, "budget", lambda _, labels, *__, **___: (chosen[labels], torch.empty(0)))
    monkeypatch.setattr(setup, "load", scrambled)
    again = study(data, tmp_path)
    assert timeless(rows(again)) == timeless(rows(taught[0]))
    for cell in ("student-hpca-6-s0", "student-beside-15-s0"):
        assert equal(weights(again / "cells" / cell), weights(taught[0] / "cells" / cell))
    probe = next(r for r in rows(again) if (r["method"], r["labels"], r["depth"]) == ("HPCA probe", 15, None))
    kept = load_file(again / "cells" / "frozen-hpca-s0" / "scores.safetensors")["15"]
    assert topk_accuracy(kept, whole.test.labels) == probe["top1"]


def test_what_makes_no_sense(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no probe to learn from"):
        StudyOptions(methods=["hpca"], student=True, probe=False)
    words = ("--data", f"folder:{data}", "--methods", "hpca", "--budgets", "6", "--student", "--out", tmp_path / "x")
    assert "vgg11" in fails(capsys, 1, "study", *NET, *words, "--student-model", "vgg11", "--image-size", "8")
    assert not (tmp_path / "x").exists()
