"""The order in which a forward calls layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fasthebb.models import call_order, trainable_layers


class Crossed(nn.Module):
    """Calls c, a, c again, and never b."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.a(self.norm(self.c(x))))


def test_order_is_of_first_calls() -> None:
    model = Crossed()
    assert trainable_layers(model) == ("a", "b", "c")
    assert call_order(model, ["a", "b", "c"], torch.ones(3, 2)) == ("c", "a")
    assert call_order(model, ["norm", "a"], torch.ones(3, 2)) == ("norm", "a")


@pytest.mark.parametrize("x", [torch.ones(3, 2), torch.ones(3, 5)])
def test_nothing_stays_behind(x: Tensor) -> None:
    model = Crossed().train()
    model.b.eval()
    before = model.norm.running_mean.clone()
    try:
        call_order(model, ["a"], x)
    except RuntimeError:
        assert x.shape[1] == 5
    assert [m.training for m in (model, model.a, model.b, model.norm)] == [True, True, False, True]
    assert torch.equal(model.norm.running_mean, before)
    assert not any(m._forward_pre_hooks for m in model.modules())
