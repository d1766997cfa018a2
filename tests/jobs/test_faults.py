"""Runs that are killed, stopped, starved of disk or fed with NaN, as real processes: what must follow.

The first lines of the tests are the rows of docs/results/faults.md, which `python tests/fault_log.py` writes.
"""

from __future__ import annotations

import ctypes
import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from cases import error
from launching import ENVIRONMENT, RUN, alone, kill, launch, said, start, torchrun, wait_for, workers
from tiny import weights

LONG = (*RUN, "--max-steps", "400", "--epochs", "100")
EARLY = 14  # a step with a checkpoint

pytestmark = pytest.mark.slow

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """The weights of a run that nothing disturbs, on two ranks."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert launch(*LONG, "--out", run).returncode == 0
    return weights(run)


def same(run: Path, want: Weights) -> bool:
    """Whether a run ended with these weights, bit for bit."""
    return all(torch.equal(value, want[name]) for name, value in weights(run).items())


def step_of(run: Path) -> int:
    """The step of a run's checkpoint."""
    return int(torch.load(run / "checkpoints" / "last.pt", weights_only=True)["progress"]["step"])


def test_kill_9_ten_times_at_random_steps_of_one_process(tmp_path: Path) -> None:
    """One process is killed (-9) at ten random moments, and started again with --resume: the end is bit-identical."""
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    subprocess.run(alone(*LONG, "--out", undisturbed), env=ENVIRONMENT, check=True, capture_output=True)
    moments = random.Random(0)
    for kills in range(10):
        job = start(alone(*LONG, "--out", run, "--resume"))
        wait_for(run, 7 + 35 * kills)
        time.sleep(moments.uniform(0, 0.2))
        kill(job)
        assert job.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert 7 + 35 * 9 <= step_of(run) < 400
    subprocess.run(alone(*LONG, "--out", run, "--resume"), env=ENVIRONMENT, check=True, capture_output=True)
    assert same(run, weights(undisturbed))


def test_sigterm_ends_in_a_checkpoint_and_the_run_goes_on(tmp_path: Path, whole: Weights) -> None:
    """torchrun gets SIGTERM: a checkpoint of that step, the line that resumes, and a bit-identical end."""
    run = tmp_path / "run"
    job = start(torchrun(*LONG, "--out", run))
    wait_for(run, EARLY)
    job.terminate()
    _, err = job.communicate(timeout=60)
    assert EARLY <= step_of(run) < 400
    (line,) = said(err)
    assert line.startswith("error: interrupted; go on with: torchrun … -m fasthebb -- pretrain")
    assert launch(*LONG, "--out", run, "--resume").returncode == 0
    assert same(run, whole)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_dies_ends_the_job_which_torchrun_restarts(rank: int, tmp_path: Path, whole: Weights) -> None:
    """A rank is killed (-9) under torchrun --max-restarts: all start again, and the end is bit-identical."""
    run = tmp_path / "run"
    job = start(torchrun(*LONG, "--out", run, "--resume", max_restarts="2"))
    wait_for(run, EARLY)
    os.kill(workers(job.pid)[rank], signal.SIGKILL)
    _, err = job.communicate(timeout=120)
    assert job.returncode == 0, err
    assert same(run, whole)


def test_a_rank_that_dies_in_a_sum_is_told_of(tmp_path: Path, whole: Weights) -> None:
    """A rank is killed while the other waits for it in a sum: the job ends within 45 s, says so, resumes exactly."""
    run = tmp_path / "run"
    job = start(torchrun(*LONG, "--out", run))
    wait_for(run, EARLY)
    dying = workers(job.pid)[1]
    os.kill(dying, signal.SIGSTOP)
    time.sleep(1)  # the other one is in the sum now
    os.kill(dying, signal.SIGKILL)
    began = time.monotonic()
    _, err = job.communicate(timeout=60)
    assert job.returncode == 1
    assert time.monotonic() - began < 45
    assert any("rank 0 lost another rank, which died or hangs" in line for line in said(err)) or "SIGKILL" in err, err
    assert launch(*LONG, "--out", run, "--resume").returncode == 0
    assert same(run, whole)


def test_a_rank_that_hangs_is_told_of_after_the_time_out(tmp_path: Path) -> None:
    """A rank hangs for 8 s with --rank-timeout 3: the other ends the job and says so."""
    run = tmp_path / "run"
    job = start(torchrun(*LONG, "--rank-timeout", "3", "--out", run))
    wait_for(run, EARLY)
    hung = workers(job.pid)[1]
    os.kill(hung, signal.SIGSTOP)
    time.sleep(8)
    os.kill(hung, signal.SIGCONT)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 1
    assert any("rank 0 lost another rank, which died or hangs" in line for line in said(err)), err


def test_a_slow_rank_changes_nothing(tmp_path: Path, whole: Weights) -> None:
    """A rank is held for 0.4 s five times: the end is bit-identical."""
    run = tmp_path / "run"
    job = start(torchrun(*LONG, "--out", run))
    wait_for(run, EARLY)
    slow = workers(job.pid)[1]
    for _ in range(5):
        os.kill(slow, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(slow, signal.SIGCONT)
        time.sleep(0.1)
    _, err = job.communicate(timeout=120)
    assert job.returncode == 0, err
    assert same(run, whole)


def test_killed_and_resumed_on_another_number_of_ranks(tmp_path: Path, whole: Weights) -> None:
    """All processes are killed on 2, 1 and 2 ranks, and resumed on the next number: the end is equal to 1e-3."""
    run = tmp_path / "run"
    for step, ranks in ((EARLY, 2), (100, 1), (200, 2)):
        job = start(torchrun(*LONG, "--out", run, "--resume", ranks=ranks))
        wait_for(run, step)
        kill(job)
    assert launch(*LONG, "--out", run, "--resume").returncode == 0
    got = weights(run)
    assert all(error(got[name].double(), whole[name].double()) < 1e-3 for name in whole if whole[name].any())


def test_nan_on_one_rank_stops_all(tmp_path: Path) -> None:
    """One rank alone sees NaN: all stop at the same step, and rank and layer are named."""
    run = ("pretrain", "--data", "digits", "--image-size", "12", "--model", "tiny:nan_on_rank_1", "--device", "cpu")
    failed = launch(*run, "--epochs", "1", "--out", tmp_path / "run")
    assert failed.returncode == 1
    (line,) = said(failed.stderr)
    assert line.startswith("error: The update is not finite on rank 1, in layer '1'"), line


def test_a_second_job_on_the_same_folder_is_refused(tmp_path: Path, whole: Weights) -> None:
    """A second torchrun is started on the folder of a running one: it is refused, the first ends bit-identically."""
    run = tmp_path / "run"
    first = start(torchrun(*LONG, "--out", run))
    wait_for(run, EARLY)
    ranks = workers(first.pid).values()
    for process in ranks:
        os.kill(process, signal.SIGSTOP)  # it would be done before the second has begun
    second = launch(*LONG, "--out", run, "--resume")
    for process in ranks:
        os.kill(process, signal.SIGCONT)
    assert second.returncode == 1
    assert [line for line in said(second.stderr) if "is in use by another process" in line], second.stderr
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert same(run, whole)


def test_a_full_disk_under_ranks(tmp_path: Path, whole: Weights) -> None:
    """No file may grow beyond 20 kB: the job ends, the last checkpoint stays, and with room it goes on."""
    run = tmp_path / "run"
    job = start(torchrun(*LONG, "--out", run))
    wait_for(run, EARLY)
    kill(job)
    before, size = step_of(run), (run / "checkpoints" / "last.pt").stat().st_size
    assert size > 20_000

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    starved = start(torchrun(*LONG, "--out", run, "--resume"), preexec_fn=limited)
    _, err = starved.communicate(timeout=120)
    assert starved.returncode == 1
    assert [line for line in said(err) if "last.pt" in line], err
    assert step_of(run) == before
    assert launch(*LONG, "--out", run, "--resume").returncode == 0
    assert same(run, whole)


def without_privilege() -> None:
    """Let permissions bind root too, in a process that is about to start."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_a_read_only_checkpoint_folder_under_ranks(tmp_path: Path, whole: Weights) -> None:
    """The checkpoint folder is read-only when a job resumes: it ends and names the file; made writable, it goes on."""
    run = tmp_path / "run"
    job = start(torchrun(*LONG, "--out", run))
    wait_for(run, EARLY)
    kill(job)
    (run / "checkpoints").chmod(0o555)
    refused = start(torchrun(*LONG, "--out", run, "--resume"), preexec_fn=without_privilege)
    _, err = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert [line for line in said(err) if "Permission denied" in line and "last.pt" in line], err
    (run / "checkpoints").chmod(0o755)
    assert launch(*LONG, "--out", run, "--resume").returncode == 0
    assert same(run, whole)
