"""Peak memory of one training step above what was held before it, each case in a process of its own.

On Linux the high-water mark of the resident set is reset after a warm-up step and read after the next; elsewhere the
growth of the process's own maximum stands in; on a GPU it is PyTorch's allocator that counts. What the first step
leaves behind, such as gradients and the buffer of sums, is counted apart.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from fasthebb.bench import steps
from fasthebb.bench.report import Page, begin, three
from fasthebb.bench.steps import RULES
from fasthebb.bench.timing import Step
from fasthebb.memory import peak_bytes, reset_peak, resident_bytes
from fasthebb.models import build
from fasthebb.models.blocks import one_of

METHODS = ("sgd", *RULES)
NETS = ("vgg16.features", "vgg19.features", "blocks4", "blocks8", "blocks16", "blocks32")
BATCH = 8
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # of glibc: else it keeps some 10 MB of what was freed, now and then
SIDE = 224
UNITS = 64  # of each of the equal blocks


class Peak(NamedTuple):
    """Bytes above the state before the step, bytes that stay after the first, and how they were counted.

    method: "VmHWM", "ru_maxrss" (which cannot tell what stays: 0) or "cuda".
    """

    bytes: int
    held: int
    method: str


def run(
    nets: Sequence[str] = NETS,
    *,
    device: str = "cpu",
    out: str | Path | None = None,
    batch_size: int | None = None,
    image_size: int = SIDE,
) -> dict[str, Any]:
    """Measure each net's step by SGD, HPCA and SWTA, print a table, return all figures.

    The result is JSON-ready, in bytes: "hardware", "settings" and "nets", by net and method. `out` names a file for
    it; a Markdown page is written beside it.
    Raises RuntimeError with a process's last line if it fails, ValueError for a device that is not there.
    """
    batch = batch_size or BATCH
    report = begin(nets=list(nets), device=device, batch_size=batch, image_size=image_size)
    for net in nets:  # a mistake is told before anything is measured
        with torch.device("meta"):
            body_of(net, "sgd")
    sizes = {"batch_size": batch, "image_size": image_size, "device": device}
    report["nets"] = {
        net: {method: peak_in_subprocess(net, method, **sizes)._asdict() for method in METHODS}  # type: ignore[arg-type]
        for net in nets
    }
    page = Page("Peak memory of a step", "memory", report)
    rows = []
    for net, found in report["nets"].items():
        whole = found["sgd"]["bytes"]
        for method, of in found.items():
            megabytes = (f"{of[key] / 1e6:.0f}" for key in ("bytes", "held"))
            both = (of["bytes"] + of["held"]) / (whole + found["sgd"]["held"])
            rows.append((net, method, *megabytes, three(of["bytes"] / whole), three(both), of["method"]))
    columns = ("net", "step", "MB above", "MB that stay", "/ SGD", "both / SGD", "counted by")
    page.table(f"Peak memory above the state before a step (batch {batch}, {image_size} px)", columns, rows)
    page.write(out)
    return report


def peak_in_subprocess(
    net: str, method: str, *, batch_size: int = BATCH, image_size: int = SIDE, device: str = "cpu"
) -> Peak:
    """Peak of one step of `net` by `method`, both as of `step_of`, in a new process.

    Raises RuntimeError with the process's last line if it fails.
    """
    arguments = [net, method, str(batch_size), str(image_size), device]
    command = [sys.executable, "-m", "fasthebb.bench.memory", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ALLOCATOR})
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"measuring {net} {method} failed: {lines[-1]}")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def step_of(net: str, method: str, *, batch_size: int, image_size: int, device: str = "cpu") -> Step:
    """A step by `method` ("sgd", "hpca" or "swta"), channels last, on images [N, 3, image_size, image_size].

    net: "blocks8" for eight equal convolutions with batch norms; "vgg16.features" for the convolutional part of a net;
    else a net of `fasthebb.models`. Where there is no classifier, the supervised step takes the means of the last maps
    for scores.

    Raises:
        ValueError: an unknown name.
    """
    one_of("method", method, METHODS)
    images = steps.noise(batch_size, image_size, device=device, format="channels_last")
    body = body_of(net, method)
    if body is None:
        return steps.sgd(images, net=net) if method == "sgd" else steps.rule_step(RULES[method], images, net=net)
    body = body.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if method == "sgd":
        scores = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return steps.supervised(scores, images, steps.classes(steps.SIX))
    return steps.attached(body, images, {"*": RULES[method]})


def body_of(net: str, method: str) -> nn.Module | None:
    """The net without a classifier that `step_of` knows by this name; None for a whole net of `fasthebb.models`.

    Raises ValueError for an unknown name.
    """
    torch.manual_seed(0)
    twin, forward = ("backprop", "relu") if method == "sgd" else ("hebbian", steps.FORWARDS[method])
    name, _, part = net.partition(".")
    depth = name.removeprefix("blocks")
    if depth.isdecimal() and int(depth) > 0:
        return _blocks(int(depth))
    model = build(name, classes=1, image_size=SIDE, forward=forward, twin=twin)
    if not part:
        return None
    return model.get_submodule(one_of(f"part of {name}", part, dict(model.named_children())))


def _blocks(depth: int) -> nn.Sequential:
    # Convolutions of as many units, at a quarter of the images' side.
    first = nn.Conv2d(3, UNITS, 4, stride=4, bias=False)
    parts: list[tuple[str, nn.Module]] = [("conv1", first), ("act1", nn.ReLU()), ("bn1", nn.BatchNorm2d(UNITS))]
    for i in range(2, depth + 1):
        conv = nn.Conv2d(UNITS, UNITS, 3, padding=1, bias=False)
        parts += [(f"conv{i}", conv), (f"act{i}", nn.ReLU()), (f"bn{i}", nn.BatchNorm2d(UNITS))]
    return nn.Sequential(OrderedDict(parts))


def peak(step: Step, *, device: str = "cpu") -> Peak:
    """Peak bytes of the second call of `step` above the state before it; call it in a fresh process."""
    if torch.device(device).type == "cuda":
        return _cuda_peak(step)
    if not reset_peak():
        step()
        before = peak_bytes()
        step()
        return Peak(peak_bytes() - before, 0, "ru_maxrss")
    begun = resident_bytes()
    step()
    gc.collect()
    reset_peak()
    resident = resident_bytes()
    step()
    return Peak(peak_bytes() - resident, resident - begun, "VmHWM")


def _cuda_peak(step: Step) -> Peak:
    begun = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return Peak(torch.cuda.max_memory_allocated() - held, held - begun, "cuda")


def _main(net: str, method: str, batch_size: str, image_size: str, device: str) -> None:
    step = step_of(net, method, batch_size=int(batch_size), image_size=int(image_size), device=device)
    sys.stdout.write(json.dumps(peak(step, device=device)._asdict()) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
