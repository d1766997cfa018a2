"""The report page: its verdict follows the numbers, its tables hold them, and it loads nothing from anywhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fasthebb.evaluation.results import Record, summarise
from fasthebb.study.report import write_report
from fasthebb.study.verdict import contests, headline, marks, shown

VOID = {"meta", "link", "img", "br"}
WORDS: dict[str, Any] = {"filters": {}, "curves": {}, "usage": {}, "environment": {}, "commands": []}


def cells(method: str, rule: str, accuracy: dict[int, Iterable[float]], depth: int | None = None) -> list[Record]:
    return [
        Record("digits", method, rule, labels, labels / 1000, seed, depth, top1, 99.5, 4.0, 1.0, 120.0)
        for labels, tops in accuracy.items()
        for seed, top1 in enumerate(tops)
    ]


def study() -> list[Record]:
    return [
        *cells("hpca", "HPCA", {10: (70.0, 71.0, 72.0), 500: (95.0, 95.1, 95.2)}),
        *cells("hpca", "HPCA", {10: (74.0, 76.0, 75.0), 500: (93.0, 93.1, 93.2)}, depth=1),
        *cells("hpca", "HPCA", {10: (66.0, 67.0, 68.0), 500: (91.0, 91.1, 91.2)}, depth=2),
        *cells("random features", "", {10: (60.0, 61.0, 62.0), 500: (90.0, 90.1, 90.2)}, depth=1),
        *cells("scratch", "", {10: (65.0, 66.5, 66.0), 500: (97.0, 97.2, 97.1)}),
        *cells("scratch (backprop twin)", "", {10: (60.0, 64.0, 62.0), 500: (97.1, 97.0, 97.2)}),
    ]


class Page(HTMLParser):
    """Collects text, tags and what the page points at; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += data.replace("\xa0", " ")


def write(folder: Path, records: list[Record], title: str = "Digits", **words: Any) -> tuple[str, Page]:
    path = write_report(folder, records, title=title, **{**WORDS, **words})
    assert path == folder / "report.html"
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_the_page_holds_the_numbers_and_loads_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curves = {"hpca": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]}
    text, page = write(
        tmp_path / "new" / "run",
        study(),
        filters={"hpca": np.random.default_rng(0).normal(size=(8, 3, 5, 5)), "odd": np.zeros((4, 75))},
        curves=curves,
        usage={"hpca/conv1": np.array([0.5, 0.5, 0.0])},
        environment={"torch": "2.13", "config": {"width": 0.25}},
        commands=["make demo", "fasthebb study --recipe digits"],
    )
    for words in (
        *("71.0 ± 2.5", "75.0 ± 2.5", "hpca + probe (depth 1)", "10 labels", "1 %", "+9.2 ± 0.7", "5.0 ± 0.0", "120"),
        *("2.13", '{"width": 0.25}', "make demo\nfasthebb study --recipe digits", "filters must be", "63 %", "99.5"),
    ):
        assert words in page.words, words
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "base")
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes
    assert not re.search(r"url\((?!#)|@import|https?:", text)
    assert sum(tag == "svg" for tag, _ in page.tags) == 7
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg")
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_user_text_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>&\"$title"
    records = cells(evil, evil, {10: (1.0, 2.0)}) + cells("scratch " + evil, "", {10: (1.0, 2.0)})
    text, page = write(
        tmp_path,
        records,
        title=evil,
        filters={evil: np.ones((2, 1, 3, 3))},
        curves={evil: [{"loss": 1.0, evil: 2.0}, {"loss": 2.0, evil: 3.0}]},
        usage={evil: np.ones(3)},
        environment={evil: evil, "list": [evil]},
        commands=[evil],
    )
    assert "<script" not in text
    assert "<title>&lt;script&gt;" in text
    assert page.words.count(evil) >= 6


def test_headline_names_the_gap_its_interval_and_where_it_turns() -> None:
    records = study()
    assert headline(records, shown(summarise(records))) == (
        "At 10 labels hpca + probe (depth 1) reaches 75.0 ± 2.5 %, 9.2 points above training from scratch "
        "(scratch: 65.8 ± 1.9 %). Paired over 3 seeds the difference is +9.2 ± 0.7 points. Budget by budget, the best "
        "Hebbian method is clearly above training from scratch at 10 labels; clearly below it at 500."
    )


def test_headline_is_honest_when_hebbian_is_not_above() -> None:
    below = cells("hpca", "HPCA", {10: (50.0, 52.0)}) + cells("scratch", "", {10: (55.0, 51.0)})
    said = headline(below, shown(summarise(below)))
    assert said.startswith(
        "At 10 labels no Hebbian method beats training from scratch: the best of them, hpca, reaches"
    )
    assert "2.0 points below (scratch: 53.0 ± 25.4 %)." in said
    assert said.endswith("the difference is −2.0 ± 38.1 points, an interval that includes zero.")
    twice = below + [replace(record, labels=50) for record in below]
    assert headline(twice, summarise(twice)).endswith(
        "At every budget the best Hebbian method is not distinguishable from training from scratch."
    )
    level = cells("hpca", "HPCA", {10: (50.0,)}) + cells("scratch", "", {10: (50.0,)})
    said = headline(level, shown(summarise(level)))
    assert "level with it (scratch: 50.0 %). Fewer than two seeds measured both" in said


def test_headline_of_seeds_that_do_not_meet() -> None:
    records = cells("hpca", "HPCA", {10: (60.0,), 50: (70.0,)})
    records += [replace(record, seed=7) for record in cells("scratch", "", {10: (50.0,), 50: (75.0,)})]
    said = headline(records, summarise(records))
    assert "10.0 points above training from scratch (scratch: 50.0 %). Fewer than two seeds" in said
    assert said.endswith("above training from scratch (no interval) at 10 labels; below it (no interval) at 50.")


def test_headline_without_scratch_and_without_numbers() -> None:
    random = cells("hpca", "HPCA", {10: (70.0, 71.0)}) + cells("random features", "HPCA", {10: (60.0, 61.5)})
    assert "9.8 points above the best method without a Hebbian rule (random features" in headline(
        random, summarise(random)
    )
    alone = cells("hpca", "HPCA", {10: (70.0,)})
    assert headline(alone, summarise(alone)).startswith("At 10 labels hpca leads with 70.0 %")
    assert headline([], []) == "No accuracy was measured yet."


def test_one_probe_depth_for_all_budgets_and_ties_by_pairs() -> None:
    records = study()
    rows = shown(summarise(records))
    assert [(row.method, row.depth) for row in rows if row.labels == 10] == [
        ("hpca", None),
        ("hpca", 1),
        ("random features", 1),
        ("scratch", None),
        ("scratch (backprop twin)", None),
    ]
    found = marks(records, rows)
    scratch, twin = ("scratch", "", None), ("scratch (backprop twin)", "", None)
    assert {found[scratch, 500], found[twin, 500]} == {"best", "tie"}
    assert found[("hpca", "HPCA", 1), 10] == "best"
    assert (scratch, 10) not in found
    assert next(fight.theirs.method for fight in contests(records, rows)) == "scratch"


def test_one_seed_missing_values_and_nothing_at_all(tmp_path: Path) -> None:
    one = [*cells("hpca", "HPCA", {10: (70.0,)}), *cells("scratch", "", {50: (80.0,)})]
    one.append(Record("digits", "hpca", "HPCA", 50, 0.05, 0, None, None, None, None, None, None))
    _, page = write(tmp_path, one)
    assert "1 seed." in page.words
    assert "70.0" in page.words
    assert "nan" not in page.words.lower()
    _, page = write(tmp_path, [])
    assert "No accuracy was measured yet." in page.words
    unmeasured = [Record("digits", "hpca", "HPCA", 50, 0.05, 0, 1, None, None, None, None, None)]
    _, page = write(tmp_path, unmeasured)
    assert "No accuracy was measured yet." in page.words


def test_without_matplotlib_the_tables_stand_and_say_how_to_get_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    curves = {"hpca": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]}
    filters = {"hpca": np.ones((2, 3, 5, 5))}
    _, page = write(tmp_path, study(), curves=curves, usage={"conv1": np.ones(4)}, filters=filters)
    assert "pip install 'fasthebb[plots]'" in page.words
    assert "75.0 ± 2.5" in page.words
    assert not any(tag == "svg" for tag, _ in page.tags)
    assert any(tag == "img" for tag, _ in page.tags)


def test_several_data_sets_are_refused(tmp_path: Path) -> None:
    other = Record("mnist", "hpca", "HPCA", 10, 0.1, 0, None, 50.0, None, None, None, None)
    with pytest.raises(ValueError, match=r"several data sets \(digits, mnist\)"):
        write(tmp_path, [*study(), other])
    assert list(tmp_path.iterdir()) == []
