"""On a GPU: every rule × every layer against the CPU in float64, narrow formats, no waiting, graphs, compiled kernels.

Skipped where there is no GPU. `FASTHEBB_FIGURES` names a file to which the figures seen are added, as lines of JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from cases import LAYERS, RULES, SIGNALS, error, label, learned, make, samples
from test_compile import LABELLED
from test_compile import RULES as DEFAULTS
from torch import Tensor, nn

import fasthebb
from fasthebb.data import ImageSet, Loader
from fasthebb.models import UnitNorm
from fasthebb.training.captured import Captured
from fasthebb.training.loop import device_of

CUDA = torch.device("cuda")
PAPER = ("HPCA", "SoftWTA")  # whose bf16 updates must point where they would in fp64
SEQUENTIAL = ("SOM", "Trace")  # a turn a unit or location: their graphs are as long

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
    pytest.mark.filterwarnings("ignore:No rule trains a bias"),
]


def note(kind: str, name: str, value: float) -> None:
    """Add a figure to the file that collects them, if one is named."""
    if "FASTHEBB_FIGURES" in os.environ:
        with Path(os.environ["FASTHEBB_FIGURES"]).open("a") as file:
            file.write(json.dumps({"kind": kind, "name": name, "value": value}) + "\n")


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def worst(rule: fasthebb.Rule, dtype: torch.dtype, signal: Callable[[int], Tensor] | None = None) -> float:
    """The largest error of a rule's update on the GPU over all layers, relative to the CPU's in float64."""
    found = 0.0
    for case in LAYERS:
        layer, x = make(case)
        given = [signal(len(samples(layer, x)))] if signal else []
        want = learned(rule, layer, x, signals=given)
        layer, x = layer.to(CUDA, dtype), x.to(CUDA, dtype)
        got = learned(rule, layer, x, signals=[s.to(CUDA) for s in given])
        assert got.device.type == "cuda"
        found = max(found, error(got.cpu().double(), want))
    return found


@pytest.mark.parametrize("case", RULES, ids=lambda case: label(case.name))
def test_every_rule_on_every_layer(case: object) -> None:
    found = worst(case.rule, torch.float64)
    note("fp64 error", case.name, found)
    assert found <= 1e-10


@pytest.mark.parametrize("case", SIGNALS, ids=lambda case: label(case.name))
def test_rules_with_a_signal(case: object) -> None:
    assert worst(case.rule, torch.float64, case.signal) <= 1e-10


def net(format: torch.memory_format = torch.channels_last) -> nn.Sequential:
    """A convolution with units of one length, batch norm and a wide Linear layer, which takes the causal form."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 24, 3, bias=False)
    model = nn.Sequential(
        conv, UnitNorm(conv), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(24), nn.Flatten(),
        nn.Linear(24 * 49, 300, bias=False), nn.Linear(300, 10),
    )  # fmt: skip
    return model.to(CUDA, memory_format=format)


def images(seed: int = 0, count: int = 32) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)).to(
        CUDA, memory_format=torch.channels_last
    )


def attached(model: nn.Module, name: str) -> fasthebb.Hebbian:
    return fasthebb.attach(model, {"7": None, "*": DEFAULTS[name]})


def signal(name: str, count: int = 32) -> Tensor | None:
    labels = torch.arange(count, device=CUDA) % 3
    return None if name not in LABELLED else labels.float() if name == "Modulated" else labels


def updates(name: str, dtype: torch.dtype | None = None, *, double: bool = False) -> list[Tensor]:
    """What a step of a rule on the net writes, in a format, autocast where one is given."""
    model = net()
    model, x = (model.double(), images().double()) if double else (model, images())
    hebb = attached(model, name)
    hebb.signal = signal(name)
    hebb.signal = hebb.signal.double() if double and name == "Modulated" else hebb.signal
    with torch.no_grad(), torch.autocast("cuda", dtype or torch.bfloat16, enabled=dtype is not None):
        model(x)
    hebb.write_grad()
    return [p.grad.double() for p in hebb.parameters()]


@pytest.mark.parametrize("name", DEFAULTS)
def test_bf16_updates_point_the_same_way(name: str) -> None:
    pairs = zip(updates(name, torch.bfloat16), updates(name, double=True), strict=True)
    cosine = min(float(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0)) for a, b in pairs)
    note("bf16 cosine", name, cosine)
    assert cosine >= (0.999 if name in PAPER else 0.85)


@pytest.mark.parametrize("name", DEFAULTS)
def test_tf32_convolutions_are_close(name: str) -> None:
    torch.backends.cudnn.allow_tf32 = True
    pairs = zip(updates(name), updates(name, double=True), strict=True)
    found = max(error(a, b) for a, b in pairs)
    note("fp32 with tf32 convolutions, error", name, found)
    assert found <= 1e-3


def stepping(name: str, *, compiled: bool = False, double: bool = False) -> tuple[nn.Module, Callable[[Tensor], None]]:
    """A net and its step; in float64 what one order of sums or another gives stays close over many of them."""
    model = net().double() if double else net()
    hebb = attached(model, name)
    if compiled:
        hebb.compile()
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.01)
    given = signal(name)
    given = given.double() if double and name == "Modulated" and given is not None else given

    def step(x: Tensor) -> None:
        hebb.signal = given
        with torch.no_grad():
            model(x)
        hebb.write_grad()
        optimizer.step()

    return model, step


@pytest.mark.parametrize("name", DEFAULTS)
def test_no_step_waits(name: str) -> None:
    _, step = stepping(name)
    batches = [images(seed) for seed in range(4)]
    step(batches[0])
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for x in batches[1:]:
            step(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", sorted(DEFAULTS.keys() - SEQUENTIAL))
def test_a_captured_step_is_the_step(name: str) -> None:
    wanted, plain = stepping(name, double=True)
    got, step = stepping(name, double=True)
    held = images(0).double()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for seed in range(3):
            held.copy_(images(seed))
            step(held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(held)
    for seed in range(3, 8):
        held.copy_(images(seed))
        graph.replay()
    for seed in range(8):
        plain(images(seed).double())
    for (key, a), b in zip(got.state_dict().items(), wanted.state_dict().values(), strict=True):
        if key != "4.num_batches_tracked":
            assert error(a.double(), b.double()) <= 1e-8, key


@pytest.mark.parametrize("name", ["HPCA", "SoftWTA", "SoftHebb", "HardWTA"])
def test_kernels_that_the_compiler_makes(name: str) -> None:
    torch._dynamo.reset()
    (wanted, plain), (got, step) = stepping(name), stepping(name, compiled=True)
    for seed in range(4):
        plain(images(seed))
        step(images(seed))
    for a, b in zip(got.state_dict().values(), wanted.state_dict().values(), strict=True):
        assert error(a.double(), b.double()) <= 1e-4


def test_processes_of_a_study_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    count = torch.cuda.device_count()
    for name, value in (("RANK", count), ("LOCAL_RANK", count), ("WORLD_SIZE", count + 1)):
        monkeypatch.setenv(name, str(value))
    assert device_of("auto", shared=True) == torch.device("cuda", 0)
    with pytest.raises(ValueError, match="cannot be used here"):
        device_of("auto")


def weights_after(*, capture: bool, order: str = "joint", rule: str = "HPCA") -> tuple[dict[str, Tensor], int]:
    """What pre-training makes of a net, whose last batch of an epoch is smaller, and how many steps it counted."""
    model = net().double()
    hebb = attached(model, rule)
    pixels = torch.randint(0, 256, (72, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    loader = Loader(ImageSet(pixels, torch.zeros(72, dtype=torch.int64)), 16, std=[0.3] * 3, device=CUDA)
    doubled = Doubled(loader)
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.001)
    history = fasthebb.pretrain(model, hebb, doubled, optimizer, epochs=3, order=order, capture=capture)
    assert len(history) == (3 if order == "joint" else 6)
    return model.state_dict(), hebb.steps


class Doubled:
    """A loader's batches in float64."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((x.double(), labels) for x, labels in self._loader)


@pytest.mark.parametrize("rule", ["HPCA", "SoftWTA", "Covariance"])
@pytest.mark.parametrize("order", ["joint", "layerwise"])
def test_captured_pretraining_is_pretraining(order: str, rule: str) -> None:
    (got, steps), (want, same) = (weights_after(capture=one, order=order, rule=rule) for one in (True, False))
    assert steps == same == (15 if order == "joint" else 30)
    for (key, a), b in zip(got.items(), want.values(), strict=True):
        assert error(a.double(), b.double()) <= 1e-8, key


def test_a_captured_step_remembers_what_was_not_finite() -> None:
    model = net()
    hebb = attached(model, "HPCA")

    def step(x: Tensor) -> None:
        with torch.no_grad():
            model(x)
        hebb.write_grad()

    captured = Captured(step, lambda: None)
    for seed in range(6):
        captured(images(seed))
    hebb.check()
    captured(images().fill_(torch.nan))
    for seed in range(3):
        captured(images(seed))
    with pytest.raises(FloatingPointError, match="not finite"):
        hebb.check()
