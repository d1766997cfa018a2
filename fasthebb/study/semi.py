"""FixMatch after training end to end: a net goes on from its weights, on its labels and the images of pre-training.

| cell | does |
|---|---|
| fixmatch-CELL-LABELS-sSEED | trains what the cell CELL-LABELS-sSEED left |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from fasthebb.evaluation.results import Record
from fasthebb.jobs.net import Net
from fasthebb.jobs.results import record
from fasthebb.jobs.setup import labelled
from fasthebb.memory import peak_bytes
from fasthebb.study.bench import Bench
from fasthebb.training.finetune import accuracies
from fasthebb.training.fixmatch import fixmatch

BATCH = 64  # labelled images a step
Tested = Callable[[Bench, int, Net, nn.Module, str], list[Record]]  # of a budget, a net, its model and their title


def seen(bench: Bench, labels: int) -> Tensor:
    """What training on unlabelled images sees: those of pre-training, and the labelled ones among those set aside."""
    return torch.tensor(sorted({*bench.images.tolist(), *bench.budgets[labels].tolist()}))


def alone(bench: Bench, labels: int, net: Net, model: nn.Module, title: str, depth: int | None = None) -> list[Record]:
    """The record of a net by its own answers about the test images."""
    top1, top5 = accuracies(model, net.loader(bench.dataset.test, 256, bench.device, shuffle=False), (1, 5))
    return [record(net, title, labels, labelled(bench.dataset), bench.seed, depth, top1, top5)]


def matched(
    bench: Bench, net: Net, cell: str, labels: int, before: Sequence[Record], tested: Tested = alone
) -> list[Record]:
    """The records of a cell's net after FixMatch, if that is wanted; before: the cell's records, its net's first."""
    if not bench.options.fixmatch_steps:
        return []
    return bench.once(f"fixmatch-{cell}", partial(_measure, bench, net, cell, labels, before[0], tested))


def _measure(
    bench: Bench, net: Net, cell: str, labels: int, before: Record, tested: Tested, path: Path
) -> list[Record]:
    options, train, title = bench.options, bench.dataset.train, f"{before.method} FixMatch"
    bench.folder.log(f"seed {bench.seed}: {title}, {labels} labels")
    net = replace(
        net, classifier="finetune", labels=str(labels), label_count=labels, label_seed=bench.seed,
        balanced=options.balanced,
    )  # fmt: skip
    model = bench.trained(net, cell)
    few = net.loader(train, BATCH, bench.device, indices=bench.budgets[labels], seed=bench.seed, augment="light")
    weak, strong = (
        net.loader(
            train, BATCH * options.fixmatch_ratio, bench.device,
            indices=seen(bench, labels), seed=bench.seed, augment=kind,
        )
        for kind in ("light", "hard")
    )  # fmt: skip
    history = fixmatch(
        model, few, weak, strong, steps=options.fixmatch_steps, lr=options.fixmatch_lr,
        hidden_rate=options.fixmatch_hidden_rate, watcher=bench.watcher(path, net),
    )  # fmt: skip
    peak = peak_bytes() / 2**20
    seconds = history[-1]["seconds"] + (before.finetune_seconds or 0.0)
    found = tested(bench, labels, net, model, title)
    return [
        replace(r, pretrain_seconds=before.pretrain_seconds, finetune_seconds=seconds, peak_memory_mb=peak)
        for r in found
    ]
