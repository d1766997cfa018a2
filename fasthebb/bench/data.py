"""How fast images come, decoded once into the cache or each time anew, and how long a training step waits for them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fasthebb.bench.report import Page, begin, three
from fasthebb.bench.timing import synchronise
from fasthebb.console import Console
from fasthebb.data import Dataset, Loader, channel_statistics
from fasthebb.hebbian import attach
from fasthebb.memory import resident_bytes
from fasthebb.models import head_name, sixlayer
from fasthebb.rules import HPCA
from fasthebb.training.forward import Forward
from fasthebb.training.loop import place

STEPS = 20  # of a round


def run(
    datasets: Mapping[str, Dataset],
    *,
    rounds: int = 9,
    device: str = "cpu",
    out: str | Path | None = None,
    batch_size: int = 64,
    width: float = 1.0,
    console: Console,
) -> dict[str, Any]:
    """Measure every kind of the same images, by its name; print a table, return all figures.

    The result is JSON-ready: "hardware", "settings", and by kind "images_per_second" of reading alone; of training by
    HPCA on them "step" and "wait" in seconds, "waiting", the share of the time, and "resident_mb" at its beginning and
    its end.
    """
    report = begin(rounds=rounds, device=device, batch_size=batch_size, width=width)
    report["kinds"] = {}
    for name, dataset in datasets.items():
        mean, std = channel_statistics(dataset.train)
        loader = Loader(dataset.train, batch_size, mean=mean, std=std, device=device)
        alone = _read(loader, STEPS * rounds)
        report["kinds"][name] = {"images_per_second": alone, **_train(loader, STEPS * rounds, width, console)}
    rows = [
        (
            name, three(r["images_per_second"]), three(r["step"] * 1e3), three(r["wait"] * 1e3),
            f"{100 * r['waiting']:.1f}", f"{r['resident_mb'][0]:.0f}", f"{r['resident_mb'][1]:.0f}",
        )
        for name, r in report["kinds"].items()
    ]  # fmt: skip
    columns = ("images", "images/s alone", "step ms", "wait ms", "waiting %", "MB at first", "MB at last")
    page = Page("Images for a training step", "data", report)
    page.table(f"The six-layer net, batch {batch_size}, width {width:g}", columns, rows)
    page.write(out)
    return report


def _batches(loader: Loader) -> Iterator[Tensor]:
    # Epoch after epoch.
    for epoch in itertools.count():
        yield from (x for x, _ in loader.batches(epoch))


def _read(loader: Loader, steps: int) -> float:
    # Images a second.
    batches = _batches(loader)
    next(batches)
    began = time.perf_counter()
    images = sum(len(x) for x in itertools.islice(batches, steps))
    return images / (time.perf_counter() - began)


def _train(loader: Loader, steps: int, width: float, console: Console) -> dict[str, Any]:
    batches, waits, took, resident = _batches(loader), 0.0, 0.0, []
    sample = next(batches)[:2]
    model = place(sixlayer(width=width, channels=sample.shape[1]), loader.device)
    hebb = attach(model, {head_name(model): None, "*": HPCA()})
    optimizer = torch.optim.SGD(hebb.parameters(), lr=1e-4)
    forward = Forward(model, hebb.layers, hebb.layers, sample)
    for number in console.progress(steps + 1, "training"):
        began = time.perf_counter()
        x = next(batches)
        ready = time.perf_counter()
        forward(x)
        hebb.write_grad()
        optimizer.step()
        synchronise()
        if number:  # the first step sets itself up
            waits, took = waits + ready - began, took + time.perf_counter() - ready
        if number in (min(50, steps // 2), steps):
            resident.append(resident_bytes() / 2**20)
    total = waits + took
    return {"step": took / steps, "wait": waits / steps, "waiting": waits / total, "resident_mb": resident}
