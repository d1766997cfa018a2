"""Every rule × every layer against the literal loop, in float64."""

from __future__ import annotations

import pytest
import torch
from cases import (
    LAYERS,
    MEMORIES,
    RULES,
    SIGNALS,
    LayerCase,
    MemoryCase,
    RuleCase,
    SignalCase,
    error,
    expected,
    expected_of_signal,
    learned,
    make,
    samples,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fasthebb
import reference
from fasthebb import update
from reference.patches import patches, unit_weights
from reference.update import respond

BATCHED = [case for case in LAYERS if case.name not in ("linear-vector", "conv2d-unbatched")]

pytestmark = pytest.mark.filterwarnings("ignore:No rule trains a bias")


@pytest.mark.parametrize("rule", RULES, ids=lambda case: case.name)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda case: case.name)
def test_equals_the_literal_loop(layer: LayerCase, rule: RuleCase) -> None:
    module, x = make(layer)
    assert error(learned(rule.rule, module, x), expected(rule, module, x)) <= 1e-10


@pytest.mark.parametrize("rule", RULES, ids=lambda case: case.name)
@pytest.mark.parametrize("layer", BATCHED, ids=lambda case: case.name)
def test_parts_and_micro_batches_add_up(layer: LayerCase, rule: RuleCase, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = make(layer)
    whole = learned(rule.rule, module, x)
    assert error(learned(rule.rule, module, *x.split(1)), whole) <= 1e-10
    monkeypatch.setitem(update.PART_BYTES, "cpu", 1)  # one sample a part, one unit a block
    assert error(learned(rule.rule, module, x), whole) <= 1e-10


@pytest.mark.parametrize("rule", SIGNALS, ids=lambda case: case.name)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda case: case.name)
def test_signals_equal_the_literal_loop(layer: LayerCase, rule: SignalCase, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = make(layer)
    signal = rule.signal(len(samples(module, x)))
    want = expected_of_signal(rule, module, x)
    assert error(learned(rule.rule, module, x, signals=[signal]), want) <= 1e-10
    if layer in BATCHED:
        assert error(learned(rule.rule, module, *x.split(1), signals=signal.split(1)), want) <= 1e-10
        monkeypatch.setitem(update.PART_BYTES, "cpu", 1)
        assert error(learned(rule.rule, module, x, signals=[signal]), want) <= 1e-10


@pytest.mark.parametrize("rule", MEMORIES, ids=lambda case: case.name)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda case: case.name)
def test_memory_equals_the_literal_loop(layer: LayerCase, rule: MemoryCase) -> None:
    module, x = make(layer)
    hebb = fasthebb.attach(module, rule.rule)
    memory = [rule.start(len(w)) for w in unit_weights(module)]
    for step in range(3):
        module.weight.grad = None
        seen = x * (1 + step / 4)
        responses = [respond(*group, rule.response) for group in zip(patches(module, seen), unit_weights(module))]
        want = reference.update(module, seen, [rule.loop(m) for m in memory], response=rule.response)
        for part in seen.chunk(2) if layer in BATCHED else [seen]:
            module(part)
        hebb.write_grad()
        assert error(-module.weight.grad, want) <= 1e-10
        memory = [rule.after(m, y) for m, y in zip(memory, responses)]
        kept = hebb.state_dict()["layers"][""]
        for name in memory[0]:
            got = kept[name] if kept[name].ndim == 0 else torch.cat(list(kept[name]))
            want_kept = memory[0][name] if kept[name].ndim == 0 else torch.cat([m[name] for m in memory])
            assert error(got, want_kept) <= 1e-10
        module.weight.data += 0.05 * want


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("rule", RULES, ids=lambda case: case.name)
def test_channels_last_is_the_same(rule: RuleCase, batch: int) -> None:
    module, x = make(LayerCase("", lambda: nn.Conv2d(4, 10, 3, groups=2, padding=1), (batch, 4, 5, 5)))
    want = learned(rule.rule, module, x)
    module = module.to(memory_format=torch.channels_last)
    assert error(learned(rule.rule, module, x.contiguous(memory_format=torch.channels_last)), want) <= 1e-10


@st.composite
def geometries(draw: st.DrawFn) -> LayerCase:
    """Any convolution, transposed or not, with a fan-in of two or more: with one, all cosines tie but for rounding."""
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))

    def numbers(low: int, high: int) -> tuple[int, ...]:
        return draw(st.tuples(*[st.integers(low, high)] * dims))

    kernel, stride, dilation = numbers(1, 3), numbers(1, 3), numbers(1, 2)
    channels, units = groups * draw(st.integers(2, 3)), groups * draw(st.integers(3, 4))
    options: dict[str, object] = {"stride": stride, "dilation": dilation, "groups": groups, "bias": draw(st.booleans())}
    spans = [(k - 1) * d for k, d in zip(kernel, dilation)]
    if draw(st.booleans()):
        kind: type[nn.Module] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 1]
        size = numbers(1, 3)
        options["padding"] = tuple(draw(st.integers(0, span // 2)) for span in spans)
        options["output_padding"] = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation))
    else:
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        size = tuple(draw(st.integers(span + 1, span + 3)) for span in spans)
        options["padding"] = tuple(draw(st.integers(0, min(2, s - 1))) for s in size)
        options["padding_mode"] = draw(st.sampled_from(("zeros", "reflect", "replicate", "circular")))
    batch = draw(st.integers(1, 2))
    return LayerCase(kind.__name__, lambda: kind(channels, units, kernel, **options), (batch, channels, *size))


@settings(max_examples=250, deadline=None, derandomize=True)
@given(layer=geometries(), rule=st.sampled_from(RULES), seed=st.integers(0, 99))
def test_any_geometry_equals_the_literal_loop(layer: LayerCase, rule: RuleCase, seed: int) -> None:
    module, x = make(layer, seed)
    assert error(learned(rule.rule, module, x), expected(rule, module, x)) <= 1e-10


@pytest.mark.parametrize("rule", RULES, ids=lambda case: case.name)
def test_a_dead_unit_does_not_move(rule: RuleCase) -> None:
    layer = nn.Linear(4, 3, bias=False).double()
    assert torch.equal(learned(rule.rule, layer, torch.zeros(0, 4).double()), torch.zeros(3, 4).double())


def test_a_unit_that_never_wins_is_counted_and_stays() -> None:
    layer = nn.Linear(2, 3, bias=False).double()
    layer.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    hebb = fasthebb.attach(layer, fasthebb.HardWTA())
    layer(torch.tensor([[2.0, 0.1], [0.1, 2.0]], dtype=torch.float64))
    hebb.write_grad()
    assert hebb.summary().rows[0].dead == 1
    assert torch.equal(layer.weight.grad[2], torch.zeros(2).double())
