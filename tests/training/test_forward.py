"""A pre-training forward ends where nothing learns or keeps statistics any more, and changes no result."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import fasthebb
from fasthebb.models import sixlayer, vgg
from fasthebb.models.order import call_order
from fasthebb.training.forward import Forward, Tail, entering, modules_before


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), nn.Tanh(), nn.BatchNorm1d(4)]
    return nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(4, 3))


def called(model: nn.Sequential, forward: Forward, x: Tensor) -> list[int]:
    seen: list[int] = []
    hooks = [m.register_forward_hook(lambda *_, i=i: seen.append(i)) for i, m in enumerate(model)]
    forward(x)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(
    ("learns", "attached", "last"),
    [("03", "03", 5), ("0", "03", 1), ("3", "03", 5), ("0", "0", 5), ("7", "7", 7)],
)
def test_it_ends_after_what_is_needed(learns: str, attached: str, last: int) -> None:
    model, x = net().train(), torch.randn(8, 6)
    forward = Forward(model, tuple(learns), tuple(attached), x[:2])
    assert called(model, forward, x) == list(range(last + 1))
    forward.close()
    assert len(model(x)) == 8
    assert not any(module._forward_pre_hooks for module in model)


def test_a_module_called_twice_is_no_end() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.act = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.layer(self.act(x)))

    model, seen = Twice().train(), []
    forward = Forward(model, ("layer",), ("layer",), torch.randn(2, 4))
    model.register_forward_hook(lambda *_: seen.append(1))
    forward(torch.randn(3, 4))
    assert seen == [1]


def test_pretraining_equals_the_whole_forward() -> None:
    short, whole = net(), net()
    batches = [(torch.randn(8, 6), torch.zeros(8)) for _ in range(3)]
    rules = {"7": None, "*": fasthebb.HPCA()}
    with pytest.warns(UserWarning, match="bias"):
        hebb = fasthebb.attach(short, rules)
    fasthebb.pretrain(short, hebb, batches, torch.optim.SGD(hebb.parameters(), lr=0.1), epochs=1)
    with pytest.warns(UserWarning, match="bias"):
        hebb = fasthebb.attach(whole, rules)
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.1)
    for x, _ in batches:
        whole.train()(x)
        hebb.write_grad()
        optimizer.step()
    for name, value in copy.deepcopy(whole).state_dict().items():
        assert torch.equal(value, short.state_dict()[name]), name


@pytest.mark.parametrize(("learns", "last"), [("0", 1), ("3", 5), ("7", 7)])
def test_a_tail_goes_from_its_layer_to_what_is_needed(learns: str, last: int) -> None:
    model, x = net().train(), torch.randn(8, 6)
    tail = Tail(model, learns, ("0", "3", "7"), x[:2])
    seen: list[int] = []
    for i, module in enumerate(model):
        module.register_forward_hook(lambda *_, i=i: seen.append(i))
    tail(torch.randn(8, *tail.example.shape[1:]))
    assert seen == list(range(int(learns), last + 1))


@pytest.mark.parametrize("model", [sixlayer(width=0.05), vgg(11, image_size=32, width=0.05)], ids=["flat", "nested"])
def test_a_tail_does_to_the_model_what_the_forward_does(model: nn.Module) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 3, 32, 32)
    layers = call_order(model, [n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][:-1], x)
    for layer in layers:
        other = copy.deepcopy(model)
        for net in (model, other):
            net.train()
            for module in modules_before(net, layer, x):
                module.eval()
        forward = Forward(model, (layer,), layers, x)
        forward(x)
        forward.close()
        tail = Tail(other, layer, layers, x[:2])
        with entering(other, layer) as enter:
            found = enter(x)
        assert torch.allclose(found[:2], tail.example)
        tail(found)
        for name, value in model.state_dict().items():
            assert torch.allclose(value, other.state_dict()[name]), name


class Residual(nn.Module):
    """Something is added between a batch norm and the next layer, and inside the second part of a block."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.ReLU()
        self.end = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.norm(self.first(x))
        return self.end(self.last(self.second(y) + y))  # type: ignore[no-any-return]


def test_a_tail_needs_a_chain_only_as_far_as_it_goes() -> None:
    model, x = Residual(), torch.randn(2, 4)
    Tail(model, "first", ("first", "second"), x)
    with pytest.raises(
        ValueError, match=r"^Residual from 'second' to 'end' is not a plain chain of modules: leave .*$"
    ):
        Tail(model, "second", ("first", "second"), x)


def test_what_enters_a_layer_ends_the_forward() -> None:
    model, x = net().train(), torch.randn(8, 6)
    model.eval()
    with entering(model, "3") as enter:
        assert called(model, enter, x) == [0, 1, 2]
        assert torch.equal(enter(x), model[:3](x))
    assert model(x).shape == (8, 3)


def test_the_modules_before_a_layer_are_those_that_the_forward_has_left() -> None:
    model, x = nn.Sequential(nn.Sequential(net()[:3], net()[3:]), nn.ReLU()).train(), torch.randn(8, 6)
    first, second = model[0]
    statistics = first[1].running_mean.clone()
    assert set(modules_before(model, "0.1.3", x)) == {first, *first}
    assert set(modules_before(model, "0.1.7", x)) == {first, *first, *second[:4]}
    assert modules_before(model, "0.0.0", x) == []
    assert torch.equal(first[1].running_mean, statistics)
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
