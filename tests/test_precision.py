"""Number formats: weights in any of them, autocast, inference mode, and models that change theirs."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
import torch
from cases import LAYERS, error, learned, make
from nets import RULES, grads, images, net, same, written
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fasthebb
from fasthebb import ops

PAPER = [fasthebb.HPCA(), fasthebb.SoftWTA(0.02)]
GEOMETRIES = [
    case for case in LAYERS if case.name in ("linear-bias", "linear-wide", "conv2d-groups", "convT2d", "conv2d-reflect")
]

pytestmark = pytest.mark.filterwarnings("ignore:No rule trains a bias")


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rule", PAPER, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("case", GEOMETRIES, ids=lambda case: case.name)
def test_narrow_weights(case: object, rule: fasthebb.Rule, dtype: torch.dtype) -> None:
    layer, x = make(case)
    layer, x = layer.to(dtype), x.to(dtype)
    got = learned(rule, layer, x)
    want = learned(rule, layer.double(), x.double())  # of the rounded weights and inputs
    assert got.dtype == dtype
    if dtype == torch.float32:
        assert error(got.double(), want) <= 1e-5
    else:
        assert cosine(got, want) >= 0.999


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_weights_are_summed_in_single_precision(dtype: torch.dtype) -> None:
    layer = nn.Linear(1, 1, bias=False).to(dtype)
    layer.weight.data.fill_(1)
    x = torch.full((70_000, 1), 0.5).to(dtype)  # in bfloat16 a sum of so many stops growing, in float16 it overflows
    assert float(learned(fasthebb.Hebb(), layer, x, x)) == 0.25


@pytest.mark.parametrize("rule", PAPER, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("width", [8, 200])  # 200 units over few samples take the causal form
def test_autocast_is_close(rule: fasthebb.Rule, width: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, width))
    x = torch.randn(8, 3, 8, 8)
    hebb = fasthebb.attach(model, rule)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
        hebb.write_grad()
    hebb.detach()
    got = written(model)
    want = grads(model.double(), x.double(), rules=rule)
    for name in want:
        assert got[name].dtype == torch.float32
        assert cosine(got[name], want[name]) >= 0.999


class Products(TorchDispatchMode):
    """The number formats in which inputs are correlated with posts."""

    def __init__(self) -> None:
        super().__init__()
        self.formats: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.convolution_backward, torch.ops.aten.bmm, torch.ops.aten.baddbmm):
            self.formats.add(args[1].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("autocast", "format"),
    [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32), (None, torch.float32)],  # float16 overflows
)
def test_rules_multiply_as_autocast_says(
    autocast: torch.dtype | None, format: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "FEW", 0)  # rows whose factors are made wide
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(), nn.Linear(4 * 36, 5, bias=False))
    hebb, seen = fasthebb.attach(model, fasthebb.Hebb()), Products()
    with torch.no_grad(), torch.autocast("cpu", autocast, enabled=autocast is not None), seen:
        model(torch.randn(8, 3, 8, 8))
        model(torch.randn(8, 3, 8, 8))  # added to the sums of the first
    assert seen.formats == {format}
    hebb.write_grad()
    assert all(value.dtype == torch.float32 for value in written(model).values())


@pytest.mark.parametrize("case", GEOMETRIES, ids=lambda case: case.name)
def test_products_in_bfloat16_are_those_of_rounded_factors(case: object) -> None:
    layer, x = make(case)
    layer, x = layer.float(), x.float()
    with torch.no_grad():
        y = layer(x).bfloat16()  # what a rule sees under autocast

    def update(layer: nn.Module, x: Tensor, y: Tensor, *, autocast: bool) -> Tensor:
        hebb = fasthebb.attach(layer, fasthebb.Hebb())
        layer.register_forward_hook(lambda module, args, out: y, prepend=True)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            layer(x)
        hebb.write_grad()
        return written(layer)["weight"].double()

    got = update(copy.deepcopy(layer), x, y, autocast=True)
    want = update(layer.double(), x.bfloat16().double(), y.double(), autocast=False)
    assert error(got, want) <= 2**-8  # each product's sum is rounded once


@pytest.mark.parametrize("write", [torch.inference_mode, contextlib.nullcontext])
def test_inference_mode(write: type[contextlib.AbstractContextManager[object]]) -> None:
    model, x = net(), images()
    want = grads(model, x)
    hebb, opt = fasthebb.attach(model, RULES), torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model.zero_grad()
        with torch.inference_mode():
            model(x)
        with write():
            hebb.write_grad()
        assert same(written(model), want)
        opt.zero_grad(set_to_none=False)  # whatever the mode, what was written stays writable
        assert float(model.conv.weight.grad.abs().sum()) == 0
    model(x)
    hebb.write_grad()
    opt.step()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_model_that_changes_its_format(when: str) -> None:
    model, x = net().float(), images()
    hebb = fasthebb.attach(model, RULES)
    if when == "after":
        model(x.float())
        hebb.write_grad()
    model.double()
    model(x)
    hebb.write_grad()
    hebb.detach()
    got = written(model)
    assert all(g.dtype == torch.float64 for g in got.values())
    assert same(got, grads(model, x))


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).to(self.b.weight.dtype))


def test_a_layer_that_changes_its_format_alone() -> None:
    model = Mixed()
    x = torch.randn(4, 6)
    hebb = fasthebb.attach(model, fasthebb.Oja())
    model(x)
    hebb.write_grad()
    model.b.double()
    model(x)
    hebb.write_grad()
    hebb.detach()
    got = written(model)
    assert [g.dtype for g in got.values()] == [torch.float32, torch.float64]
    assert same(got, grads(model, x, rules=fasthebb.Oja()))


def test_a_model_that_changes_its_format_in_mid_step() -> None:
    model, x = net(), images()
    fasthebb.attach(model, RULES)
    model(x)
    model.float()
    with pytest.raises(ValueError, match=r"'conv' changed device or number format .* call write_grad\(\) first"):
        model(x.float())
