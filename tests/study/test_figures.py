"""Figures: well-formed SVG that fits into a page, the numbers in words, families in their colours."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_report import cells, write

from fasthebb.evaluation.results import Record, Summary, summarise
from fasthebb.study import figures, insides
from fasthebb.study.canvas import COLOURS, require_matplotlib, spread
from fasthebb.study.families import family, leaders, line_up, readout

pytest.importorskip("matplotlib")


def rows(seeds: int = 3) -> list[Summary]:
    return summarise(
        [
            Record(
                "digits",
                method,
                rule,
                labels,
                labels / 1437,
                seed,
                depth,
                base + seed + depth_gain,
                None,
                9.0,
                1.5,
                None,
            )
            for method, rule, base in (("hpca", "HPCA", 60.0), ("<scratch> & $x_2$", "", 55.0))
            for labels in (10, 1149)
            for depth, depth_gain in ((None, 0.0), (1, 1.0), (2, 2.0))
            for seed in range(seeds)
        ]
    )


def check(svg: str) -> str:
    """Parse the SVG, hold what a page needs of it, and return its description."""
    root = ET.fromstring(svg)
    assert root.tag == "svg"
    assert root.get("role") == "img"
    assert root.get("viewBox")
    assert not {"width", "height"} & set(root.keys())
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    used = re.findall(r'(?:href="#|url\(#)([\w-]+)', svg)
    assert len(ids) == len(set(ids))
    assert set(used) <= set(ids)
    assert "http" not in svg
    assert "<style" not in svg
    assert "currentColor" in svg
    assert "#010203" not in svg
    return root.get("aria-label") or ""


def words(svg: str) -> set[str]:
    return {node.text.strip() for node in ET.fromstring(svg).iter("text") if node.text}


def test_accuracy_against_labels_has_plain_ticks_and_a_legend() -> None:
    svg = figures.accuracy_against_labels(rows())
    assert "hpca: 61.0 ± 2.5 at 10, 61.0 ± 2.5 at 1149" in check(svg)
    assert {"10", "1149", "hpca", "hpca + probe (depth 2)", "<scratch> & $x_2$", "top-1 accuracy, %"} <= words(svg)


def test_accuracy_against_seconds_and_depth_have_a_figure_per_budget() -> None:
    by_time, by_depth = figures.accuracy_against_seconds(rows()), figures.accuracy_by_depth(rows())
    assert list(by_time) == [10, 1149]
    assert list(by_depth) == [(kind, labels) for kind in ("probe", "end to end") for labels in (10, 1149)]
    assert "hpca: 61.0 ± 2.5 after 10.5 s" in check(by_time[10])
    assert "hpca + probe (depth 2): 63.0 ± 2.5" in check(by_depth["probe", 10])
    assert {"1", "2", "hpca", "depth of the read-out"} <= words(by_depth["probe", 10])


def test_one_seed_one_budget_and_missing_values_are_drawn() -> None:
    one = [row for row in rows(seeds=1) if row.labels == 10]
    check(figures.accuracy_against_labels(one))
    hole = Record("digits", "hpca", "HPCA", 50, 0.05, 0, None, None, None, None, None, None)
    holed = summarise([hole, Record("digits", "hpca", "HPCA", 10, 0.01, 0, None, 40.0, None, None, None, None)])
    assert "50" not in check(figures.accuracy_against_labels(holed)).split("hpca:")[1].replace("40.0", "")
    assert figures.accuracy_against_seconds(holed) == {}
    assert figures.accuracy_by_depth(holed) == {}


def test_the_same_drawing_gives_the_same_text() -> None:
    assert figures.accuracy_against_labels(rows()) == figures.accuracy_against_labels(rows())


def test_a_method_keeps_its_colour() -> None:
    curves = {"b": [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.5}]}
    (svg,) = insides.training_curves(curves, methods=["a", "b"]).values()
    assert COLOURS[1].lower() in svg.lower()
    assert COLOURS[0].lower() not in svg.lower()


def test_training_curves_take_every_numeric_metric() -> None:
    curves = {
        "hpca": [{"step": n, "loss": 2.0 / (n + 1), "stage": "x", "seed": 1, "done": True} for n in range(3000)],
        "swta": [{"step": 0, "loss": 3.0}, {"step": 9, "loss": 1.0, "top1": 40.0}, {"step": 10, "top1": 50.0}],
        "empty": [],
    }
    found = insides.training_curves(curves)
    assert list(found) == ["loss", "top1"]
    assert "loss by step. hpca: 2 to" in check(found["loss"])
    assert len(found["loss"]) < 60_000
    assert {"hpca", "swta", "step"} <= words(found["loss"])
    assert "empty" not in words(found["loss"])
    assert insides.training_curves({}) == {}


def test_curves_without_steps_count_epochs_or_rows() -> None:
    (epochs,) = insides.training_curves({"a": [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.9}]}).values()
    (plain,) = insides.training_curves({"a": [{"loss": 1.0}, {"loss": 0.9}]}).values()
    assert "epoch" in words(epochs)
    assert "row" in words(plain)


def test_unit_usage_counts_the_unused_by_run() -> None:
    usage = {"hpca/conv1": np.array([3.0, 0.0, 1.0, np.nan]), "swta/conv1": np.ones(5), "fc": np.zeros(3)}
    found = insides.unit_usage(usage)
    assert list(found) == ["hpca", "swta", ""]
    assert "conv1: 2 of 4 unused" in check(found["hpca"])
    assert "conv1: 0 of 5 unused" in check(found["swta"])
    assert "fc: 3 of 3 unused" in check(found[""])


def test_entropy_is_a_share_of_that_of_equal_use() -> None:
    shares = np.array([0.5, 0.25, 0.25, 0.0])
    expected = -sum(p * np.log(p) for p in (0.5, 0.25, 0.25)) / np.log(4) * 100
    assert insides.winner_entropy(shares) == pytest.approx(expected)
    assert insides.winner_entropy(np.full(7, 0.3)) == pytest.approx(100)
    assert np.isnan(insides.winner_entropy(np.zeros(3)))
    assert np.isnan(insides.winner_entropy(np.ones(1)))
    usage = {"hpca/conv1": shares, "hpca/fc": np.ones(5), "swta/fc": np.array([1.0, 0.0])}
    svg = insides.entropy_by_layer(usage, ["swta", "hpca"])
    assert "hpca: conv1 75, fc 100; swta: fc 0." in check(svg)
    assert {"conv1", "fc", "hpca", "swta"} <= words(svg)


def many(families: int) -> list[Summary]:
    """Four read-outs of each family; the SVM is best where all were measured, kNN at a budget of its own."""
    read = {"probe": 1.0, "kNN": 0.0, "SVM": 2.0, "fine-tuned": -1.0}
    one = Record("digits", "", "", 10, 0.1, 0, None, 0.0, None, None, None, None)
    found = [
        replace(one, method=f"m{number} {kind}", labels=labels, top1=50 - number + gain)
        for number in range(families)
        for kind, gain in read.items()
        for labels in (10, 100)
    ]
    return summarise([*found, *(replace(one, method=f"m{n} kNN", labels=1000, top1=99.0) for n in range(families))])


def test_a_family_is_a_method_without_its_read_out() -> None:
    rows = many(2)
    assert line_up(rows) == [("m0", ""), ("m1", "")]
    assert {readout(row) for row in rows} == {"probe", "kNN", "SVM", "end to end"}
    assert family(replace(rows[0], method="scratch (backprop twin)"))[0] == "scratch (backprop twin)"
    assert family(replace(rows[0], method="k-means patches probe", rule="r")) == ("k-means patches", "r")
    assert family(replace(rows[0], method="probe"))[0] == "probe"
    assert readout(replace(rows[0], method="hpca", depth=2)) == "probe"


def test_eight_lines_are_all_drawn_and_of_more_the_best_of_each_family() -> None:
    assert leaders(many(2)) == many(2)
    led = leaders(many(6))
    assert {row.method for row in led} == {f"m{number} SVM" for number in range(6)}
    svg = figures.accuracy_against_labels(many(6))
    assert "m5 SVM: 47.0 at 10" in check(svg)
    assert "m5 probe" not in svg


def test_twelve_families_keep_their_colours_and_differ_by_marker() -> None:
    rows = many(12)
    families = line_up(rows)
    tenth = [row for row in rows if row.method == "m9 SVM"]
    assert COLOURS[1].lower() in figures.accuracy_against_labels(tenth, families).lower()
    assert COLOURS[0].lower() not in figures.accuracy_against_labels(tenth, families).lower()
    check(figures.accuracy_against_labels(rows, families))
    laps = [(number % 8, figures.MARKERS[(number % 8 + 3 * (number // 8)) % 8]) for number in range(24)]
    assert len(set(laps)) == 24


def test_crowded_ticks_make_room() -> None:
    assert spread([500, 1000, 1500, 2000, 2500, 5000, 12500, 50000]) == [500, 1500, 2500, 5000, 12500, 50000]
    assert spread([10]) == [10]


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"pip install 'fasthebb\[plots\]'"):
        require_matplotlib()
    with pytest.raises(ValueError, match="matplotlib"):
        figures.accuracy_against_labels(rows())


def test_students_their_teachers_and_fixmatch_can_be_told_apart() -> None:
    (first, *_) = [row for row in rows() if row.depth is None]
    kinds = ("student", "student and teacher", "student FixMatch", "student FixMatch and teacher")
    drawn = {figures.accuracy_against_labels([replace(first, method=f"hpca {kind}", name="one")]) for kind in kinds}
    assert len(drawn) == 4


def test_one_depth_is_not_drawn_by_depth(tmp_path: Path) -> None:
    one = [*cells("hpca probe", "HPCA", {10: (70.0,)}), *cells("hpca probe", "HPCA", {10: (70.0,)}, depth=3)]
    assert 'id="depth-by-depth"' not in write(tmp_path, one)[0]
    assert 'id="depth-by-depth"' in write(tmp_path, [*one, *cells("hpca probe", "HPCA", {10: (60.0,)}, depth=1)])[0]
