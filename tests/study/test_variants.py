"""Methods with options of their own, and variants: who differs in what, and what becomes of the others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import NET, equal, fails, timeless, weights

from fasthebb.cli import main
from fasthebb.evaluation.results import load
from fasthebb.jobs.trained import read_net
from fasthebb.rules import HPCA
from fasthebb.study.options import StudyOptions, differences, title_of
from fasthebb.training.run import read_config

CONSOLE = ("--quiet",)
TINY = (*NET, "--data", "digits", "--epochs", "1", "--max-steps", "2", "--batch-size", "64", "--no-knn")
OWN = {
    "scratch": {"finetune_steps": 2},
    "wide": {"is": "hpca", "title": "wide HPCA", "width": 2.0, "finetune": False},
    "adam": {"is": "hpca", "title": "HPCA by Adam", "probe_method": "adam", "probe_epochs": 1, "finetune": False},
    "scratch-six": {"is": "scratch", "model": "sixlayer", "width": 0.02},
}


def options(**more: Any) -> StudyOptions:
    return StudyOptions(**more)


def study(out: Path, config: dict[str, Any], *words: str) -> Path:
    file = out.parent / f"{out.name}.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    assert main(["study", *TINY, "--config", str(file), "--out", str(out), *words, "--quiet"]) == 0
    return out


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {
        "methods": ["hpca", "wide", "adam", "scratch", "scratch-six"], "own": OWN,
        "budgets": [20], "seeds": [0], "finetune_steps": 1, "image_size": 32,
    }  # fmt: skip
    return study(tmp_path_factory.mktemp("own") / "study", config, "--image-size", "32")


def rows(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "results.json").read_text())
    return found


def test_each_method_follows_its_own(compared: Path) -> None:
    cells = {path.name for path in (compared / "cells").iterdir()}
    assert cells == {
        "pretrain-hpca-s0", "frozen-hpca-s0", "finetune-hpca-20-s0", "pretrain-wide-s0", "frozen-wide-s0",
        "frozen-adam-s0", "scratch-backprop-20-s0", "scratch-six-hebbian-20-s0", "scratch-six-backprop-20-s0",
    }  # fmt: skip
    last = {name: torch_step(compared / "cells" / name) for name in cells if "20" in name}
    assert last == {
        "finetune-hpca-20-s0": 1, "scratch-backprop-20-s0": 2, "scratch-six-hebbian-20-s0": 1,
        "scratch-six-backprop-20-s0": 1,
    }  # fmt: skip
    units = {name: len(weights(compared / "cells" / f"pretrain-{name}-s0")["0.weight"]) for name in ("hpca", "wide")}
    assert units == {"hpca": 6, "wide": 12}


def torch_step(cell: Path) -> int:
    return len((cell / "metrics.jsonl").read_text().splitlines())  # a batch of 20 images is an epoch


def test_names_in_results(compared: Path) -> None:
    found = {(r["method"], r["rule"]) for r in rows(compared)}
    assert found == {
        ("HPCA probe", "HPCA"), ("HPCA fine-tuned", "HPCA"), ("wide HPCA probe", "HPCA"),
        ("HPCA by Adam probe", "HPCA"), ("scratch", ""),
        ("scratch-six (hebbian twin)", ""), ("scratch-six (backprop twin)", ""),
    }  # fmt: skip
    page = (compared / "report.html").read_text()
    assert "HPCA with width 2.0, finetune False" in page
    assert "<title>digits: few labels</title>" in page


def test_methods_that_differ_later_share_their_pre_training(compared: Path) -> None:
    probes = {r["method"]: r for r in rows(compared) if r["depth"] == 2}
    assert probes["HPCA by Adam probe"]["pretrain_seconds"] == probes["HPCA probe"]["pretrain_seconds"]
    named = options(methods=["hpca", "b", "c", "d"], own={
        "b": {"is": "hpca", "pool": 2}, "c": {"is": "hpca", "lr": 0.5}, "d": {"is": "hpca", "lr": 0.5, "renew": True},
    })  # fmt: skip
    assert [named.method(name).pretrained_by for name in named.methods] == ["hpca", "hpca", "c", "c"]
    whitened = replace(named, whiten=["b"])
    assert [whitened.method(name).pretrained_by for name in whitened.methods] == ["hpca", "b", "c", "c"]


def test_the_rest_of_a_study_is_not_touched(compared: Path, tmp_path: Path) -> None:
    alone = study(tmp_path / "alone", {"methods": ["hpca"], "budgets": [20], "seeds": [0], "finetune_steps": 1},
                  "--image-size", "32")  # fmt: skip
    for cell in ("pretrain-hpca-s0", "finetune-hpca-20-s0"):
        assert equal(weights(alone / "cells" / cell), weights(compared / "cells" / cell))
    assert timeless(rows(alone)) == timeless(r for r in rows(compared) if r["method"].startswith("HPCA ") and
                                             "Adam" not in r["method"])  # fmt: skip


def test_a_cell_of_a_variant_builds_its_net(compared: Path) -> None:
    from tiny import QUIET

    net, _ = read_net(compared / "cells" / "scratch-six-backprop-20-s0", QUIET)
    assert (net.model, net.width, net.twin) == ("sixlayer", 0.02, "backprop")


def test_options_of_a_method() -> None:
    given = options(
        methods=["hpca", "vae", "slow"], lr=0.1, rates={"hpca": 0.2, "vae": 0.3}, model="deephebb",
        own={"vae": {"model": "sixlayer", "lr": "1e-2"}, "slow": {"is": "hpca", "epochs": 1}},
    )  # fmt: skip
    found = {name: given.method(name) for name in given.methods}
    assert {name: (m.base, m.title, m.options.lr, m.options.model) for name, m in found.items()} == {
        "hpca": ("hpca", "HPCA", 0.2, "deephebb"),
        "vae": ("vae", "VAE", 0.01, "sixlayer"),
        "slow": ("hpca", "slow", 0.2, "deephebb"),
    }
    assert [m.options.epochs for m in found.values()] == [20, 20, 1]
    assert (given.lr, given.epochs, given.model) == (0.1, 20, "deephebb"), "the study's own stay"


def test_titles_and_words() -> None:
    own = {"b": {"is": "hpca", "title": "HPCA b", "lr": 0.1}, "c": {"is": "oja"}, "vae": {"width": 2.0}}
    assert [title_of(name, own) for name in ("b", "c", "vae", "hpca")] == ["HPCA b", "c", "VAE", "HPCA"]
    assert differences({"methods": ["hpca", "b", "c", "vae"], "own": own}) == [
        ("HPCA b", "HPCA with lr 0.1"), ("c", "OJA with all as given"), ("VAE", "width 2.0"),
    ]  # fmt: skip
    assert differences({"methods": ["hpca", "c"], "own": own, "whiten": ["c"]}) == [("c", "OJA with whiten True")]
    assert differences({"methods": ["hpca"]}) == [], "of a study that knew no such option"


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"x": {"lr": 1.0}}, "'x' is unknown"),
        ({"x": {"is": "hpac"}}, "did you mean 'hpca'"),
        ({"hpca": {"is": "oja"}}, "hpca is a method already"),
        ({"a b": {"is": "hpca"}}, "letters, digits"),
        ({"hpca": {"lrr": 1.0}}, "did you mean 'lr'"),
        ({"hpca": {"seeds": [1]}}, "seeds cannot differ there"),
        ({"hpca": {"lr": "fast"}}, "lr 'fast' makes no sense"),
        ({"hpca": {"lr": 0.0}}, "--own hpca: --lr 0.0: give a number above 0"),
        ({"hpca": 3}, "3 is no mapping"),
        ({"x": {"is": "hpca", "title": "HPCA probe"}}, "has the word probe"),
        ({"x": {"is": "hpca", "title": "random HPCA"}}, "has the word random"),
        ({"x": {"is": "scratch"}}, "lacks the word scratch"),
        ({"hpca": {"tuning": [{"lr": 1.0}]}}, "lr cannot differ there"),
    ],
)
def test_what_makes_no_sense(own: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        options(methods=["hpca"], own=own)
    assert "\n" not in str(raised.value)


def test_two_of_one_title_and_a_vae_of_another_net() -> None:
    with pytest.raises(ValueError, match="two methods are called 'HPCA'"):
        options(methods=["hpca", "b"], own={"b": {"is": "hpca", "title": "HPCA"}})
    with pytest.raises(ValueError, match="made of the sixlayer net, not of vgg11"):
        options(methods=["v"], own={"v": {"is": "vae", "model": "vgg11"}})
    with pytest.raises(ValueError, match="method 'b' is unknown"):
        options(methods=["b"])


def test_a_study_of_an_older_version_is_resumed(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--methods", "hpca", "--budgets", "20", "--seeds", "0", "--no-finetune", "--out", str(tmp_path / "old"))
    assert main(["study", *TINY, *words, "--quiet"]) == 0
    config = read_config(tmp_path / "old")
    for key in ("own", "tuning", "pretrain_images"):
        del config[key]
    (tmp_path / "old" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert main(["study", *TINY, *words, "--resume", "--quiet"]) == 0
    said = fails(capsys, 1, "study", *TINY, *words, "--resume", "--pretrain-images", "100", "--quiet")
    assert "holds a run with pretrain_images=None, not 100" in said
    (tmp_path / "old" / "config.yaml").write_text(yaml.safe_dump(config | {"rule": "HPCA"}, sort_keys=False))
    said = fails(capsys, 1, "study", *TINY, *words, "--resume", "--quiet")
    assert "a run of another command" in said
    assert StudyOptions(rules={"hpca": HPCA()}, methods=["hpca"]).own == {}


def test_budgets_of_some_seeds_and_of_a_method(tmp_path: Path) -> None:
    config = {
        "methods": ["random", "scratch"], "budgets": ["10", "20"],
        "own": {"scratch": {"budgets": ["20"]}, "random": {"budget_seeds": {"10": 3, "20": 1}}},
        "budget_seeds": {"20": 1}, "seeds": [0, 1], "both_twins": False, "classes": 5, "finetune_steps": 2,
        "validation": 0.0,
    }  # fmt: skip
    records, _ = load(study(tmp_path / "study", config))
    seen = {(r.method, r.labels, r.seed) for r in records if r.depth is None}
    assert seen == {
        ("random probe", 10, 0), ("random probe", 20, 0), ("random probe", 10, 1),
        ("scratch", 20, 0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"budget_seeds": {"30": 1}}, "budget '30'"),
        ({"budget_seeds": {"10": 0}}, "give 1 or more"),
        ({"own": {"random": {"budget_seeds": {"20": 1}}}}, "budget '20'"),
    ],
)
def test_budgets_of_some_seeds_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        options(budgets=["10"], seeds=[0, 1], **wrong)
