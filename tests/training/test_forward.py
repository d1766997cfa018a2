"""A pre-training forward ends where nothing learns or keeps statistics any more, and changes no result."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import fasthebb
from fasthebb.training.forward import Forward


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
