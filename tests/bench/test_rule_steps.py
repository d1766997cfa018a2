"""Every rule's step, in small: all of them are timed, against the right steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import fasthebb
from fasthebb.bench import rules, steps
from fasthebb.bench.command import BenchOptions
from fasthebb.cli import main


def test_every_rule_of_the_package_is_timed() -> None:
    public = {name for name in fasthebb.__all__ if isinstance(getattr(fasthebb, name), type)}
    known = rules.every_rule()
    assert set(known) == {name for name in public if issubclass(getattr(fasthebb, name), fasthebb.Rule)} - {"Rule"}
    assert all(type(rule).__name__ == name for name, rule in known.items())


@pytest.mark.parametrize("name", rules.every_rule())
def test_a_step_moves_every_hidden_layer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nets: list[torch.nn.Module] = []
    make = steps.net_for

    def remembered(*args: object, **kwargs: object) -> torch.nn.Module:
        nets.append(make(*args, **kwargs))  # type: ignore[arg-type]
        return nets[-1]

    monkeypatch.setattr(steps, "net_for", remembered)
    step = steps.rule_step(
        rules.every_rule()[name], steps.noise(4), width=0.1, signal=rules.signals(4, "cpu").get(name)
    )
    before = {key: value.clone() for key, value in nets[0].state_dict().items()}
    step()
    after = nets[0].state_dict()
    moved = [layer for layer in ("conv1", "conv2", "conv3", "conv4", "fc5", "fc6") if
             not torch.equal(before[f"{layer}.weight"], after[f"{layer}.weight"])]  # fmt: skip
    assert moved == ["conv1", "conv2", "conv3", "conv4", "fc5"]


def test_ratios_of_named_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rules.json"
    small = ("--rounds", "1", "--batch-size", "4", "--width", "0.05", "--precision", "bf16", "--out", str(out))
    assert main(["bench", "rules", "--rules", "Oja,KWTA", *small]) == 0
    report = json.loads(out.read_text())
    timed = report["steps"]
    formats = ("contiguous", "channels_last")
    assert set(timed) == {f"{name}/{format}" for name in ("floor", "sgd") for format in formats} | {
        "Oja/channels_last", "KWTA/channels_last"
    }  # fmt: skip
    sgd = min(timed[f"sgd/{format}"]["seconds"] for format in formats)
    assert timed["Oja/channels_last"]["to_sgd"] == timed["Oja/channels_last"]["seconds"] / sgd
    assert report["settings"] == {"rounds": 1, "device": "cpu", "batch_size": 4, "width": 0.05, "precision": "bf16"}
    said = capsys.readouterr().out
    assert "Hardware" in said
    slow = [name for name in ("Oja", "KWTA") if timed[f"{name}/channels_last"]["to_sgd"] > rules.GOAL]
    assert f"slower than 1.3 × SGD: {', '.join(slow) or 'none'}" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"what": "rules", "rules": ["Ojo"]}, "rule 'Ojo' is unknown: did you mean 'Oja'"),
        ({"what": "filters", "rules": ["Taught"]}, "rule 'Taught' is unknown"),
        ({"rules": ["Oja"]}, "--rules is not of bench step: leave it out, or take bench rules or bench filters"),
        ({"what": "work", "batch_size": 8}, "--batch-size is not of bench work: leave it out, or take bench step or"),
        ({"what": "filters", "seeds": []}, "--seeds"),
        ({"what": "filters", "seeds": [1, 1]}, "--seeds 1, 1: give one or more, each once"),
    ],
)
def test_options_that_make_no_sense(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError) as error:
        BenchOptions(**given)  # type: ignore[arg-type]
    assert said in str(error.value)
