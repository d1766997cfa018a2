"""The optimizer of stages by gradients takes the steps of PyTorch's default form, of weights that begin late too."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fasthebb.training.sgd import nesterov


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_steps_are_those_of_the_default_form(momentum: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    plain = copy.deepcopy(net)
    ours = nesterov(net.parameters(), lr=0.1, momentum=momentum, weight_decay=0.01)
    theirs = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=momentum, nesterov=momentum > 0, weight_decay=0.01)
    for step in range(6):
        x = torch.randn(11, 7, dtype=torch.float64)
        for model, optimizer in ((net, ours), (plain, theirs)):
            model[0].requires_grad_(step >= 2)
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    for a, b in zip(net.parameters(), plain.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
