"""Commands under torchrun: real ranks, real files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cases import error
from launching import ENVIRONMENT, RUN, launch, said
from tiny import metrics, weights

from fasthebb.cli import main
from fasthebb.evaluation.results import load

QUICK = ("--max-steps", "25")


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
