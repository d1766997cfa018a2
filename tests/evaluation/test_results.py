"""The records of a study: files and back, intervals against scipy, summaries, paired differences."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fasthebb.evaluation.results import FIELDS, Record, interval, load, paired, save, summarise


def record(**fields: object) -> Record:
    base = Record("digits", "hpca", "HPCA", 10, 0.1, 0, None, 80.0, 99.0, 2.0, 1.0, 100.0)
    return replace(base, **fields)  # type: ignore[arg-type]


def test_files_hold_exactly_the_fields_and_come_back(tmp_path: Path) -> None:
    records = [record(), record(depth=3, top1=None, pretrain_seconds=math.nan, method='a "b", ü')]
    save(tmp_path / "run", records, {"torch": "2.13", "nested": {"rate": math.inf}})
    with (tmp_path / "run" / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(FIELDS)
    assert rows[1] == ["digits", "hpca", "HPCA", "10", "0.1", "0", "", "80.0", "99.0", "2.0", "1.0", "100.0"]
    assert rows[2][1] == 'a "b", ü'
    assert rows[2][7] == rows[2][9] == ""
    written = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert [list(row) for row in written] == [list(FIELDS)] * 2
    back, environment = load(tmp_path / "run")
    assert back == [records[0], replace(records[1], pretrain_seconds=None)]
    assert environment == {"torch": "2.13", "nested": {"rate": None}}


def test_a_failed_save_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save(tmp_path, [record()], {"device": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "no such file"), ("[", "not JSON"), ("{}", "list of records"), ('[{"seed": 1}]', "record 0 needs exactly")],
)
def test_unreadable_results_name_the_file(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=says) as problem:
        load(tmp_path)
    assert "results.json" in str(problem.value)
    assert "\n" not in str(problem.value)


def test_environment_may_be_missing(tmp_path: Path) -> None:
    save(tmp_path, [record()], {})
    (tmp_path / "environment.json").unlink()
    assert load(tmp_path) == ([record()], {})


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_interval_is_scipys(n: int) -> None:
    values = np.random.default_rng(n).normal(50, 10, n)
    mean, half = interval(values.tolist())
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-10)


def test_interval_of_little() -> None:
    assert interval([7.0]).mean == 7.0
    assert math.isnan(interval([7.0]).half_width)
    assert math.isnan(interval([]).mean)
    assert interval([None, math.nan, 3.0, 3.0]) == (3.0, 0.0)
    assert [str(interval(values)) for values in ([], [7.0], [6.0, 8.0])] == ["–", "7.0", "7.0 ± 12.7"]


def test_summaries_group_by_method_rule_depth_and_budget() -> None:
    records = [
        record(seed=seed, labels=labels, depth=depth, method=method, rule=rule, top1=50.0 + seed, finetune_seconds=None)
        for method, rule in (("swta", "SoftWTA"), ("hpca", "HPCA"))
        for labels in (50, 10)
        for depth in (2, None, 1)
        for seed in range(3)
    ]
    rows = summarise(records)
    assert [(row.method, row.depth, row.labels) for row in rows] == [
        (method, depth, labels) for method in ("swta", "hpca") for depth in (None, 1, 2) for labels in (10, 50)
    ]
    assert [row.name for row in rows[:3:2]] == ["swta", "swta + probe (depth 1)"]
    assert all(row.n == 3 and row.top1 == interval([50, 51, 52]) and row.seconds == (2.0, 0.0) for row in rows)


def test_summaries_leave_out_what_was_not_measured() -> None:
    row = summarise([record(top1=None, pretrain_seconds=None, finetune_seconds=None), record(seed=1)])[0]
    assert (row.n, row.top1.mean, row.seconds.mean, row.memory.mean) == (1, 80.0, 3.0, 100.0)
    assert summarise([]) == []


def test_names_tell_rules_apart_where_a_method_has_two() -> None:
    rows = summarise([record(), record(rule="SoftWTA", depth=1), record(method="hpca-probe", depth=2)])
    assert [row.name for row in rows] == ["hpca [HPCA]", "hpca [SoftWTA] + probe (depth 1)", "hpca-probe (depth 2)"]


def test_differences_pair_the_seeds() -> None:
    records = [record(seed=seed, top1=80.0 + 10 * seed + seed % 2) for seed in range(4)]
    records += [record(method="scratch", rule="", seed=seed, top1=78.0 + 10 * seed) for seed in (3, 1, 0)]
    records += [record(method="scratch", rule="", labels=50), record(seed=9, labels=50, top1=None)]
    (gap,) = paired(records, "hpca", "scratch")
    assert (gap.labels, gap.by_seed) == (10, {0: 2.0, 1: 3.0, 3: 3.0})
    assert gap.estimate == interval([2.0, 3.0, 3.0])
    assert gap.clear
    test = stats.ttest_rel([80.0, 91.0, 111.0], [78.0, 88.0, 108.0])
    assert gap.clear == (test.pvalue < 0.05)
    (same,) = paired(records, ("hpca", "HPCA", None), ("scratch", "", None))
    assert same == gap


def test_one_pair_is_never_clear_and_two_accuracies_are_refused() -> None:
    (gap,) = paired([record(), record(method="scratch", top1=1.0)], "hpca", "scratch")
    assert gap.estimate.mean == 79.0
    assert not gap.clear
    with pytest.raises(ValueError, match="two accuracies at 10 labels, seed 0"):
        paired([record(), record(rule="other"), record(method="scratch")], "hpca", "scratch")
