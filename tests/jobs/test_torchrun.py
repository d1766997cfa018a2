"""Commands under torchrun: real ranks, real signals, real files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cases import error
from tiny import metrics, weights

from fasthebb.cli import main
from fasthebb.evaluation.results import load

RUN = (
    *("pretrain", "--data", "digits", "--image-size", "24", "--width", "0.05", "--batch-size", "32"),
    *("--epochs", "3", "--checkpoint-steps", "7", "--device", "cpu"),
)
QUICK = ("--max-steps", "25")


def torchrun(*words: object, ranks: int = 2, **more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--standalone"),
        *(word for name, value in more.items() for word in (f"--{name.replace('_', '-')}", value)),
        *("-m", "fasthebb", "--", *map(str, words)),
    ]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}


def launch(*words: object, ranks: int = 2, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        torchrun(*words, ranks=ranks, **more), env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )


def said(text: str) -> list[str]:
    """The lines of ours among those of torchrun."""
    return [line for line in text.splitlines() if line.startswith(("error: ", "warning: ", "rank "))]


def test_pretrain_finetune_and_evaluate_on_ranks_as_in_one_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert main([*RUN, *QUICK, "--out", str(one)]) == 0
    capsys.readouterr()
    done = launch(*RUN, *QUICK, "--out", two)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1294 images without labels") == 1  # the first rank speaks
    assert re.search(r"pre-trained in .* MB summed over ranks a step in \d+ of \d+ ms", done.stdout)
    want, got = weights(one), weights(two)
    assert all(error(got[name].double(), want[name].double()) < 1e-4 for name in want if want[name].any())
    assert metrics(two)[-1]["reduce_mb"] > 0

    tuned = launch("finetune", "--run", two, "--labels", "60", "--min-steps", "12", "--epochs", "2")
    assert tuned.returncode == 0, tuned.stderr
    assert main(["evaluate", "--run", str(one), "--probe", "--knn", "--labels", "200"]) == 0
    probed = launch("evaluate", "--run", two, "--probe", "--knn", "--labels", "200")
    assert probed.returncode == 0, probed.stderr
    rows = [load(run)[0] for run in (one, two)]
    assert len(rows[0]) == len(rows[1]) > 4
    for a, b in zip(*rows):
        assert (a.method, a.depth) == (b.method, b.depth)
        assert abs(a.top1 - b.top1) <= 0.6  # two of 360 images

    (classifier,) = two.glob("finetune-*")
    (tested,) = load(classifier)[0]
    for evaluated in (main(["evaluate", "--run", str(classifier)]), launch("evaluate", "--run", classifier).returncode):
        assert evaluated == 0
        assert [again.top1 for again in load(classifier)[0]] == [tested.top1]


def test_a_mistake_is_told_once(tmp_path: Path) -> None:
    wrong = launch(*RUN, "--batch-size", "1", "--out", tmp_path / "run")
    assert wrong.returncode == 1
    assert said(wrong.stderr) == ["error: A batch of 1 images for 2 ranks: give a larger --batch-size"]
    assert not (tmp_path / "run").exists()
    other = launch("report", "--run", tmp_path)
    assert other.returncode == 1
    assert said(other.stderr)[0] == "error: report runs in one process: start it without torchrun"


def test_what_fails_on_one_rank_alone_is_told(tmp_path: Path) -> None:
    run = ("pretrain", "--data", "digits", "--image-size", "12", "--model", "tiny:failing_net", "--device", "cpu")
    failed = launch(*run, "--epochs", "1", "--out", tmp_path / "run")
    assert failed.returncode == 1
    told = said(failed.stderr)
    assert "error: rank 1: this rank alone cannot go on" in told
    assert any(line.startswith("error: rank 0 lost another rank, which died or hangs (") for line in told)


LEAVE = """
import pathlib, sys, torch
from fasthebb.distributed import joined
with joined(None):
    torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
sys.exit("gloo" in " ".join(file.read_text() for file in pathlib.Path("/proc/self/task").glob("*/comm")))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not name threads in files")
def test_a_rank_ends_without_threads_that_would_break_its_exit(tmp_path: Path) -> None:
    script = tmp_path / "leave.py"
    script.write_text(LEAVE)
    command = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script))
    assert subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=120).returncode == 0


def wait_for(run: Path, step: int) -> None:
    """Until a run's checkpoint is of some step or later."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        file = run / "checkpoints" / "last.pt"
        if file.exists() and torch.load(file, weights_only=True)["progress"]["step"] >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"{run} did not reach step {step}")


def workers(parent: int) -> dict[int, int]:
    """Processes of ranks under torchrun's, by rank."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"PPid:\t{parent}\n" in (entry / "status").read_text():
                variables = (entry / "environ").read_bytes().split(b"\0")
                rank = next(v for v in variables if v.startswith(b"RANK="))
                found[int(rank[5:])] = int(entry.name)
        except (OSError, StopIteration):
            continue
    return found


LONG = (*RUN, "--max-steps", "400", "--epochs", "100")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of a run that nothing disturbs, on two ranks."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert launch(*LONG, "--out", run).returncode == 0
    return weights(run)


def same(run: Path, want: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, want[name]) for name, value in weights(run).items())


@pytest.mark.slow
def test_sigterm_ends_in_a_checkpoint_and_the_run_goes_on(tmp_path: Path, whole: dict[str, torch.Tensor]) -> None:
    run = tmp_path / "run"
    job = subprocess.Popen(torchrun(*LONG, "--out", run), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    wait_for(run, 14)
    job.terminate()
    _, err = job.communicate(timeout=60)
    step = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["progress"]["step"]
    assert 14 <= step < 400
    (line,) = said(err)
    assert line.startswith("error: interrupted; go on with: torchrun … -m fasthebb -- pretrain")
    assert launch(*LONG, "--out", run, "--resume").returncode == 0
    assert same(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_dies_ends_the_job_which_torchrun_restarts(
    rank: int, tmp_path: Path, whole: dict[str, torch.Tensor]
) -> None:
    run = tmp_path / "run"
    words = torchrun(*LONG, "--out", run, "--resume", max_restarts="2")
    job = subprocess.Popen(words, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    wait_for(run, 14)
    os.kill(workers(job.pid)[rank], signal.SIGKILL)
    _, err = job.communicate(timeout=120)
    assert job.returncode == 0, err
    assert same(run, whole)


@pytest.mark.slow
def test_a_rank_that_dies_is_told_of(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = subprocess.Popen(torchrun(*LONG, "--out", run), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    wait_for(run, 14)
    os.kill(workers(job.pid)[1], signal.SIGKILL)
    began = time.monotonic()
    _, err = job.communicate(timeout=60)
    assert job.returncode == 1
    assert time.monotonic() - began < 45
    assert any("rank 0 lost another rank, which died or hangs" in line for line in said(err)) or "SIGKILL" in err, err


@pytest.mark.slow
def test_a_rank_that_hangs_is_told_of_after_the_time_out(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = torchrun(*LONG, "--rank-timeout", "3", "--out", run)
    job = subprocess.Popen(words, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    wait_for(run, 14)
    hung = workers(job.pid)[1]
    os.kill(hung, signal.SIGSTOP)
    time.sleep(8)
    os.kill(hung, signal.SIGCONT)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 1
    assert any("rank 0 lost another rank, which died or hangs" in line for line in said(err)), err


@pytest.mark.slow
def test_a_slow_rank_changes_nothing(tmp_path: Path, whole: dict[str, torch.Tensor]) -> None:
    run = tmp_path / "run"
    job = subprocess.Popen(torchrun(*LONG, "--out", run), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    wait_for(run, 14)
    slow = workers(job.pid)[1]
    for _ in range(5):
        os.kill(slow, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(slow, signal.SIGCONT)
        time.sleep(0.1)
    _, err = job.communicate(timeout=120)
    assert job.returncode == 0, err
    assert same(run, whole)


@pytest.mark.slow
def test_killed_and_resumed_on_another_number_of_ranks(tmp_path: Path, whole: dict[str, torch.Tensor]) -> None:
    run = tmp_path / "run"
    for step, ranks in ((14, 2), (100, 1), (200, 2)):
        resume = ["--resume"] if run.exists() else []
        words = torchrun(*LONG, "--out", run, *resume, ranks=ranks)
        job = subprocess.Popen(words, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True)
        wait_for(run, step)
        os.killpg(job.pid, signal.SIGKILL)
        for process in workers(job.pid).values():
            os.kill(process, signal.SIGKILL)
        job.communicate(timeout=60)
    assert launch(*LONG, "--out", run, "--resume").returncode == 0
    got = weights(run)
    assert all(error(got[name].double(), whole[name].double()) < 1e-3 for name in whole if whole[name].any())
