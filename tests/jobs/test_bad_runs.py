"""Runs that diverge, checkpoints that are damaged or made to do harm, folders that hold something else."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from tiny import NET, fails, snapshot, weights

from fasthebb.cli import main
from fasthebb.training import checkpoint

HEBBIAN = ("pretrain", *NET, "--max-steps", "2")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test stands in a folder of its own, where `out` is what a command would make."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    assert main([*HEBBIAN, "--data", "digits", "--out", str(run), "--quiet"]) == 0
    return run


@pytest.mark.parametrize("words", [(), ("--checkpoint-steps", "1")])
@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_rate_that_diverges_keeps_the_last_good_state(
    command: str, words: tuple[str, ...], pretrained: Path, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    start = (command, *NET, "--data", "digits") if command == "pretrain" else (command, "--run", pretrained)
    said = fails(capsys, 1, *start, "--lr", "1e30", "--epochs", "9", "--out", "out", *words)
    assert "ayer '" in said
    assert "lower the learning rate" in said
    state = checkpoint.load(here / "out" / "checkpoints" / "last.pt")
    assert state["progress"]["step"] >= len(words) // 2
    assert all(value.isfinite().all() for value in weights(here / "out").values())


WANTED = {
    "corrupt": "last.pt is not a sound checkpoint",
    "foreign": "last.pt is not a checkpoint of fasthebb",
    "malicious": "last.pt is not a sound checkpoint (it holds more than tensors and plain values",
    "pickle": "last.pt is not a sound checkpoint (it holds more than tensors and plain values",
    "missing": "last.pt: there is no checkpoint; train first",
}


class Attack:
    """A pickle that makes a folder when it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("kind", WANTED)
@pytest.mark.parametrize(
    "words", [("finetune",), ("evaluate", "--probe"), ("pretrain", "--resume")], ids=lambda w: w[0]
)
def test_a_bad_checkpoint(
    kind: str, words: tuple[str, ...], pretrained: Path, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    if words[0] == "pretrain" and kind == "missing":
        pytest.skip("it starts anew")
    shutil.copytree(pretrained, here / "run")
    (here / "run" / "checkpoints" / "last.safetensors").unlink()
    last = here / "run" / "checkpoints" / "last.pt"
    if kind == "corrupt":
        last.write_bytes(last.read_bytes()[:-1000])
    elif kind == "missing":
        last.unlink()
    elif kind == "pickle":
        last.write_bytes(pickle.dumps(Attack()))
    else:
        torch.save({"state_dict": {}} if kind == "foreign" else {"parts": Attack()}, last)
    before = snapshot(here)
    resume = ("--config", "run/config.yaml", "--out", "run") if words[0] == "pretrain" else ("--run", "run")
    said = fails(capsys, 1, *words, *resume)
    assert WANTED[kind] in said
    assert not (here / "executed").exists()
    untouched = {name: content for name, content in snapshot(here).items() if "checkpoints" in name}
    assert untouched == {name: content for name, content in before.items() if "checkpoints" in name}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("finetune", "--run", "no"), "no: there is no such run folder; give the --out of an earlier pretrain"),
        (("evaluate", "--run", "no"), "no: there is no such run folder"),
        (("report", "--run", "no"), "no: there is no such folder; give the --out of a study"),
        (("report", "--run", "RUN"), "RUN holds no study; give the --out of one"),
        (("evaluate", "--run", "RUN"), "RUN holds no classifier, so there is nothing to measure: add --probe or --knn"),
        (
            ("pretrain", "--image-size", "12", "--out", "RUN"),
            "RUN holds a run with model='tiny:net', not 'sixlayer'; name another folder",
        ),
        (("study", "--out", "RUN", "--resume"), "RUN holds a run of another command or version"),
        (("bench", "--device", "abacus", "--rounds", "1"), "device 'abacus' cannot be used"),
    ],
)
def test_runs_that_do_not_fit(
    words: tuple[str, ...], said: str, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(pretrained)
    found = fails(capsys, 1, *(word.replace("RUN", str(pretrained)) for word in words))
    assert said.replace("RUN", str(pretrained)) in found
    assert snapshot(pretrained) == before
