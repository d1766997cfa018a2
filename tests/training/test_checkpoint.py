"""Checkpoints: what is saved comes back, and nothing else is believed or executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny import HEAD, equal, net

import fasthebb
from fasthebb.training import checkpoint
from fasthebb.training.loop import Progress, Stateful


def parts(seed: int = 0) -> dict[str, Stateful]:
    """A net after a step with momentum, its optimizer and its handle."""
    torch.manual_seed(seed)
    model = net()
    hebb = fasthebb.attach(model, {HEAD: None, "*": fasthebb.Oja()})
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.01, momentum=0.9)
    with torch.no_grad():
        model(torch.randn(4, 3, 12, 12))
    hebb.write_grad()
    optimizer.step()
    return {"model": model, "optimizer": optimizer, "hebb": hebb}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    progress = Progress(step=7, seconds=1.5, history=[{"epoch": 1.0}], sums={"loss": 2.0})
    checkpoint.save(path, parts(), progress, {"model": "tiny"})
    return path


def test_round_trip(saved: Path) -> None:
    want = torch.rand(3)  # what comes next
    mine = parts(1)
    state = checkpoint.load(saved)
    assert state["about"] == {"model": "tiny"}
    assert not equal(mine["model"].state_dict(), state["parts"]["model"])
    progress = checkpoint.restore(state, mine)
    assert torch.equal(torch.rand(3), want), "the random state came back"
    assert (progress.step, progress.seconds, progress.history, progress.sums) == (7, 1.5, [{"epoch": 1.0}], {"loss": 2})
    for name, part in parts().items():
        assert equal(mine[name].state_dict(), part.state_dict()), name


class Attack:
    """A pickle that writes a file when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_a_file_made_to_execute_code_is_refused_and_executes_nothing(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    state = torch.load(saved, weights_only=True)
    for number in range(2):
        path = tmp_path / f"{number}.pt"
        if number:
            torch.save(state | {"about": Attack(target)}, path)
        else:
            path.write_bytes(pickle.dumps(Attack(target)))
        with pytest.raises(ValueError, match=rf"{number}\.pt is not a sound checkpoint \(it holds more than tensors"):
            checkpoint.load(path)
    assert not target.exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved: Path, keep: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"is not a sound checkpoint .*; restore it, or start anew") as raised:
        checkpoint.load(saved)
    assert "\n" not in str(raised.value)


def test_a_flipped_byte_is_refused_or_harmless(saved: Path) -> None:
    whole, want = saved.read_bytes(), checkpoint.load(saved)
    refused = 0
    for place in range(0, len(whole), 499):
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            assert equal(checkpoint.load(saved), want), place
        except ValueError:
            refused += 1
    assert refused > 5


@pytest.mark.parametrize(
    "foreign", [{"state_dict": {}}, [1, 2], {"format": checkpoint.FORMAT}, torch.zeros(2)], ids=str
)
def test_a_foreign_file_is_refused(tmp_path: Path, foreign: Any) -> None:
    torch.save(foreign, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt is not a checkpoint of fasthebb"):
        checkpoint.load(tmp_path / "x.pt")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no checkpoint; train first"):
        checkpoint.load(tmp_path / "last.pt")


def test_another_net_or_command_is_refused(saved: Path) -> None:
    state = checkpoint.load(saved)
    wider = parts() | {"model": net(width=2.0)}
    with pytest.raises(ValueError, match=r"checkpoint's model does not fit .*another model"):
        checkpoint.restore(state, wider)
    other = parts()
    other["optimizer"] = torch.optim.SGD(net().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="checkpoint's optimizer does not fit"):
        checkpoint.restore(state, other)
    with pytest.raises(ValueError, match="holds model, optimizer, hebb, not model: it is of another command"):
        checkpoint.restore(state, {"model": net()})


@pytest.mark.parametrize("tensor", ["4.weight", "2.running_var"])
def test_what_is_not_finite_is_never_saved(saved: Path, tensor: str) -> None:
    before, broken = saved.read_bytes(), parts()
    broken["model"].state_dict()[tensor].view(-1)[0] = float("inf")
    with pytest.raises(FloatingPointError, match=rf"Layer '{tensor[0]}' is not finite after step 9: lower"):
        checkpoint.save(saved, broken, Progress(step=9), {})
    with pytest.raises(FloatingPointError, match="before the first step: check the model"):
        checkpoint.save(saved, broken, Progress(), {})
    assert saved.read_bytes() == before


def test_export_is_the_weights(tmp_path: Path) -> None:
    model = net().to(memory_format=torch.channels_last)
    checkpoint.export(tmp_path / "last.safetensors", model, {"about": "tiny"})
    with safe_open(tmp_path / "last.safetensors", "pt") as file:
        assert file.metadata() == {"about": "tiny"}
        assert equal({name: file.get_tensor(name) for name in model.state_dict()}, dict(model.state_dict()))
