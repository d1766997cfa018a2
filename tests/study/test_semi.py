"""FixMatch in a study: it goes on from every net that is trained end to end, sees no other labels, and is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import NET, equal, weights, write_images

from fasthebb.cli import main
from fasthebb.data import load as load_images
from fasthebb.evaluation.results import load, summarise
from fasthebb.study import semi
from fasthebb.study.bench import Bench
from fasthebb.study.families import family
from fasthebb.study.kept import PICTURES
from fasthebb.study.options import StudyOptions
from fasthebb.study.verdict import hebbian, scratch

METHODS = ["hpca", "scratch"]
TITLES = {"hpca": ["HPCA fine-tuned", "HPCA student"], "scratch": ["scratch"]}


def study(data: Path, out: Path, *more: str) -> int:
    config = {"methods": METHODS, "student": True, "student_model": "tiny:net", "fixmatch_steps": 4}
    (out / "options.yaml").write_text(yaml.safe_dump(config))
    words = ("--data", f"folder:{data}", "--budgets", "6,15", "--seeds", "0", "--epochs", "1", "--batch-size", "16")
    rest = ("--finetune-steps", "4", "--no-knn", "--validation", "0.1", "--fixmatch-ratio", "1", "--no-both-twins")
    config = ("--config", str(out / "options.yaml"), "--out", str(out / "study"))
    return main(["study", *NET, *words, *rest, *config, "--width", "2", "--quiet", *more])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), each=20)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A study, and what every FixMatch of it began with."""
    begun: list[dict[str, Any]] = []
    real = semi.fixmatch

    def noted(model: Any, few: Any, weak: Any, strong: Any, **more: Any) -> Any:
        state = {name: value.clone() for name, value in model.state_dict().items()}
        begun.append({"state": state, "few": few, "weak": weak, "strong": strong, **more})
        return real(model, few, weak, strong, **more)

    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semi, "fixmatch", noted)
        assert study(data, out) == 0
    return out / "study", begun


def test_every_net_goes_on_from_where_it_was(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    path, begun = whole
    cells = [
        cell for kind in ("student-hpca", "finetune-hpca", "scratch-backprop") for cell in (f"{kind}-6", f"{kind}-15")
    ]
    assert len(begun) == len(cells) == 6
    for cell, one in zip(cells, begun, strict=True):
        assert equal(one["state"], weights(path / "cells" / f"{cell}-s0"))
        assert not equal(one["state"], weights(path / "cells" / f"fixmatch-{cell}-s0"))
        assert one["steps"] == 4


def test_what_it_sees(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    """The labels of the budget alone, and the images of pre-training with the labelled ones."""
    for one in whole[1]:
        few, weak, strong = (set(one[name].indices.tolist()) for name in ("few", "weak", "strong"))
        assert len(few) in (6, 15)
        assert few <= weak == strong
        assert len(weak) == 44  # of 48, four of which are set aside
        assert [one[name].augment for name in ("few", "weak", "strong")] == ["light", "light", "hard"]


def test_it_also_sees_labelled_images_that_are_set_aside(data: Path) -> None:
    options = StudyOptions(methods=["hpca"], budgets=["6", "1.0"], seeds=[0], validation=0.1)
    dataset = load_images(f"folder:{data}", image_size=12)
    bench = Bench(options.method("hpca"), dataset, None, torch.device("cpu"), None, 0)  # type: ignore[arg-type]
    assert len(bench.images) == 44
    assert semi.seen(bench, 6).tolist() == bench.images.tolist()
    assert semi.seen(bench, 48).tolist() == list(range(48))


def test_records(whole: tuple[Path, list[dict[str, Any]]]) -> None:
    records, _ = load(whole[0])
    teacher = [r for r in records if r.method == "HPCA student FixMatch and teacher"]
    assert sorted(r.labels for r in teacher) == [6, 15]
    assert {family(row) for row in summarise(teacher)} == {("HPCA", "HPCA")}
    for title in (title for titles in TITLES.values() for title in titles):
        found = [r for r in records if r.method == f"{title} FixMatch"]
        before = {r.labels: r for r in records if r.method == title and r.depth is None}
        assert sorted(r.labels for r in found) == [6, 15]
        for r in found:
            assert (r.finetune_seconds or 0) > (before[r.labels].finetune_seconds or 0)
            assert r.pretrain_seconds == before[r.labels].pretrain_seconds
            assert r.rule == before[r.labels].rule
    rows = [row for row in summarise(records) if "FixMatch" in row.method]
    assert {family(row)[0] for row in rows} == {"HPCA", "scratch"}
    assert {row.method for row in rows if scratch(row)} == {"scratch FixMatch"}
    assert all(hebbian(row) != scratch(row) for row in rows)


def test_none_unless_wanted(data: Path, whole: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    assert study(data, tmp_path, "--fixmatch-steps", "0") == 0
    assert not list((tmp_path / "study" / "cells").glob("fixmatch-*"))
    plain, both = (
        {(r.method, r.labels): r.top1 for r in load(path)[0] if "FixMatch" not in r.method and r.depth is None}
        for path in (tmp_path / "study", whole[0])
    )
    assert plain == both


def test_resumed(data: Path, whole: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    assert study(data, tmp_path) == 0
    cell = tmp_path / "study" / "cells" / "fixmatch-student-hpca-6-s0"
    want = json.loads((cell / "records.json").read_text())[0]["top1"]
    (cell / "records.json").unlink()
    (cell / "checkpoints" / "last.pt").unlink()
    (tmp_path / "study" / PICTURES).unlink()
    assert study(data, tmp_path, "--resume") == 0
    assert json.loads((cell / "records.json").read_text())[0]["top1"] == want


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fixmatch-steps", "-1"), "--fixmatch-steps -1: give 0 or more"),
        (("--fixmatch-ratio", "0"), "--fixmatch-ratio 0: give 1 or more"),
        (("--fixmatch-lr", "0"), "--fixmatch-lr 0.0: give a number above 0"),
    ],
)
def test_mistakes(
    data: Path, tmp_path: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(data, tmp_path, *words) == 2
    assert message in capsys.readouterr().err
