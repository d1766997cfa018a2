"""Activations that remember: what they take, and what they make of responses that are all alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import learned
from torch import nn

import fasthebb
from fasthebb.activation import Activation, Adaptive, Switching
from fasthebb.jobs.options import PretrainOptions
from fasthebb.options import Usage, parse, to_yaml


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda: Adaptive("sigmoid"), r"Adaptive\(f='sigmoid'\): choose relu, tanh, identity or pass a function"),
        (lambda: Adaptive(Switching()), r"Adaptive\(f=Switching\(rate=0.1\)\): choose"),
        (lambda: Adaptive(rate=0), r"Adaptive\(rate=0\).*above 0"),
        (lambda: Adaptive(rate=1.5), r"Adaptive\(rate=1.5\)"),
        (lambda: Switching(rate=-0.1), r"Switching\(rate=-0.1\)"),
        (lambda: Switching(rate=float("nan")), r"Switching\(rate=nan\)"),
        (lambda: fasthebb.ICA("softmax"), r"ICA\(activation='softmax'\): choose"),
        (lambda: fasthebb.HICA(3), r"HICA\(activation=3\): choose"),
        (lambda: fasthebb.WeightedSubspace(1.0), r"WeightedSubspace\(most=1.0\).*above 1"),
        (lambda: fasthebb.WeightedSubspace(float("inf")), r"WeightedSubspace\(most=inf\)"),
        (lambda: fasthebb.WeightedSubspace(float("nan")), r"WeightedSubspace\(most=nan\)"),
    ],
)  # fmt: skip
def test_arguments_are_checked(f: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        f()  # type: ignore[operator]


@pytest.mark.parametrize("f", [Adaptive("tanh", 1.0), Adaptive("identity", 1.0), Switching(1.0)], ids=str)
@pytest.mark.parametrize("rule", [fasthebb.HPCA, fasthebb.Subspace, fasthebb.ICA, fasthebb.HICA])
def test_silent_units_stay_finite(rule: type[fasthebb.ICA], f: Activation) -> None:
    layer = nn.Linear(4, 3, bias=False).double()
    x = torch.randn(5, 4).double()
    hebb = fasthebb.attach(layer, rule(f))
    for seen in (x, 0 * x, x[:0], x, x):  # the memory becomes 0, stays so in a step without samples, and comes back
        layer(seen)
        hebb.write_grad()
        assert layer.weight.grad.isfinite().all()
        assert all(value.isfinite().all() for value in hebb.state_dict()["layers"][""].values())
        if not len(seen):
            assert not any(value.any() for value in hebb.state_dict()["layers"][""].values())
    hebb.detach()
    rested = layer.weight.grad.clone()
    assert rested.norm() > 0
    again = fasthebb.attach(layer, rule(f))
    for _ in range(2):
        layer(x)
        again.write_grad()
    assert torch.equal(rested, layer.weight.grad)  # nothing is left of the silence


def test_adaptive_is_plain_at_first() -> None:
    layer = nn.Linear(4, 3, bias=False).double()
    x = torch.randn(5, 4).double()
    assert torch.allclose(learned(fasthebb.HPCA(Adaptive("tanh")), layer, x), learned(fasthebb.HPCA("tanh"), layer, x))


@pytest.mark.parametrize(
    ("words", "activation"),
    [
        ("Switching", Switching()),
        ("Adaptive", Adaptive()),
        ("Switching --rule.activation.rate 0.2", Switching(0.2)),
        ("Adaptive --rule.activation.f relu", Adaptive("relu")),
        ("Adaptive --rule.activation.f torch.nn.functional.elu", Adaptive(nn.functional.elu)),
    ],
)
def test_a_command_line_names_activations(words: str, activation: Activation, tmp_path: Path) -> None:
    name, *rest = words.split()
    given = ["--rule", "ICA", "--rule.activation", name, *rest]
    assert (
        parse("fasthebb", PretrainOptions, [*given[:3], f"fasthebb.activation.{name}", *rest]).rule.activation
        == activation
    )  # type: ignore[attr-defined]
    found = parse("fasthebb", PretrainOptions, given)
    assert found.rule == fasthebb.ICA(activation)
    (tmp_path / "x.yaml").write_text(to_yaml(found))
    assert parse("fasthebb", PretrainOptions, ["--config", str(tmp_path / "x.yaml")]) == found
    with pytest.raises(Usage, match=r"^fasthebb: \w+\(rate=3.0\): the sliding mean"):
        parse("fasthebb", PretrainOptions, [*given, "--rule.activation.rate", "3"])


@pytest.mark.parametrize("path", ["torch.nn.functional.elu", "torch.sigmoid", "tanh"])
def test_functions_are_read_and_written(path: str, tmp_path: Path) -> None:
    found = parse("fasthebb", PretrainOptions, ["--rule", "ICA", "--rule.activation", path])
    known = {"torch.nn.functional.elu": nn.functional.elu, "torch.sigmoid": torch.sigmoid, "tanh": "tanh"}
    assert found.rule == fasthebb.ICA(known[path])  # type: ignore[arg-type]
    assert f"activation: {path}\n" in to_yaml(found)
    (tmp_path / "x.yaml").write_text(to_yaml(found))
    assert parse("fasthebb", PretrainOptions, ["--config", str(tmp_path / "x.yaml")]) == found


@pytest.mark.parametrize("f", [nn.GELU(), lambda y: y], ids=["object", "lambda"])
def test_functions_that_cannot_be_imported_are_not_written(f: nn.Module) -> None:
    with pytest.raises(ValueError, match="cannot be written down: give a function that can be imported"):
        to_yaml(PretrainOptions(rule=fasthebb.ICA(f)))


def test_a_name_that_is_none_is_told_what_there_is() -> None:
    with pytest.raises(Usage, match=r"HPCA\(activation='Foo'\): choose relu, tanh, identity, Adaptive, Switching"):
        parse("fasthebb", PretrainOptions, ["--rule.activation", "Foo"])
