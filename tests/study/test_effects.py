"""What options do: who is compared with whom, over which seeds, and that page, table and figures say the same."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny import NET

from fasthebb.cli import main
from fasthebb.evaluation.results import Record, load
from fasthebb.options import plain
from fasthebb.recipes import RECIPES
from fasthebb.study import figures
from fasthebb.study.effects import READ_OUTS, Effect, effect_table, effects, gist
from fasthebb.study.options import StudyOptions
from fasthebb.study.report import write_report

OWN: dict[str, dict[str, Any]] = {
    "wide": {"is": "hpca", "title": "HPCA, wide", "width": 2.0},
    "head": {"is": "hpca", "head_steps": 9},
    "both": {"is": "hpca", "renew": True, "rescale": True},
    "both-slow": {"is": "hpca", "rescale": True, "renew": True, "finetune": False},
    "beside": {"is": "hpca", "together": True},
    "taught": {"is": "hpca", "student": True},
    "white": {"is": "hpca"},
    "fast": {"is": "hpca"},
    "unread": {"is": "hpca", "svm": True},
    "alone": {"is": "swta", "width": 2.0},
}


def config(**more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "methods": ["hpca", *OWN], "own": OWN, "whiten": ["white"], "rates": {"fast": 0.5},
        "ensembles": {"Pair": ["hpca", "wide"]},
    }  # fmt: skip
    return plain(StudyOptions(**{**given, **more}))


def cells(method: str, *tops: float | None, labels: int = 10, depth: int | None = None) -> list[Record]:
    return [
        Record("digits", method, "HPCA", labels, labels / 1000, seed, depth, top1, None, None, None, None)
        for seed, top1 in enumerate(tops)
    ]


def pairs(found: Mapping[str, Sequence[Effect]]) -> dict[str, list[tuple[str, str]]]:
    return {group: [(one.method, one.reference) for one in some] for group, some in found.items()}


def test_each_variant_is_paired_with_its_base_by_what_it_changes() -> None:
    names = ("HPCA", "HPCA, wide", "head", "both", "both-slow", "beside", "taught", "white", "fast", "unread", "alone")
    records = [r for name in names for kind in ("probe", "fine-tuned") for r in cells(f"{name} {kind}", 50.0, 51.0)]
    records += [r for name in ("beside probe together", "taught student", "unread SVM", "Pair probe")
                for r in cells(name, 50.0, 51.0)]  # fmt: skip
    each = {name: [(f"{name} {kind}", f"HPCA {kind}") for kind in ("probe", "fine-tuned")] for name in names}
    assert pairs(effects(config(), records)) == {
        "width": each["HPCA, wide"],
        "head steps": each["head"][1:],
        "rescale, renew": [*each["both"], *each["both-slow"]],
        "together": [("beside probe together", "HPCA probe")],
        "student": [("taught student", "HPCA probe")],
        "whiten": each["white"],
        "lr": each["fast"],
        "ensemble": [("Pair probe", "HPCA probe")],
    }, "nothing of what only measures more, nor of a variant whose base is no method"


def test_differences_are_over_the_seeds_of_both() -> None:
    records = [
        *cells("HPCA probe", 50.0, 52.0, 51.0, 40.0), *cells("HPCA, wide probe", 51.0, 54.0, 54.0, None),
        *cells("HPCA probe", 60.0, labels=20), *cells("HPCA, wide probe", 59.0, labels=20),
        *cells("HPCA probe", 99.0, 99.0, depth=1), *cells("HPCA, wide probe", 1.0, 2.0, depth=1),
    ]  # fmt: skip
    ((one,),) = effects(config(), records).values()
    few, more = one.gaps
    assert (few.labels, few.by_seed) == (10, {0: 1.0, 1: 2.0, 2: 3.0})
    assert few.estimate == pytest.approx((2.0, 4.302652729696 / math.sqrt(3)))
    assert (more.labels, more.by_seed) == (20, {0: -1.0})
    assert math.isnan(more.estimate.half_width)
    head, table = effect_table({"width": [one]}, "<{}>")
    assert head == ["variant", "changes", "against", "10 labels", "20 labels"]
    assert table == [["HPCA, wide probe", "width 2.0", "HPCA probe", "+2.0 ± 2.5", "−1.0"]]
    assert gist("width", [one]) == (
        "What width does to top-1, in points. HPCA, wide probe against HPCA probe: +2.0 ± 2.5 at 10 labels, "
        "−1.0 at 20 labels."
    )
    clear = [*cells("HPCA probe", 50.0, 52.0), *cells("HPCA, wide probe", 51.0, 53.1)]
    assert effect_table(effects(config(), clear), "<{}>")[1][0][-1] == "<+1.1 ± 0.6>"


def test_what_the_base_has_of_its_own_differs_too() -> None:
    own = {"hpca": {"width": 2.0, "lr": 0.5}, "b": {"is": "hpca", "width": 2.0}}
    records = [*cells("HPCA probe", 50.0), *cells("b probe", 51.0)]
    found = effects(config(methods=["hpca", "b"], own=own, whiten=[], rates={}, ensembles={}, lr=0.1), records)
    assert {group: [one.words for one in some] for group, some in found.items()} == {"lr": ["lr 0.1"]}


def test_rules_of_a_class_are_compared_by_their_arguments() -> None:
    options = RECIPES["transfer_cifar10"]()
    records = [*cells("HPCA probe", 50.0), *cells("HPCA, unit norm probe", 51.0), *cells("SWTA probe", 49.0)]
    found = effects(plain(options), records)
    assert {group: [(one.method, one.words) for one in some] for group, some in found.items()} == {
        "lr, finish": [("HPCA, unit norm probe", "lr 0.01, finish unit_norm")]
    }


def test_of_two_read_outs_the_like_one_comes_first() -> None:
    own = {"b": {"is": "hpca", "width": 2.0}}
    of_all = [r for name in ("HPCA", "b") for read in READ_OUTS for r in cells(f"{name} {read}".strip(), 50.0)]
    given = config(methods=["hpca", "b"], own=own, whiten=[], rates={}, ensembles={})
    assert pairs(effects(given, of_all)) == {
        "width": [(f"b {read}".strip(), f"HPCA {read}".strip()) for read in READ_OUTS]
    }
    fewer = [*cells("HPCA kNN", 50.0), *cells("HPCA probe", 50.0), *cells("b kNN propagated", 50.0)]
    assert pairs(effects(given, fewer)) == {"width": [("b kNN propagated", "HPCA kNN")]}
    assert effects(given, cells("b student", 50.0) + cells("HPCA fine-tuned", 50.0)) == {}


def test_older_studies_have_no_effects() -> None:
    assert effects({"methods": ["hpca", "swta"]}, cells("HPCA probe", 50.0)) == {}


def test_figures_draw_every_interval_about_zero() -> None:
    pytest.importorskip("matplotlib")
    records = [
        *cells("HPCA probe", 50.0, 52.0), *cells("HPCA, wide probe", 51.0, 54.0), *cells("taught student", 40.0, 41.0),
        *cells("HPCA probe", 60.0, labels=20), *cells("taught student", 59.0, labels=20),
    ]  # fmt: skip
    found = figures.option_effects(effects(config(), records))
    assert list(found) == ["width", "student"]
    words = {group: [t.text for t in ET.fromstring(svg).iter("text") if t.text] for group, svg in found.items()}
    assert {"HPCA, wide", "probe", "10 labels", "difference in top-1, points"} <= set(words["width"])
    assert {"taught", "student over HPCA", "10 labels", "20 labels"} <= set(words["student"])
    assert "taught student against HPCA probe: −10.5 ± 6.4 at 10 labels, −1.0 at 20 labels." in found["student"]


def test_a_crowd_of_variants_keeps_to_its_own_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    own = {f"v{n}": {"is": "hpca", "title": f"HPCA, {n}", "width": n} for n in range(2, 18)}
    titles = ["HPCA", *(str(one["title"]) for one in own.values())]
    found = {}
    for number in (16, 17):
        some = titles[:number]
        records = [r for title in some for r in cells(f"{title} probe", 50.0, 51.0)]
        groups = effects({"methods": ["hpca", *own], "own": own}, records)
        write_report(
            tmp_path, records, title="Digits", effects=groups, environment={}, commands=[],
            filters={title: np.ones((2, 1, 3, 3)) for title in some}, curves={}, usage={},
        )  # fmt: skip
        page = (tmp_path / "report.html").read_text()
        drawn = re.search(r'aria-label="Top-1 accuracy in percent by number of labels. ([^"]*)"', page)
        assert drawn
        found[number] = drawn[1].count(" at 10"), page.count("First-layer filters of"), page.count("HPCA, 2 probe")
    assert found[16][:2] == (16, 16)
    assert found[17][:2] == (1, 1)
    assert found[17][2] >= 2, "the tables hold them"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("effects") / "study"
    own = {"wide": {"is": "hpca", "title": "HPCA, [wide]", "width": 2.0},
           "both": {"is": "hpca", "rescale": True, "renew": True}}  # fmt: skip
    file = out.parent / "options.yaml"
    file.write_text(yaml.safe_dump({"methods": ["hpca", "wide", "both"], "own": own, "budgets": ["10", "20"]}))
    words = ("--seeds", "0,1", "--max-steps", "2", "--epochs", "1", "--no-finetune", "--no-knn", "--data", "digits")
    assert main(["study", *NET, *words, "--config", str(file), "--out", str(out), "--quiet"]) == 0
    return out


def test_report_and_published_page_say_the_same(study: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["report", "--run", str(study), "--publish", str(tmp_path / "docs" / "few"), "--quiet"]) == 0
    assert {p.name for p in (tmp_path / "docs").iterdir()} == {
        "few.md", "few.svg", "few-effect-width.svg", "few-effect-rescale-renew.svg",
    }  # fmt: skip
    page, report = (tmp_path / "docs" / "few.md").read_text(), (study / "report.html").read_text()
    part = report[report.index('<section id="what-each-option-does">') :]
    part = part[: part.index("</section>")]
    assert part.count("<svg ") == 2
    options = yaml.safe_load((study / "config.yaml").read_text())
    records, _ = load(study)
    _, table = effect_table(effects(options, records), "**{}**")
    assert [line[0] for line in table] == ["HPCA, [wide] probe", "both probe"]
    for line in table:
        assert f"| {' | '.join(line)} |" in page.splitlines()
        assert all(cell.strip("*").replace(" ± ", "&nbsp;±&nbsp;") in part.replace(" ± ", "&nbsp;±&nbsp;")
                   for cell in line)  # fmt: skip
    for group in ("width", "rescale-renew"):
        svg = (tmp_path / "docs" / f"few-effect-{group}.svg").read_text()
        assert ET.fromstring(svg).get("color") == "#777"
        assert f" labels.](few-effect-{group}.svg)" in page
    assert r"![What width does to top-1, in points. HPCA, \[wide\] probe against HPCA probe: " in page


def test_the_recipe_changes_one_thing_at_a_time() -> None:
    options = RECIPES["transfer_cifar10"]()
    methods = {name: options.method(name) for name in options.methods}
    base = methods["hpca"].options
    for name, method in methods.items():
        if method.base == "hpca" and name != "hpca":
            changed = {k for k in vars(base) if vars(method.options)[k] != vars(base)[k]}
            said = changed - {"finetune", "probe", "finetune_depths"} | (
                {"whiten"} if name in options.whiten else set()
            )
            assert 1 <= len(said) <= 2, name
    assert methods["hpca-distilled"].options.student
    assert (options.finetune_steps, options.finetune_lr, options.seeds) == (600, 1e-2, [0, 1, 2])
