"""Rules that users write: plain ones, ones that remember, and ones that need a signal."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from cases import LAYERS, MEMORIES, MemoryCase, error, make
from nets import Centred, images, net, same, written
from torch import Tensor, nn

import fasthebb
from fasthebb import update
from fasthebb.decay import Diagonal, Gram
from fasthebb.ops import count, total
from fasthebb.response import Projection


@dataclass(frozen=True)
class Forgetful(fasthebb.Rule):
    """ΔW_i = E[y_i (x − strength · y_i w_i)]: Oja's rule with another decay, as short as a rule can be."""

    strength: float = 1.0

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> fasthebb.Terms:
        return fasthebb.Terms(post=y, decay=Diagonal(self.strength * total(y * y)), norm=count(y))


@dataclass(frozen=True)
class Apart(fasthebb.Rule):
    """ΔW = −E[yyᵀ]W, or its diagonal alone: a rule that does not use the input."""

    diagonal: bool = False

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> fasthebb.Terms:
        return fasthebb.Terms(None, Diagonal(total(y * y)) if self.diagonal else Gram(y, y), count(y))


@dataclass(frozen=True)
class Rewarded(fasthebb.Rule):
    """ΔW_i = E[reward · y_i x], a three-factor rule."""

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> fasthebb.Terms:
        assert signal is not None
        return fasthebb.Terms(y * signal.view(-1, 1, 1, 1), None, count(y))


def test_a_rule_in_ten_lines() -> None:
    model, x = net(), images()
    hebb = fasthebb.attach(model, Forgetful(0.5, response=Projection(), finish=lambda dw, w: 2 * dw))
    model(x)
    hebb.write_grad()
    w, seen = model.fc.weight.detach(), model[:3](x).detach()
    y = seen @ (w / w.norm(dim=1, keepdim=True)).T
    want = 2 * (y.T @ seen - 0.5 * y.square().sum(dim=0)[:, None] * w) / len(x)
    assert error(-model.fc.weight.grad, want) <= 1e-12


@pytest.mark.parametrize("diagonal", [True, False])
def test_a_rule_that_does_not_use_the_input(diagonal: bool) -> None:
    layer = nn.Linear(5, 4, bias=False).double()
    hebb = fasthebb.attach(layer, Apart(diagonal))
    for _ in range(3):
        x = torch.randn(6, 5).double()
        y, w = layer(x).detach(), layer.weight.detach()
        hebb.write_grad()
        gram = torch.diag(y.square().sum(dim=0)) if diagonal else y.T @ y
        assert error(layer.weight.grad, gram @ w / 6) <= 1e-12


@pytest.mark.parametrize("parts", [1, 3])
def test_memory_is_of_the_previous_step_and_of_all_micro_batches(parts: int) -> None:
    layer = nn.Linear(5, 4, bias=False).double()
    hebb, mean = fasthebb.attach(layer, Centred()), torch.zeros(4).double()
    for step in range(3):
        x = torch.randn(6, 5).double()
        for chunk in x.chunk(parts):
            layer(chunk)
        hebb.write_grad()
        y = (x @ layer.weight.T).detach()
        assert error(-layer.weight.grad, (y - mean).T @ x / 6) <= 1e-12
        mean = mean.lerp(y.mean(dim=0), 0.25)
        memory = hebb.state_dict()["layers"][""]
        assert error(memory["mean"][0], mean) <= 1e-12
        assert memory["steps"].shape == ()
        assert memory["steps"] == step + 1


def test_memory_survives_a_checkpoint() -> None:
    def trained(model: nn.Module, hebb: fasthebb.Hebbian, seeds: range) -> dict[str, Tensor]:
        for seed in seeds:
            model(images(seed=seed))
            hebb.write_grad()
        return written(model)

    model = net()
    hebb = fasthebb.attach(model, Centred())
    trained(model, hebb, range(3))
    torch.save(hebb.state_dict(), file := io.BytesIO())
    snapshot = copy.deepcopy(hebb.state_dict())
    want = trained(model, hebb, range(3, 5))
    file.seek(0)
    again = fasthebb.attach(resumed := net(), Centred())
    resumed(images(seed=9))  # sums of a step that was interrupted do not count
    again.load_state_dict(torch.load(file, weights_only=True))
    assert again.steps == 3
    assert str(again.state_dict()) == str(snapshot)
    got = trained(resumed, again, range(3, 5))
    assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize(
    ("rules", "change", "message"),
    [
        (fasthebb.Oja(), None, r"'conv' is {'mean': \[1, 6\], 'steps': \[\]} there and {} here"),
        ({"fc": None, "*": Centred()}, None, "'fc' is {'mean.* there and no such layer here"),
        (Centred(), lambda state: state["layers"].pop("fc"), "'fc' is no such layer there and {'mean"),
        (Centred(), lambda state: state["layers"]["fc"].update(mean=torch.zeros(1, 3)), r"\[1, 3\].* and .*\[1, 10\]"),
        (Centred(), lambda state: state["layers"]["fc"].pop("mean"), "attach the same ones"),
        (Centred(), lambda state: state["rules"].update(fc="BCM"), "'fc' learnt by BCM there, Centred here; attach"),
        (Centred(), lambda state: state.pop("layers"), r"not what state_dict\(\) returned: it holds steps"),
        (Centred(), lambda state: state.clear(), r"it holds nothing"),
    ],
)
def test_a_foreign_memory_is_refused(rules: object, change: object, message: str) -> None:
    state = fasthebb.attach(net(), Centred()).state_dict()
    hebb = fasthebb.attach(net(), rules)
    before = str(hebb.state_dict())
    if callable(change):
        change(state)
    with pytest.raises(ValueError, match=message):
        hebb.load_state_dict(state)
    assert str(hebb.state_dict()) == before


def test_a_broken_step_is_not_remembered() -> None:
    model, x = net(), images()
    hebb = fasthebb.attach(model, Centred())
    model(x)
    hebb.write_grad()
    before = str(hebb.state_dict())
    model(x * torch.nan)
    with pytest.raises(FloatingPointError, match="'conv'"):
        hebb.write_grad()
    assert str(hebb.state_dict()) == before


def test_nor_where_errors_come_late(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = net(), images()
    hebb = fasthebb.attach(model, Centred())
    model(x)
    hebb.write_grad()
    before = str(hebb.state_dict()["layers"])
    with monkeypatch.context() as patch:
        patch.setattr(hebb, "check", lambda: None)  # an accelerator is not waited for
        model(x * torch.nan)
        hebb.write_grad()
        assert str(hebb.state_dict()["layers"]) == before
    with pytest.raises(FloatingPointError, match="'conv'"):
        hebb.check()


@pytest.mark.parametrize("case", MEMORIES, ids=lambda case: case.name)
def test_every_memory_is_restored_bit_for_bit(case: MemoryCase) -> None:
    layer, x = make(LAYERS[0])
    hebb = fasthebb.attach(layer, case.rule)
    layer(x)
    hebb.write_grad()
    kept = copy.deepcopy(hebb.state_dict())
    layer(x)
    hebb.write_grad()
    want = layer.weight.grad.clone()
    hebb.detach()
    hebb = fasthebb.attach(layer, case.rule)
    hebb.load_state_dict(kept)
    layer(x)
    hebb.write_grad()
    assert torch.equal(layer.weight.grad, want)


@pytest.mark.filterwarnings("ignore:No rule trains a bias")
def test_a_signal_for_another_batch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(update.PART_BYTES, "cpu", 1)  # one image a part: as long as the signal
    layer = nn.Conv2d(3, 4, 3)
    hebb = fasthebb.attach(layer, fasthebb.Prototypes())
    hebb.signal = torch.tensor([3])
    with pytest.raises(ValueError, match=r"shape \[1\] is not an integer label for each sample .*\[4\]"):
        layer(torch.randn(4, 3, 5, 5))


def test_memory_follows_the_model() -> None:
    model = net()
    hebb = fasthebb.attach(model, Centred())  # its memory starts in float32
    for _ in range(2):
        model(images())
        hebb.write_grad()
    assert {value.dtype for memory in hebb.state_dict()["layers"].values() for value in memory.values()} == {
        torch.float64
    }


@pytest.mark.parametrize("part_bytes", [None, 1, 6 * 16 * 8 * 2])
def test_a_signal_reaches_the_rule(part_bytes: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if part_bytes:
        monkeypatch.setitem(update.PART_BYTES, "cpu", part_bytes)  # one or two images of the convolution at a time
    model, x = net(), images(5)
    reward = torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0]).double()
    hebb = fasthebb.attach(model, Rewarded())
    for x_k, reward_k in zip(x.split(3), reward.split(3), strict=True):
        hebb.signal = reward_k
        model(x_k)
    hebb.write_grad()
    hebb.detach()
    got = written(model)
    model.zero_grad()
    with torch.enable_grad():  # Σ reward · y²/2 has the gradient Σ reward · y x
        maps = model.conv(x)
        seen = model.flat(model.act(maps)).detach()
        ((reward[:, None, None, None] * maps.square()).sum() / 2 / (5 * 16)).backward()
        ((reward[:, None] * model.fc(seen).square()).sum() / 2 / 5).backward()
    assert same({name: -grad for name, grad in got.items()}, written(model))


def test_what_a_rule_remembers_moves_on_in_place() -> None:
    """So a step captured in a CUDA graph goes on from the last one; what was saved before stays as it was."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 3, bias=False)
    hebb = fasthebb.attach(layer, fasthebb.Covariance(0.3))
    held = hebb._layers[0].state["mean"]
    saved = hebb.state_dict()["layers"][""]["mean"]
    layer(torch.randn(5, 4))
    hebb.write_grad()
    assert hebb._layers[0].state["mean"] is held
    assert held.any()
    assert not saved.any()
    hebb.load_state_dict({"steps": 0, "layers": {"": {"mean": saved}}})
    layer(torch.randn(5, 4))
    hebb.write_grad()
    assert not saved.any()
