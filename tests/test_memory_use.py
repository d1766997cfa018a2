"""What a forward leaves behind and allocates: no activation outlives its layer, no patch matrix exists."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import torch
from cases import RULES, SIGNALS, RuleCase, SignalCase
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import fasthebb
from fasthebb import update

PAPER = [fasthebb.HPCA(), fasthebb.SoftWTA(0.02), fasthebb.Subspace(), fasthebb.KWTA(2)]


@pytest.fixture
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()  # what dies does so for want of references
    yield
    gc.enable()


def deep() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.Tanh(), nn.Linear(24, 4)
    )


@pytest.mark.usefixtures("_no_garbage_collection")
@pytest.mark.filterwarnings("ignore:No rule trains a bias")
@pytest.mark.parametrize("rule", RULES, ids=lambda case: case.name)
def test_no_activation_outlives_its_layer(rule: RuleCase) -> None:
    model = deep()
    hebb = fasthebb.attach(model, rule.rule)
    outputs: list[weakref.ref[Tensor]] = []

    def earlier_ones_are_gone(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert [output() is None for output in outputs] == [True] * (len(outputs) - 1) + [False] * bool(outputs)

    def note(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        outputs.append(weakref.ref(out))

    for module in model:
        module.register_forward_pre_hook(earlier_ones_are_gone)
        module.register_forward_hook(note)
    known = {id(t) for t in gc.get_objects() if type(t) is Tensor}
    with torch.no_grad():
        model(torch.randn(16, 2, 24, 24))
    assert [output() for output in outputs] == [None] * 5
    kept = [t.numel() for t in gc.get_objects() if type(t) is Tensor and id(t) not in known]
    weights = sum(p.numel() for p in model.parameters())
    assert kept  # the handle's sums
    assert max(kept) < weights + 1000 < 16 * 3 * 576
    hebb.write_grad()


def allocations(layer: nn.Module, rule: fasthebb.Rule, x: Tensor, signal: Tensor | None = None) -> list[int]:
    """Bytes of what a training forward and a write_grad allocate."""
    hebb = fasthebb.attach(layer, rule)
    hebb.signal = signal
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        layer(x)
        hebb.write_grad()
    hebb.detach()
    return [event.self_cpu_memory_usage for event in profiler.events() if event.self_cpu_memory_usage > 0]


@pytest.mark.parametrize("rule", PAPER, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_no_patch_matrix_is_ever_made(
    kind: type[nn.Module], rule: fasthebb.Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(update.PART_BYTES, "cpu", 1 << 40)  # the whole batch at once
    layer, x = kind(4, 8, 9, bias=False), torch.randn(4, 4, 40, 40)
    out = layer(x).nbytes
    patches = out // 8 * 4 * 81  # N·L·K numbers
    assert max(allocations(layer, rule, x)) == out < patches / 40


EVERY: list[RuleCase | SignalCase] = [*RULES, *SIGNALS]


@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Linear])
def test_no_rule_makes_a_patch_matrix_or_an_update_of_each_sample(
    kind: type[nn.Module], case: RuleCase | SignalCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a step allocates is no larger than its output, input, weights or a matrix of units, and not many of them.

    All allocations together bound the peak from above: they are fewer bytes than the one matrix would be.
    """
    monkeypatch.setitem(update.PART_BYTES, "cpu", 1 << 40)  # the whole batch at once
    if kind is nn.Conv2d:
        layer, x = kind(4, 8, 9, bias=False), torch.randn(4, 4, 40, 40)
    else:
        layer, x = kind(250, 300, bias=False), torch.randn(60, 250)
    units, fan_in = len(layer.weight), layer.weight[0].numel()
    samples = layer(x).numel() // units
    forbidden = samples * fan_in if kind is nn.Conv2d else samples * units * fan_in
    signal = case.signal(len(x)) if isinstance(case, SignalCase) else None
    sizes = [size // 4 for size in allocations(layer, case.rule, x, signal)]
    assert max(sizes) <= 1.25 * max(samples * units, x.numel(), units * fan_in, units * units)
    assert sum(sizes) < forbidden


def test_the_meter_sees_an_update_of_each_sample() -> None:
    """A rule that made [N, C, K] would not pass."""

    class Wasteful(fasthebb.Hebb):
        def terms(self, y: Tensor, *args: object) -> fasthebb.Terms:
            return super().terms(y + y.unsqueeze(-1).repeat(1, 1, 1, 1, 324).sum(-1), {})

    layer, x = nn.Conv2d(4, 8, 9, bias=False), torch.randn(4, 4, 40, 40)
    assert max(allocations(layer, Wasteful(), x)) == layer(x).nbytes * 324


@pytest.mark.parametrize(
    "rule", [rule for rule in PAPER if rule != fasthebb.Subspace()], ids=lambda rule: type(rule).__name__
)
def test_a_large_batch_is_worked_in_parts(rule: fasthebb.Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = nn.Conv2d(2, 16, 3, bias=False), torch.randn(32, 2, 30, 30)
    out = layer(x).nbytes
    monkeypatch.setitem(update.PART_BYTES, "cpu", 1 << 40)
    assert sum(size >= out for size in allocations(layer, rule, x)) >= 2  # the response is as large as the output
    monkeypatch.setitem(update.PART_BYTES, "cpu", out // 8)
    assert sorted(size > out // 8 for size in allocations(layer, rule, x))[-2:] == [
        False,
        True,
    ]  # only the output itself
