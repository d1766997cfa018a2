"""Steps that went wrong: NaN and Inf, diverged weights, empty batches; the handle is usable afterwards."""

from __future__ import annotations

import pytest
import torch
from cases import LAYERS, RULES, LayerCase, RuleCase, error, learned, make
from nets import RULES as PATTERNS
from nets import grads, images, net, same, written
from torch import nn

import fasthebb

KINDS = [case for case in LAYERS if case.name in ("linear", "linear-wide", "conv2d", "conv2d-groups", "convT2d")]

pytestmark = pytest.mark.filterwarnings("ignore:No rule trains a bias")


@pytest.mark.parametrize("poison", [float("nan"), -float("inf")])
@pytest.mark.parametrize("rule", RULES, ids=lambda case: case.name)
@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.name)
def test_bad_input_raises_and_leaves_no_trace(case: LayerCase, rule: RuleCase, poison: float) -> None:
    layer, x = make(case)
    want = learned(rule.rule, layer, x)
    bad = x.clone()
    bad[0, 1] = poison
    layer.weight.grad = torch.ones_like(layer.weight)
    hebb = fasthebb.attach(layer, rule.rule)
    layer(x)
    layer(bad)
    with pytest.raises(
        FloatingPointError, match=r"not finite in layer '': its input holds NaN or Inf, .* check the im"
    ):
        hebb.write_grad()
    assert not layer.weight.grad.any()
    assert hebb.steps == 0
    with pytest.raises(ValueError, match="without a forward"):
        hebb.write_grad()
    layer(x)
    hebb.write_grad()
    assert error(-layer.weight.grad, want) <= 1e-12


def test_the_first_layer_at_fault_is_named_and_every_layer_stops() -> None:
    model, x = net(), images()
    want = grads(model, x)
    hebb = fasthebb.attach(model, PATTERNS)
    poison = model.act.register_forward_hook(lambda module, args, out: out.masked_fill(out > 0, torch.inf))
    model(x)
    with pytest.raises(FloatingPointError, match=r"^The update is not finite in layer 'fc': its input holds NaN"):
        hebb.write_grad()
    assert not model.conv.weight.grad.any()
    assert not model.fc.weight.grad.any()
    poison.remove()
    model(x)
    hebb.write_grad()
    assert same(written(model), want)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("rule", RULES, ids=lambda case: case.name)
@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.name)
def test_diverged_weights_are_named_as_such(case: LayerCase, rule: RuleCase, value: float) -> None:
    layer, x = make(case)
    layer.weight.data.view(-1)[3] = value
    hebb = fasthebb.attach(layer, rule.rule)
    layer(x)
    with pytest.raises(FloatingPointError, match=r"its weights are not finite: lower the learning rate"):
        hebb.write_grad()
    assert not layer.weight.grad.any()


def test_a_rate_that_diverges_is_told() -> None:
    model, x = net(), images()
    hebb, opt = fasthebb.attach(model, fasthebb.Hebb()), torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(FloatingPointError, match=r"in layer 'fc': .* lower the learning rate"):  # noqa: PT012
        for _ in range(20):
            model(x)
            hebb.write_grad()
            opt.step()


@pytest.mark.parametrize("rule", RULES, ids=lambda case: case.name)
@pytest.mark.parametrize(
    "case",
    [case for case in LAYERS if len(case.input) > 1 and "unbatched" not in case.name],
    ids=lambda case: case.name,
)
def test_an_empty_batch_adds_nothing(case: LayerCase, rule: RuleCase) -> None:
    layer, x = make(case)
    want = learned(rule.rule, layer, x)
    assert error(learned(rule.rule, layer, x[:0], x, x[:0]), want) <= 1e-12
    assert not learned(rule.rule, layer, x[:0]).any()


def test_where_errors_come_late_only_the_bad_step_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = net(), images()
    want = grads(model, x)
    hebb = fasthebb.attach(model, PATTERNS)
    with monkeypatch.context() as patch:
        patch.setattr(hebb, "check", lambda: None)  # an accelerator is not waited for
        model(x * torch.nan)
        hebb.write_grad()
        assert not any(grad.any() for grad in written(model).values())
        model(x)
        hebb.write_grad()
    assert same(written(model), want)
    with pytest.raises(FloatingPointError, match="in layer 'conv': its input"):
        hebb.summary()
    assert hebb.summary().rows[0].update_norm == pytest.approx(float(want["conv.weight"].norm()))


def test_dead_units_are_counted() -> None:
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 4, bias=False))
    model[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    hebb = fasthebb.attach(model, {"0": fasthebb.HardWTA(), "1": fasthebb.Oja()})
    assert [(row.dead, row.update_norm) for row in hebb.summary().rows] == [(None, None)] * 2
    model(torch.tensor([[2.0, 0.1], [0.1, 2.0]]))
    hebb.write_grad()
    first, second = hebb.summary().rows
    assert (first.dead, first.units, first.fan_in, second.dead) == (1, 3, 2, 0)
    assert first.update_norm == pytest.approx(float(model[0].weight.grad.norm()))
    assert first.weight_norm == pytest.approx(2.0)
    assert all(word in str(hebb.summary()) for word in ("HardWTA", "Linear", "dead", "fan-in"))
