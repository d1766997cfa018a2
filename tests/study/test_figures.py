"""Figures: well-formed SVG that fits into a page, the numbers in words, filter grids pixel by pixel."""

from __future__ import annotations

import base64
import io
import re
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fasthebb.evaluation.results import Record, Summary, summarise
from fasthebb.study import figures
from fasthebb.study.canvas import require_matplotlib, spread

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
    assert list(by_time) == list(by_depth) == [10, 1149]
    assert "hpca: 61.0 ± 2.5 after 10.5 s" in check(by_time[10])
    assert "hpca + probe (depth 2): 63.0 ± 2.5" in check(by_depth[10])
    assert {"1", "2", "depth of the probe"} <= words(by_depth[10])


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
    (svg,) = figures.training_curves(curves, methods=["a", "b"]).values()
    assert figures.COLOURS[1].lower() in svg.lower()
    assert figures.COLOURS[0].lower() not in svg.lower()


def test_training_curves_take_every_numeric_metric() -> None:
    curves = {
        "hpca": [{"step": n, "loss": 2.0 / (n + 1), "stage": "x", "seed": 1, "done": True} for n in range(3000)],
        "swta": [{"step": 0, "loss": 3.0}, {"step": 9, "loss": 1.0, "top1": 40.0}, {"step": 10, "top1": 50.0}],
        "empty": [],
    }
    found = figures.training_curves(curves)
    assert list(found) == ["loss", "top1"]
    assert "loss by step. hpca: 2 to" in check(found["loss"])
    assert len(found["loss"]) < 60_000
    assert {"hpca", "swta", "step"} <= words(found["loss"])
    assert "empty" not in words(found["loss"])
    assert figures.training_curves({}) == {}


def test_curves_without_steps_count_epochs_or_rows() -> None:
    (epochs,) = figures.training_curves({"a": [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.9}]}).values()
    (plain,) = figures.training_curves({"a": [{"loss": 1.0}, {"loss": 0.9}]}).values()
    assert "epoch" in words(epochs)
    assert "row" in words(plain)


def test_unit_usage_counts_the_dead_by_run() -> None:
    usage = {"hpca/conv1": np.array([3.0, 0.0, 1.0, np.nan]), "swta/conv1": np.ones(5), "fc": np.zeros(3)}
    found = figures.unit_usage(usage)
    assert list(found) == ["hpca", "swta", ""]
    assert "conv1: 2 of 4 dead" in check(found["hpca"])
    assert "conv1: 0 of 5 dead" in check(found["swta"])
    assert "fc: 3 of 3 dead" in check(found[""])


def pixels(uri: str) -> NDArray[np.uint8]:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_filters_are_stretched_one_by_one_and_enlarged_without_blur() -> None:
    weights = np.zeros((3, 3, 2, 2))
    weights[0, :, 0, 0], weights[1, 2] = -4.0, [[0.0, 1.0], [1.0, 2.0]]
    grid = pixels(figures.filter_grid(weights, scale=2))
    assert grid.shape == (4, 16, 4)
    assert grid[0:2, 0:2, :3].max() == 0
    assert grid[0:2, 2:4, :3].min() == 255
    assert np.array_equal(grid[0:4:2, 6:10:2, 2], [[0, 128], [128, 255]])
    assert grid[0, 12].tolist() == [128, 128, 128, 255]
    assert grid[:, 4:6, 3].max() == 0


def test_grey_filters_and_broken_ones() -> None:
    weights = np.arange(9.0).reshape(1, 1, 3, 3)
    grey = pixels(figures.filter_grid(weights, scale=1))
    assert np.array_equal(grey[..., 0], grey[..., 2])
    weights[0, 0, 1, 1] = np.inf
    assert np.all(pixels(figures.filter_grid(weights, scale=1))[..., :3] == 128)


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (4, 75), (0, 3, 5, 5)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"not {list(shape)}")):
        figures.filter_grid(np.zeros(shape))


def test_crowded_ticks_make_room() -> None:
    assert spread([500, 1000, 1500, 2000, 2500, 5000, 12500, 50000]) == [500, 1500, 2500, 5000, 12500, 50000]
    assert spread([10]) == [10]


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"pip install 'fasthebb\[plots\]'"):
        require_matplotlib()
    with pytest.raises(ValueError, match="matplotlib"):
        figures.accuracy_against_labels(rows())
