"""A forward in bfloat16: close to float32, in float32 outside, and undone where a forward is broken off."""

from __future__ import annotations

import copy

import pytest
import torch

import fasthebb
from fasthebb.evaluation import extract
from fasthebb.models import deephebb, sixlayer
from fasthebb.training.finetune import finetune
from fasthebb.training.loop import place

CPU = torch.device("cpu")


def _pair(build: object = sixlayer) -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    model = build(width=0.125)  # type: ignore[operator]
    return place(copy.deepcopy(model), CPU), place(model, CPU, "bf16")


@pytest.mark.parametrize("build", [sixlayer, deephebb])
def test_output_is_close_and_float32(build: object) -> None:
    exact, fast = _pair(build)
    x = torch.randn(8, 3, 32, 32)
    wanted, given = exact.eval()(x), fast.eval()(x)
    assert given.dtype == torch.float32
    assert 0 < (given - wanted).norm() / wanted.norm() < 0.05
    assert not torch.is_autocast_enabled("cpu")


def test_features_and_a_forward_broken_off() -> None:
    exact, fast = _pair()
    loader = [(torch.randn(8, 3, 32, 32), torch.zeros(8))]
    wanted, given = (extract(model, "conv3", loader)[0] for model in (exact, fast))
    assert given.dtype == torch.float32
    assert 0 < (given - wanted).norm() / wanted.norm() < 0.05
    assert not torch.is_autocast_enabled("cpu")


def test_a_copy_calculates_by_itself() -> None:
    _, fast = _pair()
    other = copy.deepcopy(fast)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert other.eval()(torch.randn(2, 3, 32, 32)).abs().sum() == 0


@pytest.mark.parametrize(
    ("rule", "forward"), [(fasthebb.HPCA(), "relu"), (fasthebb.SoftWTA(), "unit_norm_relu")], ids=["hpca", "swta"]
)
def test_updates_point_where_those_of_double_precision_do(rule: fasthebb.Rule, forward: str) -> None:
    torch.manual_seed(0)
    model = sixlayer(width=0.125, forward=forward)
    x = torch.randn(32, 3, 32, 32).cumsum(2).cumsum(3) / 8

    def update(model: torch.nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hebb = fasthebb.attach(model, {"fc6": None, "*": rule})
        with torch.no_grad():
            model.train()(x)
        hebb.write_grad()
        return {name: p.grad.double().flatten() for name, p in model.named_parameters() if p.grad is not None}

    exact = update(copy.deepcopy(model).double(), x.double())
    fast = update(place(model, CPU, "bf16"), x)
    assert exact.keys() == fast.keys()
    for name, value in exact.items():
        assert torch.cosine_similarity(fast[name], value, dim=0) >= 0.999, name
    assert any(not torch.equal(fast[name], value) for name, value in exact.items())


def test_training_learns_and_keeps_weights_in_float32() -> None:
    _, fast = _pair()
    labels = torch.arange(8) % 2
    x = torch.randn(8, 3, 32, 32) + labels[:, None, None, None]
    history = finetune(fast, [(x, labels)], epochs=30, lr=1e-2)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert {parameter.dtype for parameter in fast.parameters()} == {torch.float32}
