"""What is done to a net between its pre-training and all that it is measured by, without labels, in cells of its own.

| cell | does |
|---|---|
| revive-METHOD-sSEED | gives units without a use a random patch, and pre-trains for one more epoch |
| prepare-METHOD-sSEED | scales responses, renews the statistics of batch norms |
"""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from fasthebb.evaluation.results import Record
from fasthebb.hebbian import attach
from fasthebb.jobs.layer_rules import attachable
from fasthebb.jobs.net import Net
from fasthebb.models import call_order, trainable_layers
from fasthebb.study.bench import Bench
from fasthebb.training.prepare import renew_statistics, rescale, revive
from fasthebb.training.pretrain import pretrain
from fasthebb.training.run import read_metrics

LOOKED_AT = 1024  # images by which units are scaled and replaced


def cells_of(bench: Bench) -> list[str]:
    """The cells of a method's net without labels, one after the other; the last holds what is measured."""
    options, name = bench.options, bench.method.name
    revives = options.revive and bench.method.base in options.rules
    cells = [f"pretrain-{bench.method.pretrained_by}", f"revive-{name}" if revives else ""]
    cells.append(f"prepare-{name}" if options.rescale or options.renew else "")
    return [cell for cell in cells if cell]


def prepare(bench: Bench, net: Net) -> float:
    """Do what is to be done after pre-training; returns the seconds of all cells of `cells_of`."""
    cells = cells_of(bench)
    for before, cell in pairwise(cells):
        bench.once(cell, partial(_change, bench, net, before, cell))
    return sum(float(list(read_metrics(bench.cell(cell)))[-1]["seconds"]) for cell in cells)


def train_by_rules(bench: Bench, net: Net, model: nn.Module, epochs: int, path: Path) -> None:
    """Pre-train a model by the method's rules; the cell at `path` keeps it."""
    options, rules = bench.options, bench.options.rules[bench.method.base]
    hebb = attach(model, attachable(rules, net.head))
    pretrain(
        model,
        hebb,
        bench.unlabelled(net, options.batch_size),
        torch.optim.SGD(hebb.parameters(), lr=options.lr),
        epochs=epochs,
        order=options.order,
        max_steps=options.max_steps,
        watcher=bench.watcher(path, net),
    )


def _change(bench: Bench, net: Net, before: str, cell: str, path: Path) -> list[Record]:
    model = bench.trained(net, before)
    began = time.perf_counter()
    x = _some(bench, net)
    layers = call_order(model, [layer for layer in trainable_layers(model) if layer != net.head], x[:2])
    shown = bench.method.title
    if cell.startswith("revive"):
        replaced = revive(model, layers, x, seed=bench.seed)
        said = ", ".join(f"{layer} {number}" for layer, number in replaced.items())
        bench.folder.log(f"seed {bench.seed}: {shown}, units revived: {said}; pre-training one epoch more")
        train_by_rules(bench, net, model, 1, path)
        return []
    bench.folder.log(f"seed {bench.seed}: {shown} is prepared")
    if bench.options.rescale:
        rescale(model, layers, x)
    if bench.options.renew:
        renew_statistics(model, bench.unlabelled(net, 256))
    bench.keep(path, net, model, time.perf_counter() - began)
    return []


def _some(bench: Bench, net: Net) -> Tensor:
    # The first images that pre-training saw.
    x: Tensor = next(iter(bench.unlabelled(net, min(LOOKED_AT, len(bench.images)))))[0]
    return x
