"""Pages for the documentation: what a study measured beside what was expected of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny import NET, fails, snapshot

from fasthebb.cli import main
from fasthebb.evaluation.results import Record, load, save, summarise
from fasthebb.study import published
from fasthebb.study.expected import Expected

ONE = Expected(method="HPCA probe", depth=1, low=10.0, high=90.0, published=63.4, source="A paper", differs="One step.")
RECORD = Record("digits", "HPCA probe", "HPCA", 20, 0.1, 0, 1, 50.0, None, 60.0, None, None)


def study(out: Path, *expected: dict[str, object]) -> Path:
    config = out.parent / f"{out.name}.yaml"
    config.write_text(yaml.safe_dump({"expected": list(expected)}))
    words = ("--methods", "hpca", "random", "--budgets", "20", "--seeds", "0", "--max-steps", "1", "--batch-size", "64")
    more = ("--no-finetune", "--no-knn", "--data", "digits", "--config", str(config), "--quiet", "--out", str(out))
    assert main(["study", *NET, *words, *more]) == 0
    return out


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    common = {"source": "A paper", "low": 0.0, "high": 100.0, "differs": "One step.", "method": "HPCA probe"}
    return study(
        tmp_path_factory.mktemp("studies") / "repeated",
        {**common, "depth": 1, "published": 63.4},
        {**common, "depth": 2, "high": 0.5},
        {**common, "method": "VAE probe", "depth": 1, "published": 99.0},
    )


@pytest.mark.parametrize(
    ("top1", "verdict"),
    [
        (50.0, "inside the interval"),
        (9.9, "**below the interval**"),
        (90.1, "**above the interval**"),
        (10.0, "inside"),
    ],
)
def test_where_a_measurement_lies(top1: float, verdict: str) -> None:
    rows = summarise([replace(RECORD, top1=top1), replace(RECORD, top1=99.0, depth=2), replace(RECORD, method="x")])
    assert ONE.verdict(rows).startswith(verdict)
    assert ONE.measured(rows) == next(row for row in rows if row.top1.mean == top1)


def test_the_largest_budget_and_all_seeds_count() -> None:
    some = [replace(RECORD, labels=labels, seed=seed, top1=top1) for labels, seed, top1 in
            ((20, 0, 95.0), (40, 0, 40.0), (40, 1, 44.0))]  # fmt: skip
    row = ONE.measured(summarise(some))
    assert row is not None
    assert (row.labels, row.n, row.top1.mean) == (40, 2, 42.0)
    assert ONE.verdict([]) == "not measured"
    assert ONE.verdict(summarise([replace(RECORD, top1=None)])) == "not measured"


def test_names_of_pictures_have_an_end() -> None:
    many = ", ".join(f"option {number}" for number in range(40))
    names = [published._beside(Path("page"), group).name for group in (many, f"{many}, one more", "rescale, renew")]
    assert names[2] == "page-effect-rescale-renew.svg"
    assert len(set(names)) == 3
    assert max(map(len, names)) < 100


def test_an_empty_interval() -> None:
    with pytest.raises(ValueError, match=r"expected HPCA probe: from 80 to 70 % is no interval"):
        Expected(method="HPCA probe", low=80, high=70, source="A paper")


def test_reproductions(repeated: Path, tmp_path: Path) -> None:
    words = ("--run", str(repeated), "--also", str(repeated), "--note", "Lossy images.", "--quiet")
    assert main(["report", *words, "--publish", str(tmp_path / "docs" / "reproductions")]) == 0
    assert {p.name for p in (tmp_path / "docs").iterdir()} == {"reproductions.md"}
    page = (tmp_path / "docs" / "reproductions.md").read_text()
    found = {(row.method, row.depth): str(row.top1) for row in summarise(load(repeated)[0])}
    lines = page.splitlines()
    first, second = found["HPCA probe", 1], found["HPCA probe", 2]
    assert f"| HPCA probe | 1 | 20 | {first} | 0.0 to 100.0 | 63.4 | inside the interval |" in lines
    assert f"| HPCA probe | 2 | 20 | {second} | 0.0 to 0.5 | – | **above the interval** |" in lines
    assert "| VAE probe | 1 | – | – | 0.0 to 100.0 | 99.0 | not measured |" in lines
    assert f"| random probe | {found['random probe', 1]} | {found['random probe', 2]} |" in lines
    assert page.count("## repeated") == 2
    assert page.count("Source: A paper. One step.") == 2, "each source once a study"
    assert "Lossy images." in lines
    assert "net tiny:net, 20 epochs of batches of 64, 1 steps at most, 1 seed (0)" in page
    assert "Read-out: ridge on features pooled to 4096 at most." in page
    assert "Measured on: cpu" in page


def test_a_study_that_expects_nothing(repeated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = study(tmp_path / "plain")
    words = ("report", "--run", plain, "--publish", tmp_path / "docs" / "few")
    assert main([*map(str, words), "--note", "Lossy images.", "--quiet"]) == 0
    assert {p.name for p in (tmp_path / "docs").iterdir()} == {"few.md", "few.svg"}
    page = (tmp_path / "docs" / "few.md").read_text()
    assert page.startswith("# digits: few labels")
    assert "Lossy images." in page
    records = load(plain)[0]
    (probe,) = (r for r in records if r.method == "HPCA probe" and r.depth is None)
    assert f"| HPCA probe | {probe.seconds:.0f} | {probe.peak_memory_mb:.0f} |" in page
    before = snapshot(repeated)
    said = fails(capsys, 1, "report", "--run", repeated, "--also", plain, "--publish", tmp_path / "docs" / "both")
    assert f"{plain} is no reproduction" in said
    assert "there is no such folder" in fails(capsys, 1, "report", "--run", repeated, "--also", tmp_path / "no")
    assert snapshot(repeated) == before


def test_expectations_may_change_on_resume(repeated: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((repeated / "config.yaml").read_text())
    assert config["expected"][0]["published"] == 63.4
    config["expected"] = [{"method": "HPCA probe", "low": 1, "high": 2, "source": "Another paper"}]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    words = ("--config", str(tmp_path / "other.yaml"), "--out", str(repeated), "--resume", "--quiet")
    assert main(["study", *words]) == 0


def test_titles_are_text(tmp_path: Path) -> None:
    """Whatever a method is called, a published page holds no HTML of it."""
    evil = "<img src=x>&|<b>"
    records = [replace(RECORD, method=name, depth=depth, top1=top1, dataset=evil) for name, top1 in
               ((f"{evil} probe", 60.0), ("scratch", 50.0)) for depth in (1, 2, None)]  # fmt: skip
    save(tmp_path, records, {"cpu": evil}, [])
    own = {"b": {"is": "hpca", "title": evil}}
    config = {"methods": ["hpca", "b"], "own": own, "seeds": [0], "budgets": ["20"], "rules": {}, "ensembles": {}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    published.publish_study(tmp_path, tmp_path / "page")
    page = (tmp_path / "page.md").read_text()
    assert "<" not in page
    assert "| &lt;img src=x>&amp;\\|&lt;b> probe |" in page
