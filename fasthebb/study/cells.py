"""The cells of a study: what is trained or measured once, kept in a folder of its own, and never done again.

| cell | does |
|---|---|
| pretrain-RULE-sSEED | trains the hidden layers without labels |
| frozen-METHOD-sSEED | probes and nearest neighbours on frozen features, every depth, every budget |
| finetune-RULE-LABELS-sSEED | trains the pre-trained net on a budget, end to end |
| scratch-TWIN-LABELS-sSEED | trains a twin of the net on a budget, from initial weights |
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fasthebb.data import Dataset
from fasthebb.data.labels import parse_budget
from fasthebb.evaluation.results import Record
from fasthebb.evaluation.usage import unit_usage
from fasthebb.files import atomic_write
from fasthebb.hebbian import attach
from fasthebb.jobs.evaluate import frozen
from fasthebb.jobs.options import forward_of, rule_name
from fasthebb.jobs.results import record
from fasthebb.jobs.setup import Net, all_but, budget, check_images, head_of, set_aside
from fasthebb.memory import peak_bytes, reset_peak
from fasthebb.models import trainable_layers
from fasthebb.study.options import StudyOptions
from fasthebb.training import checkpoint
from fasthebb.training.finetune import accuracies, finetune
from fasthebb.training.loop import place
from fasthebb.training.pretrain import pretrain
from fasthebb.training.run import RunFolder, RunWatcher, read_metrics


@dataclass(frozen=True)
class Bench:
    """What all cells of one seed share: options, data, folder, device, and the seed's labels."""

    options: StudyOptions
    dataset: Dataset
    folder: RunFolder
    device: torch.device
    net: Net  # of the seed; its forward, twin and rule are a cell's own
    seed: int

    @cached_property
    def aside(self) -> Tensor:
        """Images that no stage trains on."""
        return set_aside(self.dataset, self.options.validation, self.seed)

    @cached_property
    def budgets(self) -> dict[int, Tensor]:
        """Labelled images by their number; a smaller budget is part of a larger one."""
        chosen = [
            budget(self.dataset, parse_budget(text), self.aside, seed=self.seed, balanced=self.options.balanced)[0]
            for text in self.options.budgets
        ]
        return {len(indices): indices for indices in sorted(chosen, key=len)}

    def cell(self, name: str) -> Path:
        """The folder of a cell."""
        return self.folder.path / "cells" / f"{name}-s{self.seed}"

    def once(self, name: str, measure: Callable[[Path], list[Record]]) -> list[Record]:
        """The records of a cell: read if it is done, measured and written if not."""
        path = self.cell(name)
        done = path / "records.json"
        if done.exists():
            return [Record(**row) for row in json.loads(done.read_text())]
        path.mkdir(parents=True, exist_ok=True)
        checkpoint.seed_everything(self.seed)
        reset_peak()
        records = measure(path)
        atomic_write(done, json.dumps([asdict(r) for r in records], indent=1) + "\n")
        self.folder.begun = True
        return records

    def watcher(self, path: Path, net: Net) -> RunWatcher:
        """Who watches the training of a cell's net."""
        return self.folder.watcher(net.plain(), self.options.checkpoint_steps, path)


def hebbian(bench: Bench, name: str) -> list[Record]:
    """Everything measured of a rule: pre-training, then its features frozen and fine-tuned."""
    rule = bench.options.rules[name]
    shown = name.upper()
    net = replace(bench.net, forward=forward_of(rule), twin="hebbian", rule=rule_name(rule))
    path = bench.cell(f"pretrain-{name}")

    def train(path: Path) -> list[Record]:
        model = _fresh(bench, net)
        hebb = attach(model, {net.head: None, "*": rule})
        images = all_but(bench.aside, len(bench.dataset.train))
        bench.folder.log(f"seed {bench.seed}: pre-training by {rule_name(rule)} on {len(images)} images without labels")
        pretrain(
            model,
            hebb,
            net.loader(bench.dataset.train, bench.options.batch_size, bench.device, indices=images, seed=bench.seed),
            torch.optim.SGD(hebb.parameters(), lr=bench.options.rates.get(name, bench.options.lr)),
            epochs=bench.options.epochs,
            order=bench.options.order,
            max_steps=bench.options.max_steps,
            watcher=bench.watcher(path, net),
        )
        return []

    bench.once(f"pretrain-{name}", train)
    seconds = next(r["seconds"] for r in reversed(list(read_metrics(path))))
    net = replace(net, pretrain_seconds=seconds)

    records = bench.once(f"frozen-{name}", lambda _: _frozen(bench, net, _pretrained(bench, net, name), shown))
    for labels in bench.budgets:
        tune = lambda path, labels=labels: _supervised(  # noqa: E731
            bench, net, _pretrained(bench, net, name), labels, path, f"{shown} fine-tuned"
        )
        records += bench.once(f"finetune-{name}-{labels}", tune)
    return records


def random_features(bench: Bench, _: str) -> list[Record]:
    """Probes on the features of initial weights, with batch statistics of the training images."""
    net = replace(bench.net, rule="")

    def measure(_: Path) -> list[Record]:
        model = _fresh(bench, net)
        images = all_but(bench.aside, len(bench.dataset.train))
        with torch.no_grad():
            model.train()
            for x, _y in net.loader(bench.dataset.train, 256, bench.device, indices=images, seed=bench.seed):
                model(x)
        return _frozen(bench, net, model, "random")

    return bench.once("frozen-random", measure)


def scratch(bench: Bench, _: str) -> list[Record]:
    """Supervised training from initial weights on every budget, of both twins."""
    records = []
    for twin in ("hebbian", "backprop"):
        net = replace(bench.net, twin=twin, rule="")
        for labels in bench.budgets:
            train = lambda path, net=net, labels=labels: _supervised(  # noqa: E731
                bench, net, _fresh(bench, net), labels, path, f"scratch ({net.twin} twin)"
            )
            records += bench.once(f"scratch-{twin}-{labels}", train)
    return records


def first_filters(bench: Bench, cell: str) -> Any:
    """First-layer weights that a cell trained, as a numpy array; None unless they are those of a convolution."""
    weights = checkpoint.load(bench.cell(cell) / "checkpoints" / "last.pt")["parts"]["model"]
    first = next(iter(weights.values()))
    return first.numpy() if first.ndim == 4 else None


def usage(bench: Bench, name: str) -> dict[str, Any]:
    """By layer, how the units that a rule trained share the images of the training set, as numpy arrays [units]."""
    rule = bench.options.rules[name]
    net = replace(bench.net, forward=forward_of(rule), rule=rule_name(rule))
    model = _pretrained(bench, net, name)
    layers = [layer for layer in trainable_layers(model) if layer != net.head]
    images, _ = next(iter(net.loader(bench.dataset.train, 256, bench.device, seed=bench.seed)))
    shares = unit_usage(model, dict.fromkeys(layers, rule), images)
    return {layer: share.cpu().numpy() for layer, share in shares.items()}


def _pretrained(bench: Bench, net: Net, name: str) -> nn.Module:
    model = _fresh(bench, net)
    last = bench.cell(f"pretrain-{name}") / "checkpoints" / "last.pt"
    model.load_state_dict(checkpoint.load(last)["parts"]["model"])
    return model


def _fresh(bench: Bench, net: Net) -> nn.Module:
    checkpoint.seed_everything(bench.seed)
    return place(net.build(), bench.device)


def _frozen(bench: Bench, net: Net, model: nn.Module, shown: str) -> list[Record]:
    bench.folder.log(f"seed {bench.seed}: {shown} features, frozen")
    options = bench.options
    kinds = {"probe": f"{shown} probe", "knn": f"{shown} kNN"}
    found = frozen(
        net, model, bench.dataset, bench.budgets, bench.seed, bench.device, bench.folder.console,
        probe=True, knn=True, probe_method=options.probe_method, k=options.k, batch_size=256,
    )  # fmt: skip
    peak = peak_bytes() / 2**20
    return [replace(r, method=kinds[r.method], peak_memory_mb=peak) for r in found]


def _supervised(bench: Bench, net: Net, model: nn.Module, labels: int, path: Path, method: str) -> list[Record]:
    bench.folder.log(f"seed {bench.seed}: {method}, {labels} labels")
    options, images = bench.options, bench.dataset.train
    model.get_submodule(net.head).reset_parameters()  # type: ignore[operator]
    loader = net.loader(
        images, options.batch_size, bench.device,
        indices=bench.budgets[labels], seed=bench.seed, augment=options.augment,
    )  # fmt: skip
    history = finetune(
        model,
        loader,
        epochs=-(-options.finetune_steps // len(loader)),
        lr=options.finetune_lr,
        head=net.head,
        weight_decay=options.weight_decay,
        max_steps=options.finetune_steps,
        watcher=bench.watcher(path, net),
    )
    peak = peak_bytes() / 2**20
    top1, top5 = accuracies(model, net.loader(bench.dataset.test, 256, bench.device, shuffle=False), (1, 5))
    tested = record(net, method, labels, len(images), bench.seed, None, top1, top5)
    return [replace(tested, finetune_seconds=history[-1]["seconds"], peak_memory_mb=peak)]


def base_net(options: StudyOptions, dataset: Dataset, mean: Any, std: Any, seed: int) -> Net:
    """The net of a study before a method makes it its own.

    Raises:
        ValueError: the model cannot be built for these images, or has no such head.
    """
    net = Net(
        dataset=dataset.name,
        data=options.data,
        classes=dataset.classes,
        mean=mean,
        std=std,
        image_size=options.image_size,
        model=options.model,
        width=options.width,
        forward="relu",
        twin="hebbian",
        head="",
        rule="",
        validation=options.validation,
        seed=seed,
    )
    model = net.build()
    check_images(net, model)
    return replace(net, head=head_of(model, options.head))
