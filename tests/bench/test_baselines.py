"""What we are compared with computes the right thing: golden arrays, and the same step as ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fasthebb.bench import naive, published, steps
from fasthebb.bench.calls import weight_gradient

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "fasthebb.npz")
UPDATES = {
    "published hpca": ("hpca", published.hpca),
    "published hpca_tanh": ("hpca_tanh", lambda x, w: published.hpca(x, w, activation=torch.tanh)),
    "published swta": ("swta", published.swta),
    "naive hpca": ("hpca", naive.hpca),
    "naive swta": ("swta", naive.swta),
}


def golden(rule: str, case: int) -> tuple[Tensor, Tensor, Tensor]:
    x, w, dw = (torch.from_numpy(GOLDEN[f"{rule}/{case}/{field}"]) for field in ("x", "w", "dw"))
    return x, w, dw


@pytest.mark.parametrize("case", [0, 1, 2])
@pytest.mark.parametrize("name", UPDATES)
def test_baseline_updates_are_golden(name: str, case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "ROWS", 7)  # several groups, the last one short
    rule, update = UPDATES[name]
    x, w, dw = golden(rule, case)
    assert (update(x, w) - dw).norm() <= 1e-9 * dw.norm()


@pytest.mark.parametrize("name", UPDATES)
def test_baseline_updates_of_a_linear_layer(name: str) -> None:
    rule, update = UPDATES[name]
    x, w, dw = golden(rule, 2)
    assert (update(x.flatten(1), w.flatten(1)) - dw.flatten(1)).norm() <= 1e-9 * dw.norm()


@pytest.mark.parametrize("rule", ["hpca", "swta"])
@pytest.mark.parametrize("baseline", [steps.published_step, steps.naive_step])
def test_a_baseline_step_is_our_step(rule: str, baseline: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights after one step of the six-layer net."""
    nets: list[nn.Sequential] = []
    make = steps.net_for

    def remembered(*args: object, **kwargs: object) -> nn.Sequential:
        nets.append(make(*args, **kwargs).double())
        return nets[-1]

    monkeypatch.setattr(steps, "net_for", remembered)
    images = steps.noise(4).double()
    start = make(images, width=0.1).double().state_dict()
    for step in (steps.rule_step(steps.RULES[rule], images, width=0.1), baseline(rule, images, width=0.1)):
        step()
    ours, theirs = (net.state_dict() for net in nets)
    for name in ("conv1", "conv2", "conv3", "conv4", "fc5"):
        one, other = (state[f"{name}.weight"] - start[f"{name}.weight"] for state in (ours, theirs))
        assert other.norm() > 0
        assert (one - other).norm() <= 1e-8 * other.norm(), name
    assert torch.equal(ours["fc6.weight"], start["fc6.weight"])


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 3, bias=False), nn.Linear(5, 4, bias=False)])
def test_the_floor_is_a_weight_gradient(layer: nn.Module) -> None:
    x = torch.randn((2, 3, 6, 6) if isinstance(layer, nn.Conv2d) else (2, 5))
    y = layer(x)
    post = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, layer.weight, post)
    torch.testing.assert_close(weight_gradient(layer, x, post), expected)


@pytest.mark.parametrize("rule", ["hpca", "swta"])
def test_naive_estimate_scales_by_the_batch_where_memory_runs_out(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = torch.randn(3, 2, 6, 6), torch.randn(16, 2, 3, 3)
    assert naive.layer_time(rule, x, w).images == 3
    monkeypatch.setattr(naive, "LIMIT_BYTES", 1000)
    time = naive.layer_time(rule, x, w)
    assert time.images == 1
    assert time.seconds > 0
