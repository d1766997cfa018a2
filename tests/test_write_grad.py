"""write_grad: what ends up in `.grad`."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import RAISED, error
from nets import RULES, grads, images, net, same, written
from torch import nn
from torch.utils.checkpoint import checkpoint

import fasthebb
from reference import hebb as loops
from reference import instar, update


def test_grad_is_minus_the_update_of_what_each_layer_saw() -> None:
    model, x = net(), images()
    got = grads(model, x)
    with torch.no_grad():
        assert error(-got["conv.weight"], update(model.conv, x, instar.soft_wta(0.02), response=RAISED)) <= 1e-10
        assert error(-got["fc.weight"], update(model.fc, model[:3](x), loops.oja)) <= 1e-10


def test_an_input_by_keyword_is_the_same() -> None:
    layer, x = nn.Linear(5, 4, bias=False), torch.randn(3, 5)
    want = grads(layer, x, rules=fasthebb.Oja())["weight"]
    hebb = fasthebb.attach(layer, fasthebb.Oja())
    layer(input=x)
    hebb.write_grad()
    assert torch.equal(layer.weight.grad, want)


def test_other_hooks_do_not_matter() -> None:
    model, x = net(), images()
    want = grads(model, x)["conv.weight"]
    model.conv.register_forward_hook(lambda module, args, out: out * 3 + 1)
    assert error(grads(model, x)["conv.weight"], want) <= 1e-12


@pytest.mark.parametrize("rule", [fasthebb.HPCA(), fasthebb.SoftWTA(0.1), fasthebb.Hebb()])
def test_a_module_used_twice_adds_up(rule: fasthebb.Rule) -> None:
    shared = nn.Linear(6, 6, bias=False).double()
    x = torch.randn(4, 6).double()
    got = grads(nn.Sequential(shared, nn.Tanh(), shared), x, rules=rule)["0.weight"]
    want = grads(shared, x, torch.tanh(shared(x)).detach(), rules=rule)["weight"]
    assert error(got, want) <= 1e-12


@pytest.mark.parametrize("gradient", [0.0, 0.5])
def test_tied_weights_warn_and_add_up(gradient: float) -> None:
    a, b = nn.Linear(6, 6, bias=False).double(), nn.Linear(6, 6, bias=False).double()
    b.weight = a.weight
    x = torch.randn(4, 6).double()
    apart = grads(a, x, rules=fasthebb.Oja())["weight"] + grads(b, a(x).detach(), rules=fasthebb.Oja())["weight"]
    with pytest.warns(UserWarning, match="0 and 1 share one weight"):
        hebb = fasthebb.attach(model := nn.Sequential(a, b), fasthebb.Oja())
    assert [p is a.weight for p in hebb.parameters()] == [True]
    a.weight.grad = torch.full_like(a.weight, 2.0)
    model(x)
    hebb.write_grad(gradient=gradient)
    assert error(a.weight.grad, apart + gradient * 2.0) <= 1e-12


def test_hybrid_with_a_real_backward() -> None:
    model, x = net(), images()
    local = grads(model, x)
    model.zero_grad()
    model(x).square().mean().backward()
    gradient = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    hebb = fasthebb.attach(model, RULES)
    model(x).square().mean().backward()
    hebb.write_grad(local=0.3, gradient=0.7)
    for row, (name, p) in zip(hebb.summary().rows, model.named_parameters(), strict=True):
        assert error(p.grad, 0.3 * local[name] + 0.7 * gradient[name]) <= 1e-12
        assert row.update_norm == pytest.approx(float(local[name].norm()))  # of ΔW, whatever becomes of it


@pytest.mark.parametrize("clear", [None, True, False])
def test_old_gradients_do_not_matter(clear: bool | None) -> None:
    model, x = net(), images()
    want = grads(copy.deepcopy(model), x)
    hebb = fasthebb.attach(model, RULES)
    for batch in (images(seed=2), x):
        if clear is not None:
            model.zero_grad(set_to_none=clear)
        model(batch)
        hebb.write_grad()
    assert same(written(model), want)


def test_a_finish_sees_the_sum_of_micro_batches() -> None:
    model, x = net(), images()
    rules = {"*": fasthebb.Oja(finish=lambda dw, w: torch.sign(dw) + w)}
    plain = grads(model, x, rules=fasthebb.Oja())
    got = grads(model, *x.split(1), rules=rules)
    weights = dict(model.named_parameters())
    assert same(got, {name: plain[name].sign() - weights[name].detach() for name in plain})


def test_frozen_weights_learn_by_their_rule() -> None:
    model, x = net(), images()
    want = grads(model, x)
    frozen = net().requires_grad_(False)
    assert same(grads(frozen, x), want)


def test_one_layer_alone_may_learn() -> None:
    model, x = net(), images()
    want = grads(model, x)
    hebb = fasthebb.attach(model, RULES)
    hebb.focus("fc")
    model(x)
    hebb.write_grad()
    assert model.conv.weight.grad is None
    assert error(model.fc.weight.grad, want["fc.weight"]) <= 1e-12
    hebb.focus(None)
    model(x)
    hebb.write_grad()
    assert same(written(model), want)
    with pytest.raises(ValueError, match="'head' is not attached; there are conv, fc"):
        hebb.focus("head")


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("rule", [fasthebb.HPCA(), fasthebb.BCM()], ids=str)
def test_what_activation_checkpointing_computes_again_is_heard_once(
    rule: fasthebb.Rule, before: bool, reentrant: bool
) -> None:
    def steps(checkpointed: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        first, last = nn.Linear(6, 5, bias=False), nn.Linear(5, 3, bias=False)
        hebb, seen = fasthebb.attach(nn.Sequential(first, last), rule), []
        for number in range(3):
            x = torch.linspace(-1, 1, 48).view(8, 6).mul(number + 1).requires_grad_()
            y = checkpoint(first, x, use_reentrant=reentrant) if checkpointed else first(x)
            loss = last(y.relu()).square().sum()
            if before:
                hebb.write_grad()
            loss.backward()
            if not before:
                hebb.write_grad()
            seen.append(first.weight.grad.clone())  # type: ignore[union-attr]
        return seen

    for one, two in zip(steps(False), steps(True)):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=0)


FORMATS = [torch.contiguous_format, torch.channels_last]
LENT = {
    "linear": (lambda: nn.Linear(6, 5, bias=False), (3, 6)),
    "conv": (lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False), (3, 4, 5, 5)),
    "conv1x1": (lambda: nn.Conv2d(4, 6, 1, bias=False), (3, 4, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, bias=False), (3, 4, 5, 5)),
}


@pytest.mark.parametrize("kind", LENT)
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_a_gradient_lies_where_its_sums_were_until_the_next_forward(kind: str, format: torch.memory_format) -> None:
    make, shape = LENT[kind]
    torch.manual_seed(0)
    layer, x = make().double(), torch.randn(shape).double()
    if len(shape) == 4:
        layer, x = layer.to(memory_format=format), x.to(memory_format=format)
    hebb = fasthebb.attach(layer, fasthebb.Oja())
    with torch.no_grad():
        layer(x)
        layer.weight.grad = torch.empty_like(layer.weight)  # a place of its own
        hebb.write_grad()
        want, layer.weight.grad = layer.weight.grad, None
        layer(x)
        hebb.write_grad()
        grad = layer.weight.grad
        assert grad is not None
        assert torch.equal(grad, want)
        if kind != "transposed":  # whose units lie across its weight
            sums = hebb._step.sums_of(hebb._layers[0])
            assert grad.untyped_storage().data_ptr() == sums.numerator.untyped_storage().data_ptr()
            layer.eval()(x)
            assert layer.weight.grad is not None  # not heard
            layer.train()(x)
            assert layer.weight.grad is None
            layer(x)
            hebb.write_grad()
        assert error(layer.weight.grad, want) <= 1e-12  # type: ignore[arg-type]


@pytest.mark.parametrize("between", [None, "load", "move"])
def test_a_backward_after_the_forward_does_not_meet_the_sums(between: str | None) -> None:
    model, x = net(), images()
    local = grads(model, x)
    model.zero_grad()
    model.eval()(x).square().mean().backward()
    gradient = written(model)
    model.zero_grad()
    hebb = fasthebb.attach(model.train(), RULES)
    for _ in range(2):
        if between == "load":
            hebb.load_state_dict(hebb.state_dict())
        if between == "move":
            model.float().double()  # makes gradients its own
            model.load_state_dict(net().state_dict())
            model.zero_grad()
        with torch.no_grad():
            model.train()(x)
        model.eval()(x).square().mean().backward()  # nobody called zero_grad
        hebb.write_grad(local=0.3, gradient=0.7)
        for name, p in model.named_parameters():
            assert error(p.grad, 0.3 * local[name] + 0.7 * gradient[name]) <= 1e-12
        model.zero_grad()
        with torch.no_grad():
            model.train()(x)
        hebb.write_grad()
        assert same(written(model), local)


def test_a_gradient_outlives_its_handle() -> None:
    model, x = net(), images()
    want = grads(model, x)
    hebb = fasthebb.attach(model, RULES)
    model.zero_grad()
    model(x)
    hebb.write_grad()
    hebb.detach()
    model(x)
    assert same(written(model), want)
