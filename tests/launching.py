"""Commands in processes of their own, alone or as ranks of torchrun, and what kills them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

RUN = (
    *("pretrain", "--data", "digits", "--image-size", "24", "--width", "0.05", "--batch-size", "32"),
    *("--epochs", "3", "--checkpoint-steps", "7", "--device", "cpu"),
)


def torchrun(*words: object, ranks: int = 2, **more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--standalone"),
        *(word for name, value in more.items() for word in (f"--{name.replace('_', '-')}", value)),
        *("-m", "fasthebb", "--", *map(str, words)),
    ]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}


def launch(*words: object, ranks: int = 2, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        torchrun(*words, ranks=ranks, **more), env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )


def said(text: str) -> list[str]:
    """The lines of ours among those of torchrun."""
    return [line for line in text.splitlines() if line.startswith(("error: ", "warning: ", "rank "))]


def alone(*words: object) -> list[str]:
    """A command in one process, without torchrun."""
    return [sys.executable, "-m", "fasthebb", *map(str, words)]


def start(command: list[str], **more: object) -> subprocess.Popen[str]:
    """The command, in a session of its own."""
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        **more,  # type: ignore[call-overload]
    )  # fmt: skip


def kill(job: subprocess.Popen[str]) -> None:
    """Kill a command and its ranks at once."""
    ranks = workers(job.pid)
    os.killpg(job.pid, signal.SIGKILL)
    for process in ranks.values():
        os.kill(process, signal.SIGKILL)
    job.communicate(timeout=60)


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
