"""Rules that need a signal: class means, a teacher's classes, a third factor; and what they are told without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import RULES, error, factors, learned
from sklearn.decomposition import PCA
from test_theory import blobs
from torch import Tensor, nn

import fasthebb
from fasthebb import BCM, HPCA, HardWTA, Hebb, Instar, Modulated, Oja, Prototypes, SoftHebb, SoftWTA, Taught, finish
from fasthebb.conscience import Conscience
from fasthebb.jobs.options import PretrainOptions
from fasthebb.options import parse, to_yaml
from fasthebb.response import Cosine, RaisedCosine
from fasthebb.rules import Local
from reference.patches import patches


def train(layer: nn.Module, rule: fasthebb.Rule, x: Tensor, signal: Tensor, steps: int, lr: float) -> Tensor:
    """The weights after some steps on the whole data."""
    hebb = fasthebb.attach(layer, rule)
    optimizer = torch.optim.SGD(hebb.parameters(), lr=lr)
    for _ in range(steps):
        hebb.signal = signal
        with torch.no_grad():
            layer(x)
        hebb.write_grad()
        optimizer.step()
    return layer.weight.detach()


def test_prototypes_are_class_means_after_one_step() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(7, 5).double().requires_grad_(False), torch.randn(40, 7, dtype=torch.float64)
    signal, before = torch.arange(40) % 5 - 1, layer.weight.clone()  # labels 0 to 3, and none
    w = train(layer, Prototypes(), x, signal, steps=1, lr=1.0)
    for c in range(4):
        np.testing.assert_allclose(w[c].numpy(), x.numpy()[signal.numpy() == c].mean(axis=0), atol=1e-14)
    assert torch.equal(w[4], before[4])  # no sample has its label


def test_prototypes_of_a_convolution_are_means_over_locations() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False).double()
    x, signal = torch.randn(8, 4, 7, 7, dtype=torch.float64), torch.tensor([0, 2, 2, -1, 1, 0, 2, 1])
    w = train(layer, Prototypes(), x, signal, steps=1, lr=1.0).reshape(2, 3, -1)
    for group, seen in enumerate(patches(layer, x)):
        of = signal.repeat_interleave(9).numpy()
        for c in range(3):
            np.testing.assert_allclose(w[group, c].numpy(), seen.numpy()[of == c].mean(axis=0), atol=1e-14)


def test_prototypes_classify_by_the_nearest_mean() -> None:
    x, _ = blobs()
    signal = torch.arange(len(x)) % 5
    layer = nn.Linear(8, 5, bias=False).double()
    w = train(layer, Prototypes(), x[:300], signal[:300], steps=1, lr=1.0)
    assert float((torch.cdist(x[300:], w).argmin(dim=1) == signal[300:]).double().mean()) > 0.99


def two_classes() -> tuple[Tensor, Tensor]:
    """Centred samples of two classes that spread along axes of their own, and their labels."""
    torch.manual_seed(0)
    spread = torch.tensor([[3.0, 1.0, 0.5, 0.2], [0.3, 1.0, 2.0, 0.1]], dtype=torch.float64)
    signal = torch.arange(600) % 2
    x = torch.randn(600, 4, dtype=torch.float64) * spread[signal]
    for c in range(2):
        x[signal == c] -= x[signal == c].mean(dim=0)
    return x, signal


def component(x: Tensor) -> Tensor:
    return torch.from_numpy(PCA(1, svd_solver="full").fit(x.numpy()).components_[0])


def test_taught_units_find_the_component_of_their_class() -> None:
    x, signal = two_classes()
    layer = nn.Linear(4, 5, bias=False).double()
    w = train(layer, Taught(Oja(), classes=2), x, signal, steps=300, lr=0.1)
    for i in range(5):
        assert torch.cosine_similarity(w[i], component(x[signal == i % 2]), dim=0).abs() > 0.999
        assert abs(float(w[i].norm()) - 1) < 1e-3
    w = train(nn.Linear(4, 5, bias=False).double(), Oja(), x, signal, steps=300, lr=0.1)
    assert torch.cosine_similarity(w, component(x)[None], dim=1).abs().min() > 0.999


def test_taught_units_cluster_their_class() -> None:
    x, start = blobs(units=4)
    signal = torch.arange(len(x)) % 2  # two clusters each
    layer = nn.Linear(8, 4, bias=False).double()
    layer.weight.data = start + 0.1
    w = train(layer, Taught(HardWTA(), 2), x, signal, steps=10, lr=1.0)
    assert torch.allclose(w, torch.stack([x[i::4].mean(dim=0) for i in range(4)]), atol=1e-12)


UNSIGNALLED = [case for case in RULES if isinstance(case.rule, Local) and "prior" not in case.rule.init_state((1, 5))]


@pytest.mark.parametrize("case", UNSIGNALLED, ids=lambda case: case.name)
def test_no_label_and_a_factor_of_one_change_nothing(case: object) -> None:
    rule = case.rule  # type: ignore[attr-defined]
    torch.manual_seed(0)
    layer, x = nn.Conv1d(3, 5, 3, padding=1, bias=False).double(), torch.randn(6, 3, 7, dtype=torch.float64)
    want = learned(rule, layer, x)
    assert error(learned(Taught(rule, 5), layer, x, signals=[torch.full((6,), -1)]), want) <= 1e-12
    assert error(learned(Modulated(rule), layer, x, signals=[torch.ones(6)]), want) <= 1e-12


@pytest.mark.parametrize(("rule", "odd"), [(Oja(), True), (HPCA(), True), (SoftHebb(), True), (SoftWTA(), False)])
def test_learning_is_in_proportion_to_the_factor(rule: Local, odd: bool) -> None:
    torch.manual_seed(0)
    layer, x, m = nn.Linear(7, 5, bias=False).double(), torch.randn(6, 7, dtype=torch.float64), factors(6)
    once = learned(Modulated(rule), layer, x, signals=[m])
    assert error(learned(Modulated(rule), layer, x, signals=[3 * m]), 3 * once) <= 1e-12
    assert (error(learned(Modulated(rule), layer, x, signals=[-m]), -once) <= 1e-12) == odd
    assert not learned(Modulated(rule), layer, x, signals=[0 * m]).any()


def test_a_modulated_unit_finds_the_weighed_mean() -> None:
    x, _ = blobs()
    reward = torch.rand(len(x), dtype=torch.float64)
    layer = nn.Linear(8, 1, bias=False).double()
    w = train(layer, Modulated(HardWTA()), x, reward, steps=60, lr=1.0)
    assert torch.allclose(w[0], (reward @ x) / reward.sum(), atol=1e-12)
    w = train(nn.Linear(8, 1, bias=False).double(), Modulated(HardWTA()), x, -reward, steps=60, lr=1.0)
    assert torch.allclose(w[0], -(reward @ x) / reward.sum(), atol=1e-12)  # a punished unit moves to the other side


@pytest.mark.parametrize("wrap", [lambda rule: Taught(rule, 3), Modulated], ids=["taught", "modulated"])
@pytest.mark.parametrize("rule", [Instar(Conscience(rate=0.3)), BCM(0.3)], ids=["conscience", "bcm"])
def test_memory_is_that_of_the_rule_without_a_signal(rule: Local, wrap: Callable[[Local], fasthebb.Rule]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(7, 5, bias=False).double()
    memories, signals = [], [torch.tensor([0, 1, 2, -1, 1, 1]), None]
    for each, signal in zip((wrap(rule), rule), signals):
        hebb = fasthebb.attach(layer, each)
        for seed in range(3):
            hebb.signal = signal
            layer(torch.randn(6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
            hebb.write_grad()
        memories.append(hebb.state_dict()["layers"][""])
        hebb.detach()
    assert memories[0].keys() == memories[1].keys()
    assert all(torch.equal(memories[0][name], memories[1][name]) for name in memories[0])
    assert any(value.std() > 0 for value in memories[0].values())


def test_response_and_finish_are_those_of_the_rule() -> None:
    inner = SoftWTA(0.1, response=Cosine(), finish=finish.tangent)
    for rule in (Taught(inner, 3), Modulated(inner)):
        assert rule.response == Cosine()
        assert rule.finish is finish.tangent
    with pytest.raises(TypeError, match="response"):
        Modulated(inner, response=Cosine())  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "rule", [Taught(SoftWTA(0.3, response=RaisedCosine(3.0)), 10), Modulated(Hebb()), Prototypes()]
)
def test_written_rules_read_back(rule: fasthebb.Rule, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(to_yaml(PretrainOptions(rule=rule)))
    assert parse("fasthebb", PretrainOptions, ["--config", str(tmp_path / "x.yaml")]).rule == rule


def test_summary_describes_the_rule() -> None:
    hebb = fasthebb.attach(nn.Linear(8, 5, bias=False), Taught(Hebb(), 3))
    assert hebb.summary().rows[0].rule == "Taught(rule=Hebb(), classes=3)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Taught(Prototypes(), 3), r"Taught\(Prototypes\(.*\): give a rule whose units have an activity"),
        (lambda: Modulated(Taught(Hebb(), 3)), r"Modulated\(Taught\(rule=Hebb.*\): give a rule"),
        (lambda: Taught(Hebb(), 0), r"Taught\(classes=0\): there must be at least one class"),
        (
            lambda: fasthebb.attach(nn.Linear(8, 5, bias=False), {"*": Taught(Hebb(), 6)}),
            r"Taught\(classes=6\): the layer has 5 units a group",
        ),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


LABELLED = [Prototypes(), Taught(Hebb(), 3)]


@pytest.mark.parametrize(
    ("rules", "signal", "message"),
    [
        (
            [*LABELLED, Modulated(Hebb())],
            None,
            r"has no signal: set hebb.signal to an? (integer label|number) for each",
        ),
        ([*LABELLED, Modulated(Hebb())], torch.zeros(5).long(), r"hebb.signal of shape \[5\] is not .* sees, \[4\]"),
        ([*LABELLED, Modulated(Hebb())], torch.zeros(4, 1).long(), r"hebb.signal of shape \[4, 1\] is not"),
        ([*LABELLED, Modulated(Hebb())], torch.tensor(1), r"hebb.signal of shape \[\] is not"),
        (LABELLED, torch.zeros(4), r"labels must be integers, and hebb.signal is torch.float32; give labels.long"),
        (LABELLED, torch.tensor([0, 1, 3, 2]), r"there is a label 3; take labels from 0 to 2, or -1 for none"),
        (LABELLED, torch.tensor([0, -2, 1, 2]), r"there is a label -2"),
    ],
)
def test_a_signal_that_makes_no_sense_is_told(
    rules: Sequence[fasthebb.Rule], signal: Tensor | None, message: str
) -> None:
    for rule in rules:
        layer = nn.Linear(8, 3, bias=False)
        hebb = fasthebb.attach(layer, rule)
        hebb.signal = signal
        with pytest.raises(ValueError, match=message):
            layer(torch.randn(4, 8))


@pytest.mark.parametrize("rule", [Prototypes(), Taught(Hebb(), 3)])
def test_labels_come_in_any_integer_type(rule: fasthebb.Rule) -> None:
    layer, x = nn.Linear(8, 5, bias=False), torch.randn(6, 8)
    want = learned(rule, layer, x, signals=[torch.tensor([0, 1, 2, -1, 1, 1])])
    for dtype in (torch.int8, torch.int32):
        assert torch.equal(learned(rule, layer, x, signals=[torch.tensor([0, 1, 2, -1, 1, 1], dtype=dtype)]), want)
    known, x = torch.tensor([0, 1, 2, 1, 1], dtype=torch.uint8), x[:5]
    assert torch.equal(learned(rule, layer, x, signals=[known]), learned(rule, layer, x, signals=[known.long()]))
