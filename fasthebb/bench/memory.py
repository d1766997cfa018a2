"""Peak memory of one training step above what was held before it, each case in a process of its own.

On Linux the high-water mark of the resident set is reset after a warm-up step and read after the next; elsewhere the
growth of the process's own maximum stands in; on a GPU it is PyTorch's allocator that counts.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from typing import NamedTuple

import torch

from fasthebb.bench.steps import features_step
from fasthebb.bench.timing import Step
from fasthebb.memory import peak_bytes, reset_peak, resident_bytes


class Peak(NamedTuple):
    """Bytes above the state before the step, and how they were counted: "VmHWM", "ru_maxrss" or "cuda"."""

    bytes: int
    method: str


def peak_in_subprocess(
    net: str, method: str, *, batch_size: int = 8, image_size: int = 224, device: str = "cpu"
) -> Peak:
    """Peak of one step of the convolutional part of `net` ("vgg16", …) by `method` ("sgd" or "hpca"), in a new process.

    Raises RuntimeError with the process's last line if it fails.
    """
    arguments = [net, method, str(batch_size), str(image_size), device]
    command = [sys.executable, "-m", "fasthebb.bench.memory", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"measuring {net} {method} failed: {lines[-1]}")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def peak(step: Step, *, device: str = "cpu") -> Peak:
    """Peak bytes of the second call of `step` above the state before it; call it in a fresh process."""
    if torch.device(device).type == "cuda":
        return _cuda_peak(step)
    step()
    gc.collect()
    if reset_peak():
        resident = resident_bytes()
        step()
        return Peak(peak_bytes() - resident, "VmHWM")
    before = peak_bytes()
    step()
    return Peak(peak_bytes() - before, "ru_maxrss")


def _cuda_peak(step: Step) -> Peak:
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return Peak(torch.cuda.max_memory_allocated() - held, "cuda")


def _main(net: str, method: str, batch_size: str, image_size: str, device: str) -> None:
    step = features_step(net, method, batch_size=int(batch_size), image_size=int(image_size), device=device)
    sys.stdout.write(json.dumps(peak(step, device=device)._asdict()) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
