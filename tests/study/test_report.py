"""The report page: its verdict follows the numbers, its tables hold them, and it loads nothing from anywhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fasthebb.evaluation.results import Record, summarise
from fasthebb.study.exhibits import Strip
from fasthebb.study.report import write_report
from fasthebb.study.verdict import contests, headline, retrieves, shown

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
        environment={"torch": "2.13", "config": {"width": 0.25}, "test_images": 24, "memory_gib": 7.5, "gpu": None},
        commands=["make demo", "fasthebb study --recipe digits"],
    )
    for words in (
        "71.0 ± 2.5", "75.0 ± 2.5", "top-1 on the 24 test images (one is 4.2 points), mean", "hpca + probe (depth 1)",
        "10 labels", "1 %", "+9.2 ± 0.7", "5.0 ± 0.0", "120", "PyTorch2.13", "memory7.5 GiB", "test images24",
        '{"width": 0.25}', "make demo\nfasthebb study --recipe digits", "filters must be", "63 %", "99.5",
    ):  # fmt: skip
        assert words in page.words, words
    assert "GPU" not in page.words
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "base")
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes
    assert not re.search(r"url\((?!#)|@import|https?:", text)
    assert sum(tag == "svg" for tag, _ in page.tags) == 8
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg")
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert links == [f"#{name}" for name in sections]
    assert "unit-usage-and-winner-entropy" in sections
    assert "retrieval" not in sections


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


def test_retrieval_has_a_table_of_its_own_and_enters_nothing_else(tmp_path: Path) -> None:
    asked = [
        *cells("hpca retrieval mAP", "HPCA", {0: (98.0, 99.0)}, depth=1),
        *cells("hpca retrieval mAP", "HPCA", {0: (30.0, 31.0)}, depth=2),
        *cells("hpca retrieval P@10", "HPCA", {0: (97.25, 97.75)}, depth=1),
        *cells("random mAP 256 bit", "", {0: (88.75, 88.25)}),
    ]
    records = study() + asked
    assert all(retrieves(row) for row in summarise(asked))
    assert not any(retrieves(row) for row in summarise(study()))
    assert shown(summarise(records)) == shown(summarise(study()))
    assert headline(records, summarise(records)) == headline(study(), summarise(study()))
    assert [fight.ours.labels for fight in contests(records, summarise(records))] == [10, 500]
    text, page = write(tmp_path, records)
    part = text[text.index('<section id="retrieval">') :]
    part = part[: part.index("</section>") + len("</section>")]
    first = part[: part.index("<details>")]
    assert [word in first for word in ("98.5", "97.5", "30.5", "88.5", ">P@10<", ">mAP 256 bit<")] == [
        True, True, False, True, True, True,
    ]  # fmt: skip
    assert "30.5" in part
    assert "2 label budgets (10, 500)" in page.words
    elsewhere = Page(text.replace(part, "")).words
    assert not any(words in elsewhere for words in ("98.5 ±", "97.5 ±", "88.5 ±", "mAP", "P@10"))
    assert not any("mAP" in str(attributes.get("aria-label")) for tag, attributes in page.tags if tag == "svg")


def test_units_have_a_table_for_each_rule(tmp_path: Path) -> None:
    units = {
        "HPCA/conv1": np.array([4096, 7, 30, 56.6, 255, 0.314, np.nan]),
        "HPCA/fc": np.array([8, 0, 0, 2.2, 7, 1, 0.75]),
        "SWTA/conv1": np.array([96, 96, 0, 0, 95, 1, 0]),
    }
    text, _ = write(tmp_path, study(), units=units)
    tables = re.findall(r'aria-label="Units of (\w+)">(.*?)</table>', text, flags=re.DOTALL)
    lines = {
        name: [re.findall(r"<t[hd][^>]*>([^<]*)", row)[1:] for row in re.findall(r"<th scope=.row.*?</tr>", body)]
        for name, body in tables
    }
    assert lines == {
        "HPCA": [["4096", "7", "30", "57 of 255", "0.31", "–"], ["8", "0", "0", "2 of 7", "1.00", "0.75"]],
        "SWTA": [["96", "96", "0", "0 of 95", "1.00", "0.00"]],
    }
    assert text.count('<section id="unit-usage-and-winner-entropy">') == 1


def test_confusion_says_what_is_taken_for_what(tmp_path: Path) -> None:
    counts = np.diag([5, 6, 7])
    counts[2, 0], counts[0, 1] = 2, 1
    _, page = write(tmp_path, [], confusion={"hpca": counts}, classes=["cat", "dog", "eel"])
    label = next(a["aria-label"] for tag, a in page.tags if a.get("class") == "heat")
    assert "85.7 % right of 21; most often eel taken for cat, 2 times." in str(label)
    large = np.diag(np.full(30, 9))
    for place in range(1, 13):
        large[0, place] = place
    text, page = write(tmp_path, [], confusion={"hpca": large})
    pairs = text[text.index("Most confused classes of hpca") :]
    assert re.findall(r'row">0</th><td>(\d+)</td><td>(\d+)<', pairs) == [(str(n), str(n)) for n in range(12, 2, -1)]
    assert "13.8 %" in pairs.replace("&nbsp;", " ")  # 12 of 87
    _, page = write(tmp_path, [], confusion={"hpca": np.diag([3, 4])})
    assert "100.0 % right of 7, no mistake." in page.words


@pytest.mark.parametrize("shape", [(3, 2), (2, 2), (3,)])
def test_a_confusion_matrix_of_other_classes_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"confusion matrix of hpca is .*: give \[C, C\] for 3 classes"):
        write(tmp_path, [], confusion={"hpca": np.ones(shape, dtype=int)}, classes=["a", "b", "c"])
    assert list(tmp_path.iterdir()) == []


def test_strips_frame_right_and_wrong_and_name_them(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 1, 4, 4), dtype=np.uint8)
    strip = Strip(images[:, 0], images, np.array([0, 1]), np.array([[0, 1, 0], [1, 1, 1]]))
    _, page = write(tmp_path, [], strips={"hpca": strip}, classes=["cat", "<dog>"])
    shown = [(a.get("class"), a["alt"]) for tag, a in page.tags if tag == "img"]
    assert shown == [
        (None, "Query: cat"), ("right", "cat"), ("wrong", "<dog>, another class"), ("right", "cat"),
        (None, "Query: <dog>"), ("right", "<dog>"), ("right", "<dog>"), ("right", "<dog>"),
    ]  # fmt: skip
    assert "5 of 6 of the query's class" in page.words


def test_several_data_sets_are_refused(tmp_path: Path) -> None:
    other = Record("mnist", "hpca", "HPCA", 10, 0.1, 0, None, 50.0, None, None, None, None)
    with pytest.raises(ValueError, match=r"several data sets \(digits, mnist\)"):
        write(tmp_path, [*study(), other])
    assert list(tmp_path.iterdir()) == []
