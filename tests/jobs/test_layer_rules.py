"""Rules that differ by layer, on the command line, in YAML and in a study; and the forward that rules ask for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from tiny import NET, fails, snapshot, weights, write_images

from fasthebb.activation import Adaptive, Switching
from fasthebb.cli import main
from fasthebb.competition import Softmax
from fasthebb.jobs.layer_rules import forward_of, rule_name
from fasthebb.rules import (
    HICA,
    HPCA,
    ICA,
    KWTA,
    SOM,
    HardWTA,
    Hebb,
    Instar,
    Krotov,
    Modulated,
    Oja,
    Rule,
    SoftHebb,
    SoftWTA,
    Taught,
)

LAYERS = {"0": {"class_path": "Oja"}, "*": {"class_path": "SoftHebb", "init_args": {"temperature": 0.5}}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{write_images(tmp_path_factory.mktemp('images'), each=12)}"


def pretrain(data: str, out: Path, *words: str) -> Path:
    fixed = ("--data", data, "--max-steps", "1", "--batch-size", "16", "--lr", "0.1", "--quiet")
    assert main(["pretrain", *NET, *fixed, "--out", str(out), *words]) == 0
    return out


def test_every_layer_learns_by_its_own_rule(data: str, tmp_path: Path) -> None:
    mixed = weights(pretrain(data, tmp_path / "mixed", "--layer-rules", json.dumps(LAYERS)))
    oja = weights(pretrain(data, tmp_path / "oja", "--rule", "Oja"))
    soft = weights(pretrain(data, tmp_path / "soft", "--rule", "SoftHebb", "--rule.temperature", "0.5"))
    assert mixed["0.weight"].equal(oja["0.weight"])
    assert mixed["4.weight"].equal(soft["4.weight"])
    assert not oja["0.weight"].equal(soft["0.weight"])
    assert not oja["4.weight"].equal(soft["4.weight"])
    assert json.loads((tmp_path / "mixed" / "model.json").read_text())["rule"] == "Oja+SoftHebb"


def test_a_layer_that_no_pattern_matches_stays(data: str, tmp_path: Path) -> None:
    trained = weights(pretrain(data, tmp_path / "one", "--layer-rules", json.dumps({"4": LAYERS["0"]})))
    oja = weights(pretrain(data, tmp_path / "oja", "--rule", "Oja"))
    assert trained["4.weight"].equal(oja["4.weight"])
    assert not trained["0.weight"].equal(oja["0.weight"])


def test_they_are_written_and_read_back(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = pretrain(data, tmp_path / "run", "--layer-rules", json.dumps(LAYERS))
    written = yaml.safe_load((out / "config.yaml").read_text())["layer_rules"]
    assert list(written) == ["0", "*"], "the first that matches counts"
    assert written["*"]["init_args"]["temperature"] == 0.5
    capsys.readouterr()
    assert main(["pretrain", "--config", str(out / "config.yaml"), "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["layer_rules"] == written
    before = snapshot(out)
    pretrain(data, out, "--config", str(out / "config.yaml"), "--resume")
    assert snapshot(out) == before
    turned = json.dumps(dict(reversed(LAYERS.items())))
    assert "holds a run with layer_rules=" in fails(
        capsys, 1, "pretrain", *NET, "--config", out / "config.yaml", "--layer-rules", turned, "--out", out, "--resume"
    )


def test_rules_that_want_different_forwards(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = json.dumps({"0": {"class_path": "SoftWTA"}, "*": {"class_path": "HPCA"}})
    words = ("pretrain", *NET, "--data", data, "--max-steps", 1, "--out", tmp_path / "run", "--layer-rules", rules)
    assert "rules want SoftWTA at 0 unit_norm_relu, HPCA at * relu: choose rules that agree" in fails(capsys, 1, *words)
    assert not (tmp_path / "run").exists()
    assert main([*map(str, words), "--forward", "relu"]) == 0
    assert json.loads((tmp_path / "run" / "model.json").read_text())["forward"] == "relu"


def test_a_pattern_that_fits_nothing(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("pretrain", *NET, "--data", data, "--out", tmp_path / "run", "--layer-rules")
    assert "'conv9' matches no layer" in fails(capsys, 1, *words, json.dumps({"conv9": LAYERS["0"]}))


def test_a_study_names_rules_by_layer(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"methods": ["mixed"], "rules": {"mixed": LAYERS, "hpca": {"class_path": "HPCA"}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    words = ("--config", str(tmp_path / "study.yaml"), "--data", data, "--budgets", "6", "--seeds", "0", "--lr", "0.1")
    more = ("--max-steps", "1", "--batch-size", "16", "--no-finetune", "--no-knn", "--probe-depths", "2")
    given = ["study", *NET, *words, *more, "--out", str(tmp_path / "study"), "--quiet"]
    assert main(given) == 0
    rows = json.loads((tmp_path / "study" / "results.json").read_text())
    assert {(row["method"], row["rule"], row["depth"]) for row in rows} == {
        ("MIXED probe", "Oja+SoftHebb", depth) for depth in (2, None)
    }
    assert {p.name for p in (tmp_path / "study" / "cells").iterdir()} == {"pretrain-mixed-s0", "frozen-mixed-s0"}
    trained = weights(tmp_path / "study" / "cells" / "pretrain-mixed-s0")
    alone = weights(pretrain(data, tmp_path / "alone", "--layer-rules", json.dumps(LAYERS)))
    assert all(trained[name].equal(alone[name]) for name in ("0.weight", "4.weight"))
    assert main([*given, "--resume"]) == 0, "a mapping is the same when it is read back"
    capsys.readouterr()
    nothing = ("study", "--methods", "hpca", "--no-probe", "--no-knn", "--no-finetune")
    assert "nothing is measured" in fails(capsys, 2, *nothing)
    clash = {"rules": {"both": {"0": {"class_path": "SoftWTA"}, "*": {"class_path": "HPCA"}}}, "methods": ["both"]}
    (tmp_path / "clash.yaml").write_text(yaml.safe_dump(clash))
    assert "choose rules that agree" in fails(capsys, 2, "study", "--config", tmp_path / "clash.yaml")


@pytest.mark.parametrize(
    ("rule", "forward"),
    [
        (HardWTA(), "unit_norm_relu"),
        (KWTA(2), "unit_norm_relu"),
        (SoftWTA(), "unit_norm_relu"),
        (Instar(Softmax(0.1)), "unit_norm_relu"),
        (SOM(), "unit_norm_relu"),
        (HPCA(), "relu"),
        (HPCA("tanh"), "tanh"),
        (HPCA("identity"), "identity"),
        (HPCA(Adaptive("tanh")), "tanh"),
        (HPCA(Switching()), "relu"),
        (HPCA(torch.sigmoid), "relu"),
        (ICA(), "tanh"),
        (HICA(), "tanh"),
        (Taught(HPCA("tanh"), 3), "tanh"),
        (Modulated(SoftWTA()), "unit_norm_relu"),
        (Modulated(Hebb()), "relu"),
        (SoftHebb(), "relu"),
        (Krotov(), "relu"),
        (Oja(), "relu"),
    ],
)
def test_the_forward_of_a_rule(rule: Rule, forward: str) -> None:
    assert forward_of(rule) == forward
    assert forward_of({"a*": rule, "*": rule}) == forward
    assert rule_name(rule) == rule_name({"a*": rule, "*": rule}) == type(rule).__name__
