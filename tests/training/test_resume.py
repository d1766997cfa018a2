"""A stage that is interrupted anywhere and resumed ends as if it had never stopped, bit for bit."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from nets import Centred
from tiny import HEAD, NET, QUIET, equal, loader, metrics, net, state, weights

import fasthebb
from fasthebb.conscience import Conscience
from fasthebb.training import checkpoint
from fasthebb.training.finetune import finetune
from fasthebb.training.loop import Progress, Stateful, Watcher
from fasthebb.training.pretrain import pretrain
from fasthebb.training.run import RunFolder
from fasthebb.training.stop import Interrupted

TESTS = Path(__file__).parents[1]
EVERY = 4  # steps between checkpoints; an epoch has 5, a stage 15 or 30


def unsupervised(watcher: Watcher, order: str) -> None:
    model = net()
    hebb = fasthebb.attach(model, {HEAD: None, "4": Centred(), "*": fasthebb.SoftWTA(0.02)})
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.01, momentum=0.9)
    pretrain(model, hebb, loader(augment="light"), optimizer, epochs=3, order=order, watcher=watcher)  # type: ignore[arg-type]


def supervised(watcher: Watcher, head_only: bool) -> None:
    finetune(
        net(), loader(augment="light"), epochs=3, lr=0.05, weight_decay=0.01, head_only=head_only,
        validation=loader(6, shuffle=False), watcher=watcher,
    )  # fmt: skip


def staged(watcher: Watcher) -> None:
    finetune(
        net(), loader(augment="light"), epochs=3, lr=0.05, weight_decay=0.01, head_steps=6, hidden_rate=0.1,
        validation=loader(6, shuffle=False), watcher=watcher,
    )  # fmt: skip


def hybrid(watcher: Watcher) -> None:
    model = net()
    rules = {HEAD: None, "0": fasthebb.Taught(fasthebb.Instar(Conscience()), 3), "4": fasthebb.Prototypes()}
    hebb = fasthebb.attach(model, rules)
    finetune(model, loader(augment="light"), epochs=3, lr=0.05, hebb=hebb, local=0.3, watcher=watcher)


STAGES: dict[str, tuple[Callable[[Watcher], None], int]] = {
    "joint": (lambda watcher: unsupervised(watcher, "joint"), 15),
    "layerwise": (lambda watcher: unsupervised(watcher, "layerwise"), 30),
    "finetune": (lambda watcher: supervised(watcher, False), 15),
    "head": (lambda watcher: supervised(watcher, True), 15),
    "staged": (staged, 15),
    "hybrid": (hybrid, 15),
}


def go(path: Path, stage: str, *, stop: int = 0, kill: int = 0, resume: bool = False) -> None:
    """Run a stage from the start or from its checkpoint; signal it to stop, or let it die, in a step."""
    with RunFolder(path, {"stage": stage}, resume=resume, console=QUIET) as folder:
        folder.write_config()
        checkpoint.seed_everything(0)
        watcher = folder.watcher({}, EVERY)
        stepped = watcher.stepped

        def watched(parts: Mapping[str, Stateful], progress: Progress) -> None:
            if progress.step == kill:
                raise RuntimeError("killed")
            if progress.step == stop:
                signal.raise_signal(signal.SIGTERM)
            stepped(parts, progress)

        watcher.stepped = watched  # type: ignore[method-assign]
        STAGES[stage][0](watcher)
        assert not folder.stop.deferred, "between stages a signal counts at once"


@pytest.fixture(scope="module", params=STAGES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A stage, and a run of it that nothing interrupts."""
    path = tmp_path_factory.mktemp("whole") / "run"
    go(path, request.param)
    return request.param, path


def same(path: Path, whole: Path) -> None:
    assert equal(state(path), state(whole))
    assert metrics(path) == metrics(whole)


def test_the_whole_run_is_whole(whole: tuple[str, Path]) -> None:
    stage, path = whole
    assert state(path)["progress"]["step"] == STAGES[stage][1]
    assert len(metrics(path)) == STAGES[stage][1] // 5


@pytest.mark.parametrize("stops", [(1,), (5,), (7,), (14,), (2, 3, 8, 12), range(1, 15)], ids=str)
def test_interrupted_and_resumed(whole: tuple[str, Path], tmp_path: Path, stops: tuple[int, ...]) -> None:
    stage, want = whole
    for number, stop in enumerate(stops):
        with pytest.raises(Interrupted):
            go(tmp_path / "run", stage, stop=stop, resume=number > 0)
        assert state(tmp_path / "run")["progress"]["step"] == stop
    go(tmp_path / "run", stage, resume=True)
    same(tmp_path / "run", want)


@pytest.mark.parametrize("kills", [(2,), (6,), (9, 13), (6, 6, 6)], ids=str)
def test_killed_and_resumed(whole: tuple[str, Path], tmp_path: Path, kills: tuple[int, ...]) -> None:
    stage, want = whole
    for number, kill in enumerate(kills):
        with pytest.raises(RuntimeError, match="killed"):
            go(tmp_path / "run", stage, kill=kill, resume=number > 0)
        assert state(tmp_path / "run")["progress"]["step"] == (kill - 1) // EVERY * EVERY
    go(tmp_path / "run", stage, resume=True)
    same(tmp_path / "run", want)


def test_layers_after_the_first_resume_too(tmp_path: Path) -> None:
    go(tmp_path / "whole", "layerwise")
    for stop in (15, 22):
        with pytest.raises(Interrupted):
            go(tmp_path / "run", "layerwise", stop=stop, resume=stop > 15)
    go(tmp_path / "run", "layerwise", resume=True)
    same(tmp_path / "run", tmp_path / "whole")


def command(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fasthebb", *words],
        env=os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def signalled(path: Path, number: signal.Signals, *more: str) -> tuple[int, str]:
    """Start pre-training, send a signal once it is under way, and return its exit code and last words."""
    words = ["pretrain", *NET, "--data", "digits", "--epochs", "60", "--out", str(path), "--checkpoint-steps", "7"]
    process = command(*words, *more)
    deadline = time.monotonic() + 120
    while not (path / "metrics.jsonl").exists() or not (path / "metrics.jsonl").read_bytes():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def resumes(path: Path, line: list[str]) -> None:
    """Run the line that resumes, and compare with a run that was never interrupted."""
    before = state(path)["progress"]["step"]
    again = command(*line)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    epochs = line[line.index("--epochs") + 1]
    steps = state(path)["progress"]["step"]
    assert 0 < before < steps == 21 * int(epochs)
    out_of = line.index("--out") + 1
    third = command(*line[:out_of], f"{path}-whole", *line[out_of + 1 :])
    assert third.communicate(timeout=120)
    assert equal(weights(path), weights(Path(f"{path}-whole")))
    assert metrics(path) == metrics(Path(f"{path}-whole"))


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_a_command_with_the_line_that_resumes_it(tmp_path: Path, number: signal.Signals) -> None:
    code, err = signalled(tmp_path / "a run", number)
    assert code == 75, err
    last = err.splitlines()[-1]
    assert last.startswith("error: interrupted; go on with: fasthebb pretrain ")
    resumes(tmp_path / "a run", shlex.split(last.partition("fasthebb ")[2]))


@pytest.mark.slow
def test_a_killed_command_resumes(tmp_path: Path) -> None:
    code, _ = signalled(tmp_path / "run", signal.SIGKILL)
    assert code == -signal.SIGKILL
    words = ["pretrain", *NET, "--data", "digits", "--epochs", "60", "--checkpoint-steps", "7"]
    resumes(tmp_path / "run", [*words, "--out", str(tmp_path / "run"), "--resume"])
