"""Methods and seeds added to a study: what there was is not measured again, what comes is as in a new study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import NET

from fasthebb.cli import main
from fasthebb.study.growth import grown

WORDS = (
    "study", *NET, "--data", "digits", "--budgets", "20", "--seeds", "0,1", "--epochs", "1", "--batch-size", "128",
    "--finetune-steps", "4", "--lr", "0.01", "--no-knn", "--quiet",
)  # fmt: skip
ADDED = ("--own", "{again: {is: hpca, rescale: true}}", "--whiten", "random", "--ensembles", "{two: [hpca, again]}")


def records(out: Path) -> list[dict[str, Any]]:
    timed = ("pretrain_seconds", "finetune_seconds", "peak_memory_mb")
    rows = json.loads((out / "results.json").read_text())
    return [{key: value for key, value in row.items() if key not in timed} for row in rows]


def test_added_methods_and_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, many, out = (
        ["--methods", "hpca", "--seeds", "0"],
        ["--methods", "random", "hpca", "again", *ADDED],
        tmp_path / "grown",
    )
    assert main([*WORDS, *few, "--out", str(out)]) == 0
    before = {file: file.stat().st_mtime_ns for file in out.glob("cells/*/records.json")}
    assert main([*WORDS, *many, "--out", str(out), "--resume"]) == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert main([*WORDS, *many, "--out", str(tmp_path / "whole")]) == 0
    assert records(out) == records(tmp_path / "whole")
    assert {r["method"] for r in records(out)} >= {"random probe", "HPCA probe", "again probe", "two probe"}
    assert main([*WORDS, *many, "--out", str(out), "--resume"]) == 0
    capsys.readouterr()
    assert main([*WORDS, *few, "--out", str(out), "--resume"]) == 1
    assert "holds a run with methods=['random', 'hpca', 'again'], not ['hpca']" in capsys.readouterr().err
    assert main([*WORDS, *many, "--seeds", "0", "--out", str(out), "--resume"]) == 1
    assert "holds a run with seeds=[0, 1], not [0]" in capsys.readouterr().err


BEFORE: dict[str, Any] = {
    "methods": ["a", "b"], "own": {"a": {"lr": 1}, "b": {"is": "base"}}, "rules": {"a": 1, "c": 3, "base": 0},
    "rates": {"a": 2}, "whiten": ["b"], "ensembles": {"both": ["a", "b"]}, "epochs": 1,
    "seeds": [4, 2], "budgets": ["1%", "9%"], "budget_seeds": {"9%": 2},
}  # fmt: skip


ABC, OWN = ["a", "b", "c"], BEFORE["own"]


@pytest.mark.parametrize(
    ("now", "fits"),
    [
        ({}, True),
        ({"methods": ["c", "a", "b"]}, True),
        ({"methods": ABC, "own": {"c": {}, **OWN}, "rules": {"a": 1, "d": 2, "base": 0}}, True),
        ({"methods": ABC, "whiten": ["b", "c"], "rates": {"a": 2, "c": 3}}, True),
        ({"methods": ABC, "rules": {"a": 1, "c": 4, "base": 0}}, True),
        ({"ensembles": {"both": ["a", "b"], "more": ["b"]}}, True),
        ({"own": {**OWN, "unused": {"is": "a"}}}, True),
        ({"seeds": [4, 2, 0]}, True),
        ({"seeds": [4, 2, 0], "budget_seeds": {"9%": 3, "1%": 2}}, True),
        ({"seeds": [4, 2, 0], "budget_seeds": {}}, True),
        ({"seeds": [4, 2, 0], "budget_seeds": {"9%": 1}}, False),
        ({"seeds": [4, 2, 0], "budget_seeds": {"9%": 2, "1%": 1}}, False),
        ({"seeds": [2, 4, 0]}, False),
        ({"seeds": [4]}, False),
        ({"seeds": [4], "budget_seeds": {"9%": 1}}, False),
        ({"methods": ["a"]}, False),
        ({"own": {**OWN, "a": {"lr": 2}}}, False),
        ({"own": {"b": OWN["b"]}}, False),
        ({"rules": {"a": 2, "c": 3, "base": 0}}, False),
        ({"rules": {"a": 1, "c": 3, "base": 1}}, False),
        ({"rates": {}}, False),
        ({"rates": {"a": 2, "b": 2}}, False),
        ({"whiten": []}, False),
        ({"whiten": ["a", "b"]}, False),
        ({"ensembles": {"both": ["a"]}}, False),
        ({"epochs": 2}, False),
    ],
)
def test_what_may_be_added(now: dict[str, Any], fits: bool) -> None:
    assert (grown(BEFORE, BEFORE | now) == BEFORE | now) == fits
