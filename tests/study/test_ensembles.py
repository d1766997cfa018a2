"""Ensembles: scores that cells keep, and their means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import NET

from fasthebb.cli import main
from fasthebb.data import load
from fasthebb.evaluation import topk_accuracy
from fasthebb.evaluation.results import Record, summarise
from fasthebb.study.ensembles import Scores, depth_of
from fasthebb.study.options import StudyOptions
from fasthebb.study.verdict import hebbian, shown

ENSEMBLES = {"both rules": ["hpca", "swta"], "all three": ["hpca", "swta", "noise"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ensembles")
    own = {"noise": {"is": "random", "title": "random net"}}
    config = {"methods": ["hpca", "swta", "noise"], "own": own, "ensembles": ENSEMBLES, "seeds": [0, 1]}
    (out / "options.yaml").write_text(yaml.safe_dump(config))
    words = ("--data", "digits", "--budgets", "20,50", "--max-steps", "2", "--no-knn", "--no-finetune", "--quiet")
    assert main(["study", *NET, *words, "--config", str(out / "options.yaml"), "--out", str(out / "study")]) == 0
    return out / "study"


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return found


def scores(folder: Path, method: str, seed: int, labels: int) -> torch.Tensor:
    return load_file(folder / "cells" / f"frozen-{method}-s{seed}" / "scores.safetensors")[str(labels)]


def test_a_cell_keeps_the_scores_behind_its_accuracy(folder: Path) -> None:
    truth = load("digits", image_size=12).test.labels
    for r in rows(folder):
        names = {"HPCA probe": "hpca", "SWTA probe": "swta", "random net probe": "noise"}
        if r["depth"] is None and r["method"] in names:
            own = scores(folder, names[r["method"]], r["seed"], r["labels"])
            assert own.dtype == torch.float32
            assert topk_accuracy(own, truth) == r["top1"]
            assert topk_accuracy(own, truth, 5) == r["top5"]


def test_an_ensemble_is_the_mean_of_its_members(folder: Path) -> None:
    truth = load("digits", image_size=12).test.labels
    found = [r for r in rows(folder) if r["method"] in ("both rules probe", "all three probe")]
    assert len(found) == 8, "two ensembles, two budgets, two seeds"
    seconds = {(r["method"], r["seed"]): r["pretrain_seconds"] for r in rows(folder) if r["depth"] is None}
    for r in found:
        members = ENSEMBLES[r["method"].removesuffix(" probe")]
        mean = sum(scores(folder, member, r["seed"], r["labels"]) for member in members) / len(members)
        assert r["top1"] == pytest.approx(topk_accuracy(mean, truth), abs=0.3), "but for ties that rounding breaks"
        assert r["rule"] == ("HPCA+SoftWTA" if len(members) == 2 else "")
        assert r["fraction"] == pytest.approx(r["labels"] / 1437)
        assert r["pretrain_seconds"] == pytest.approx(
            seconds["HPCA probe", r["seed"]] + seconds["SWTA probe", r["seed"]]
        )
        assert r["finetune_seconds"] is None


def test_it_stands_in_the_table_and_the_page(folder: Path) -> None:
    table = shown(summarise([Record(**r) for r in rows(folder)]))
    kinds = {row.method: hebbian(row) for row in table}
    assert (kinds["both rules probe"], kinds["all three probe"]) == (True, False), "one member follows no rule"
    assert "both rules probe" in (folder / "report.html").read_text()


def test_the_depth_of_least_error_is_kept(tmp_path: Path) -> None:
    kept = Scores("probe")
    for name, depth, error in (
        ("probe", 1, 0.5),
        ("knn", 1, 0.1),
        ("probe", 2, 0.3),
        ("probe", 3, 0.3),
        ("probe together", 0, 0.0),
    ):
        kept(name, 20, depth, error, torch.full((2, 3), float(depth)))
    kept.save(tmp_path)
    assert torch.equal(load_file(tmp_path / "scores.safetensors")["20"], torch.full((2, 3), 2.0))
    assert depth_of(tmp_path, 20) == 2


@pytest.mark.parametrize(
    ("ensembles", "said"),
    [
        ({"x": ["hpca"]}, "name two methods or more"),
        ({"x": ["hpca", "hpca"]}, "each once"),
        ({"x": ["hpca", "oja"]}, "method 'oja' is unknown"),
        ({"x": ["hpca", "scratch"]}, "scratch has no probe"),
        ({"x": ["hpca", "mute"]}, "mute has no probe"),
        ({"x": ["hpca", "adam"]}, "scores of adam and ridge probes have no common scale"),
        ({"HPCA": ["hpca", "swta"]}, "a method is called so"),
        ({"best probe": ["hpca", "swta"]}, "has the word probe"),
    ],
)
def test_what_makes_no_sense(ensembles: Any, said: str) -> None:
    own = {"mute": {"is": "hpca", "probe": False}, "adam": {"is": "hpca", "probe_method": "adam"}}
    with pytest.raises(ValueError, match=said):
        StudyOptions(methods=["hpca", "swta", "mute", "adam", "scratch"], own=own, ensembles=ensembles)
