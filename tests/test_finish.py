"""Finishes with arguments: what they do, what they refuse, and how the command line reads and writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from cases import label

import fasthebb
from fasthebb.cli import main
from fasthebb.finish import Chain, Finisher, NormRate, fan_in, max_abs, tangent, unit_norm
from fasthebb.jobs.options import PretrainOptions
from fasthebb.options import Usage, parse

SOFTHEBB = Chain((max_abs, NormRate(0.08, 0.5)))


def of_lengths(*lengths: float) -> torch.Tensor:
    """Weights [1, C, 2] of units of these lengths."""
    return torch.tensor([[[0.6 * length, -0.8 * length] for length in lengths]], dtype=torch.float64)


def test_norm_rate_is_0_at_length_1_and_the_rate_at_0_and_2() -> None:
    dw = torch.ones(1, 4, 2, dtype=torch.float64)
    got = NormRate(0.1, 0.5)(dw.clone(), of_lengths(0, 1, 2, 1.25))
    assert torch.allclose(got, 0.1 * torch.tensor([1, 0, 1, 0.5], dtype=torch.float64)[:, None] * dw, atol=1e-9)
    assert torch.equal(NormRate(0.25, 0)(dw.clone(), of_lengths(0, 1, 2, 3)), 0.25 * dw)


def test_a_chain_is_its_finishes_in_order() -> None:
    torch.manual_seed(0)
    dw, w = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    want = NormRate(0.3)(max_abs(dw.clone(), w), w)
    assert torch.equal(Chain((max_abs, NormRate(0.3)))(dw.clone(), w), want)
    assert not torch.allclose(Chain((NormRate(0.3), max_abs))(dw.clone(), w), want)
    assert torch.equal(Chain(())(dw, w), dw)


@pytest.mark.parametrize("finish", [fan_in, unit_norm, tangent, max_abs, NormRate(), SOFTHEBB], ids=label)
def test_nothing_stays_nothing(finish: fasthebb.finish.Finish) -> None:
    for w in (of_lengths(1, 3), of_lengths(0, 0)):
        assert torch.equal(finish(torch.zeros_like(w), w), torch.zeros_like(w))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adagrad], ids=lambda kind: kind.__name__)
def test_the_rate_of_a_unit_of_length_1_is_0_in_any_optimizer(optimizer: type[torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(2, 2, bias=False).double()
    layer.weight.data = of_lengths(1, 2)[0]
    before = layer.weight.detach().clone()
    hebb = fasthebb.attach(layer, fasthebb.SoftHebb(finish=SOFTHEBB))
    opt = optimizer(hebb.parameters(), lr=1.0)
    layer(torch.randn(9, 2, dtype=torch.float64))
    hebb.write_grad()
    assert float(layer.weight.grad[0].abs().max()) <= 1e-8
    assert 0 < float(layer.weight.grad[1].abs().max()) <= 0.08 * (1 + 1e-12)
    opt.step()
    assert not torch.equal(layer.weight[1], before[1])


@pytest.mark.parametrize(
    ("make_it", "said"),
    [
        (lambda: NormRate(0), r"NormRate\(lr=0\): the rate must be above 0"),
        (lambda: NormRate(-1.0), r"NormRate\(lr=-1.0\): the rate"),
        (lambda: NormRate(float("nan")), r"NormRate\(lr=nan\): the rate"),
        (lambda: NormRate(float("inf")), r"NormRate\(lr=inf\): the rate"),
        (lambda: NormRate(1.0, -0.5), r"NormRate\(power=-0.5\): the power must be 0 or more"),
        (lambda: NormRate(1.0, float("nan")), r"NormRate\(power=nan\): the power"),
        (lambda: Chain((max_abs, "fan_in")), r"Chain: 'fan_in' is no finish; give functions"),
    ],
)
def test_arguments_are_checked(make_it: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_it()


@pytest.mark.parametrize(
    ("words", "finish"),
    [
        (("--rule.finish", "NormRate", "--rule.finish.lr", "0.3"), NormRate(0.3)),
        (("--rule.finish", "fasthebb.finish.NormRate", "--rule.finish.power=1"), NormRate(power=1.0)),
        (("--rule.finish", "Chain", "--rule.finish.finishes", "[fasthebb.finish.max_abs]"), Chain((max_abs,))),
        (
            (
                "--rule.finish=Chain",
                "--rule.finish.finishes=[fasthebb.finish.max_abs, "
                "{class_path: NormRate, init_args: {lr: 0.08, power: 0.5}}]",
            ),
            SOFTHEBB,
        ),
        (("--rule.finish", "fasthebb.finish.fan_in"), fan_in),
    ],
    ids=label,
)
def test_a_command_reads_and_prints_them(
    words: tuple[str, ...], finish: Finisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--rule", "SoftHebb", "--rule.temperature", "0.5", *words)
    found = parse("pretrain", PretrainOptions, words)
    assert found.rule == fasthebb.SoftHebb(0.5, finish=finish)
    assert main(["pretrain", *words, "--print-config"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "x.yaml").write_text(text)
    assert parse("pretrain", PretrainOptions, ["--config", str(tmp_path / "x.yaml")]) == found
    assert main(["pretrain", "--config", str(tmp_path / "x.yaml"), "--print-config"]) == 0
    assert capsys.readouterr().out == text


def test_yaml_by_hand(tmp_path: Path) -> None:
    rule = {"class_path": "SoftHebb", "init_args": {"finish": {"class_path": "NormRate", "init_args": {"lr": 0.1}}}}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"rule": rule}))
    found = parse("pretrain", PretrainOptions, ["--config", str(tmp_path / "x.yaml")])
    assert found.rule == fasthebb.SoftHebb(finish=NormRate(0.1))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rule.finish", "NormRate", "--rule.finish.lr", "-1"), r"NormRate\(lr=-1.0\): the rate must be above 0;"),
        (("--rule.finish", "NormRate", "--rule.finish.rate", "1"), "--rule.finish.rate: .* has no such option"),
        (("--rule.finish", "Chain", "--rule.finish.finishes", "[fan_in]"), "finishes fan_in: give the path of a func"),
    ],
)
def test_a_command_says_in_one_line_what_is_wrong(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(Usage, match=said) as problem:
        parse("pretrain", PretrainOptions, words)
    assert len(str(problem.value)) < 160
