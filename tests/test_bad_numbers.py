"""Numbers that break formulas: the right answer or a ValueError that names the argument, never NaN; for every rule."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from cases import (
    MEMORIES,
    RULES,
    SIGNALS,
    LayerCase,
    MemoryCase,
    RuleCase,
    SignalCase,
    expected,
    expected_of_signal,
    label,
    learned,
    samples,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fasthebb
from fasthebb import KWTA, HardWTA, Instar, Krotov, SoftHebb, SoftWTA, competition, finish
from fasthebb.response import RBF, Lebesgue, RaisedCosine

Case = RuleCase | SignalCase
CASES: list[Case] = [*RULES, *SIGNALS]
LAYERS = [
    LayerCase("linear", lambda: nn.Linear(7, 5, bias=False), (4, 7)),
    LayerCase("conv", lambda: nn.Conv2d(4, 10, 3, groups=2, padding=1, bias=False), (2, 4, 4, 4)),
    LayerCase("one-unit", lambda: nn.Linear(7, 1, bias=False), (4, 7)),
    LayerCase("one-unit-conv", lambda: nn.Conv2d(3, 1, 3, bias=False), (2, 3, 4, 4)),
    LayerCase("groups-of-one", lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False), (2, 4, 4, 4)),
]
INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "one image": lambda x: x[:1],
    "constant": torch.ones_like,
    "equal": lambda x: x[:1].expand_as(x).clone(),
    "zero": torch.zeros_like,
    "one zero image": lambda x: torch.cat([torch.zeros_like(x[:1]), x[1:]]),
}

pytestmark = pytest.mark.filterwarnings("ignore:No rule trains a bias")


def layer_and_input(case: LayerCase) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return case.make().double(), torch.randn(case.input, dtype=torch.float64)


def updated(case: Case, layer: nn.Module, x: Tensor) -> Tensor:
    """ΔW by the engine, of one batch."""
    signals = [case.signal(len(samples(layer, x)))] if isinstance(case, SignalCase) else ()
    return learned(case.rule, layer, x, signals=signals)


def outcome(case: Case, layer: nn.Module, x: Tensor) -> Tensor | Exception:
    """ΔW, or what is said instead."""
    try:
        return updated(case, layer, x)
    except (ValueError, FloatingPointError) as problem:
        return problem


def refused(got: Tensor | Exception) -> bool:
    """Whether the layer is refused, by the name of an argument."""
    if isinstance(got, ValueError):
        assert re.search(r"\w+\(\w+=.*units|take labels from 0 to 0", str(got)), got
    return isinstance(got, ValueError)


def overflows(got: Tensor | Exception) -> bool:
    """Whether the step is lost, and the likely cause named."""
    if isinstance(got, FloatingPointError):
        assert "its update overflows" in str(got)
    return isinstance(got, FloatingPointError)


def check(case: Case, layer: nn.Module, x: Tensor) -> None:
    """ΔW is that of the literal loop."""
    want = (expected_of_signal if isinstance(case, SignalCase) else expected)(case, layer, x)
    wrong = float((updated(case, layer, x) - want).norm())
    assert wrong <= 1e-10 * float(want.norm() + layer.weight.detach().norm())  # a tangent may be 0 but for rounding


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("kind", LAYERS, ids=lambda case: case.name)
def test_the_right_answer_or_a_refusal(kind: LayerCase, case: Case) -> None:
    layer, x = layer_and_input(kind)
    if refused(outcome(case, layer, x)):
        assert kind.name not in ("linear", "conv")
        return
    for numbers in INPUTS.values():
        check(case, layer, numbers(x))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("kind", LAYERS[:2], ids=lambda case: case.name)
def test_weights_of_zero(kind: LayerCase, case: Case) -> None:
    layer, x = layer_and_input(kind)
    layer.weight.data[1] = 0
    check(case, layer, x)
    layer.weight.data.zero_()
    check(case, layer, x)


@pytest.mark.parametrize("memory", MEMORIES, ids=lambda case: case.name)
@pytest.mark.parametrize("numbers", ["zero", "constant", "one image"])
def test_what_is_remembered_of_bad_images_is_finite(numbers: str, memory: MemoryCase) -> None:
    layer, x = layer_and_input(LAYERS[1])
    hebb = fasthebb.attach(layer, memory.rule)
    for _ in range(60):
        layer(INPUTS[numbers](x))
        hebb.write_grad()
    layer(x)
    hebb.write_grad()
    assert layer.weight.grad.isfinite().all()
    assert all(kept.isfinite().all() for kept in hebb.state_dict()["layers"][""].values())


@pytest.mark.parametrize("scale", [1e18, 1e-18], ids=["huge", "tiny"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("kind", LAYERS[:2], ids=lambda case: case.name)
def test_huge_and_tiny_images_in_single_precision(kind: LayerCase, case: Case, scale: float) -> None:
    layer, x = layer_and_input(kind)
    layer, x = layer.float(), (x * scale).float()
    got = outcome(case, layer, x)
    if overflows(got):
        assert scale > 1
        return
    want = updated(case, layer.double(), x.double())
    assert got.isfinite().all()
    size = float(want.norm())
    if case.rule.finish is finish.tangent:  # which may cancel all of ΔW but rounding
        size += float(layer.weight.detach().norm())
    assert float((got - want).norm()) <= 1e-4 * size


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("kind", LAYERS[:2], ids=lambda case: case.name)
def test_narrow_weights(kind: LayerCase, case: Case, dtype: torch.dtype) -> None:
    layer, x = layer_and_input(kind)
    layer, x = layer.to(dtype), x.to(dtype)
    got = updated(case, layer, x)
    want = updated(case, layer.double(), x.double())  # of the rounded numbers
    assert got.dtype == dtype
    assert got.isfinite().all()
    if not want.any():
        assert not got.any()
    else:  # a near tie may be won by another unit
        assert float(torch.cosine_similarity(got.double().flatten(), want.flatten(), dim=0)) >= 0.95


def test_what_narrow_weights_cannot_hold_is_refused() -> None:
    layer = nn.Linear(4, 2, bias=False).half()
    hebb = fasthebb.attach(layer, fasthebb.Hebb())
    nn.init.ones_(layer.weight)
    layer(torch.full((3, 4), 200.0).half())
    with pytest.raises(FloatingPointError, match="its update overflows"):
        hebb.write_grad()
    assert not layer.weight.grad.any()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    case=st.sampled_from(CASES),
    kind=st.sampled_from(LAYERS),
    scales=st.lists(st.integers(-18, 18), min_size=1, max_size=3),
    blank=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_no_mixture_of_magnitudes_gives_nan(
    case: Case, kind: LayerCase, scales: list[int], blank: float, seed: int
) -> None:
    layer, x = layer_and_input(kind)
    generator = torch.Generator().manual_seed(seed)
    powers = torch.tensor(scales)[torch.randint(len(scales), x.shape, generator=generator)]
    x = (x * 10.0**powers).masked_fill(torch.rand(x.shape, generator=generator) < blank, 0).float()
    got = outcome(case, layer.float(), x)
    if refused(got):
        assert kind.name not in ("linear", "conv")
    elif overflows(got):
        assert max(scales) > 5, "not even the square of a cube"
    else:
        assert got.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "rule",
    [
        SoftHebb(finish=finish.max_abs, response=Lebesgue(6.0)),
        Krotov(finish=finish.max_abs, response=Lebesgue(6.0)),
        Instar(competition.Hard(), response=RBF(200.0)),
        HardWTA(response=RaisedCosine(20.0)),
        SoftWTA(0.01, "power", response=RaisedCosine(8.0)),
    ],
    ids=label,
)
def test_powers_beyond_a_narrow_format_are_taken_in_single_precision(rule: fasthebb.Rule, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(64, 4, bias=False).to(dtype), 60 * torch.randn(9, 64).to(dtype)  # ‖x‖² is 230 000
    layer.weight.data.mul_(100)  # to the power 5 these are 3 000 000
    assert float(x.float().square().sum(dim=1).min()) > torch.finfo(torch.float16).max
    assert float(layer.weight.detach().float().abs().max()) ** 5 > torch.finfo(torch.float16).max
    got = learned(rule, layer, x)
    want = learned(rule, layer.double(), x.double())
    assert got.isfinite().all()
    assert want.any()
    assert float(torch.cosine_similarity(got.double().flatten(), want.flatten(), dim=0)) >= 0.999


NEVER = [0, -1, -0.5, float("nan"), float("inf"), float("-inf")]
WRONG: dict[str, tuple[Callable[[float], object], list[float]]] = {
    "SoftWTA(temperature=": (lambda v: SoftWTA(v), NEVER),
    "SoftHebb(temperature=": (lambda v: SoftHebb(v), NEVER),
    "Softmax(temperature=": (lambda v: competition.Softmax(v), NEVER),
    "Power(temperature=": (lambda v: competition.Power(v), NEVER),
    "SoftHebb(prior_rate=": (lambda v: SoftHebb(prior_rate=v), [-0.1, 1.1, float("nan")]),
    "KWTA(k=": (lambda v: KWTA(int(v)), [0, -1]),
    "KWinners(k=": (lambda v: competition.KWinners(int(v)), [0, -1]),
    "Krotov(delta=": (lambda v: Krotov(v), [-0.1, float("nan"), float("inf")]),
    "Krotov(k=": (lambda v: Krotov(k=int(v)), [1, 0, -3]),
    "RaisedCosine(power=": (lambda v: RaisedCosine(v), NEVER),
    "Lebesgue(p=": (lambda v: Lebesgue(v), [0.9, *NEVER]),
    "RBF(sigma=": (lambda v: RBF(v), NEVER),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, values) in WRONG.items() for value in values])
def test_arguments_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name}{value}): ")) as problem:
        WRONG[name][0](value)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("layer", [nn.Linear(7, 4), nn.Conv2d(4, 8, 3, groups=2)], ids=["Linear", "Conv2d"])
@pytest.mark.parametrize("rule", [KWTA(5), Instar(competition.KWinners(5))], ids=str)
def test_more_winners_than_units_are_refused_when_attached(rule: fasthebb.Rule, layer: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"\(k=5\): the layer has 4 units a group; take k from 1 to 4"):
        fasthebb.attach(layer, rule)
