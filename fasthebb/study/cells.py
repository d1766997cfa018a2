"""The cells of a study: what is trained or measured once, kept in a folder of its own, and never done again.

| cell | does |
|---|---|
| pretrain-METHOD-sSEED | trains or fits the hidden layers without labels |
| frozen-METHOD-sSEED | read-outs of frozen features, every depth, every budget |
| finetune-METHOD-LABELS-sSEED | trains the pre-trained net on a budget, end to end |
| scratch-TWIN-LABELS-sSEED | trains a twin of the net on a budget, from initial weights |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from fasthebb.evaluation.results import Record
from fasthebb.hebbian import attach
from fasthebb.jobs.frozen import frozen
from fasthebb.jobs.net import Net, cut_at
from fasthebb.jobs.options import attachable, forward_of, rule_name
from fasthebb.jobs.results import record
from fasthebb.jobs.setup import labelled
from fasthebb.memory import peak_bytes
from fasthebb.models import trainable_layers
from fasthebb.models.vae import vae
from fasthebb.study.bench import Bench
from fasthebb.study.options import PATCHES, title_of
from fasthebb.training.finetune import accuracies, finetune
from fasthebb.training.loop import Progress
from fasthebb.training.patches import fit_patches
from fasthebb.training.pretrain import pretrain
from fasthebb.training.run import read_metrics
from fasthebb.training.vae import encoder_state, pretrain_vae

READ_OUTS = {"probe": "probe", "knn": "kNN", "svm": "SVM"}  # as results call them


def hebbian(bench: Bench, name: str) -> list[Record]:
    """Everything measured of a rule: pre-training, then its features frozen and fine-tuned."""
    options, rules = bench.options, bench.options.rules[name]
    net = bench.net_of(name, forward=forward_of(rules), rule=rule_name(rules))

    def train(path: Path) -> list[Record]:
        model = bench.fresh(net)
        hebb = attach(model, attachable(rules, net.head))
        bench.folder.log(f"seed {bench.seed}: pre-training by {net.rule} on {len(bench.images)} images without labels")
        pretrain(
            model,
            hebb,
            bench.unlabelled(net, options.batch_size),
            torch.optim.SGD(hebb.parameters(), lr=options.rates.get(name, options.lr)),
            epochs=options.epochs,
            order=options.order,
            max_steps=options.max_steps,
            watcher=bench.watcher(path, net),
        )
        return []

    bench.once(f"pretrain-{name}", train)
    return _pretrained(bench, net, name)


def variational(bench: Bench, name: str) -> list[Record]:
    """Everything measured of a variational auto-encoder's encoder, a backprop twin of the net."""
    options = bench.options
    net = bench.net_of(name, twin="backprop")

    def train(path: Path) -> list[Record]:
        model = bench.fresh(net)
        bench.folder.log(f"seed {bench.seed}: pre-training of a VAE on {len(bench.images)} images without labels")
        whole = vae(channels=len(net.mean), image_size=net.image_size, width=net.width, forward=net.forward)
        history = pretrain_vae(
            whole.to(bench.device),
            bench.unlabelled(net, options.batch_size),
            epochs=options.epochs,
            lr=options.rates.get(name, options.lr),
            max_steps=options.max_steps,
            watcher=bench.folder.watcher(
                net.plain(), options.checkpoint_steps, path / "vae", tensorboard=options.tensorboard
            ),
        )
        model.load_state_dict(encoder_state(whole), strict=False)
        _keep(bench, path, net, model, history[-1]["seconds"])
        return []

    bench.once(f"pretrain-{name}", train)
    return _pretrained(bench, net, name)


def patches(bench: Bench, name: str) -> list[Record]:
    """Everything measured of filters in closed form: principal components or means of patches."""
    net = bench.net_of(name)
    shown, filters = PATCHES[name]

    def fit(path: Path) -> list[Record]:
        model = bench.fresh(net)
        bench.folder.log(f"seed {bench.seed}: {shown} of {len(bench.images)} images without labels")
        hidden = [layer for layer in trainable_layers(model) if layer != net.head]
        history = fit_patches(
            model, hidden, bench.unlabelled(net, 256), filters, seed=bench.seed, show=bench.folder.console.progress
        )
        _keep(bench, path, net, model, history[-1]["seconds"])
        return []

    bench.once(f"pretrain-{name}", fit)
    return _pretrained(bench, net, name)


def random_features(bench: Bench, name: str) -> list[Record]:
    """Read-outs of the features of initial weights, with batch statistics of the training images."""
    net = bench.net_of(name)

    def measure(_: Path) -> list[Record]:
        model = bench.fresh(net)
        with torch.no_grad():
            model.train()
            for x, _y in bench.unlabelled(net, 256):
                model(x)
        return _frozen(bench, net, model, name)

    return bench.once(f"frozen-{name}", measure)


def scratch(bench: Bench, name: str) -> list[Record]:
    """Supervised training from initial weights on every budget, of both twins."""
    records = []
    for twin in ("hebbian", "backprop"):
        net = bench.net_of(name, twin=twin)
        records += _supervised(bench, net, partial(bench.fresh, net), f"scratch-{twin}", f"scratch ({twin} twin)")
    return records


METHODS: dict[str, Callable[[Bench, str], list[Record]]] = {
    "random": random_features,
    "scratch": scratch,
    "vae": variational,
    **dict.fromkeys(PATCHES, patches),
}


def _pretrained(bench: Bench, net: Net, name: str) -> list[Record]:
    # What a net is worth that the cell pretrain-NAME trained.
    cell, shown = f"pretrain-{name}", title_of(name)
    seconds = next(r["seconds"] for r in reversed(list(read_metrics(bench.cell(cell)))))
    net = replace(net, pretrain_seconds=seconds)
    records = bench.once(f"frozen-{name}", lambda _: _frozen(bench, net, bench.trained(net, cell), shown))
    if not bench.options.finetune:
        return records
    start = partial(bench.trained, net, cell)
    return records + _supervised(bench, net, start, f"finetune-{name}", f"{shown} fine-tuned")


def _keep(bench: Bench, path: Path, net: Net, model: nn.Module, seconds: float) -> None:
    # The checkpoint and the metrics of a net that was trained in another shape, or in no steps.
    watcher = bench.watcher(path, net)
    parts = {"model": model}
    record = {"epoch": 1, "step": 1, "seconds": seconds}
    if not watcher.restore(parts).step:
        watcher.epoch(record)
    watcher.finished(parts, Progress(step=1, seconds=seconds, history=[record]))


def _frozen(bench: Bench, net: Net, model: nn.Module, shown: str) -> list[Record]:
    if not bench.options.wanted:
        return []
    bench.folder.log(f"seed {bench.seed}: {shown} features, frozen")
    found = frozen(
        net, model, bench.dataset, bench.budgets, bench.seed, bench.device, bench.folder.console, bench.options,
        batch_size=256,
    )  # fmt: skip
    peak = peak_bytes() / 2**20
    return [replace(r, method=f"{shown} {READ_OUTS.get(r.method, r.method)}", peak_memory_mb=peak) for r in found]


def _supervised(bench: Bench, net: Net, start: Callable[[], nn.Module], cell: str, method: str) -> list[Record]:
    # Training on every budget, of the whole net and cut at every depth asked for.
    records = []
    for depth in (None, *bench.options.finetune_depths):
        for labels in bench.budgets:
            at = "" if depth is None else f"-depth{depth}"
            records += bench.once(f"{cell}-{labels}{at}", partial(_tuned, bench, net, start, depth, labels, method))
    return records


def _tuned(
    bench: Bench, net: Net, start: Callable[[], nn.Module], depth: int | None, labels: int, method: str, path: Path
) -> list[Record]:
    bench.folder.log(f"seed {bench.seed}: {method}, {labels} labels" + ("" if depth is None else f", depth {depth}"))
    options, images, model = bench.options, bench.dataset.train, start()
    if depth is not None:
        net, model = cut_at(net, model, depth)
    own = {"labels": str(labels), "label_count": labels, "label_seed": bench.seed, "balanced": options.balanced}
    net = replace(net, classifier="finetune", **own)  # type: ignore[arg-type]
    model.get_submodule(net.head).reset_parameters()  # type: ignore[operator]
    loader = net.loader(
        images, options.batch_size, bench.device,
        indices=bench.budgets[labels], seed=bench.seed, augment=options.augment,
    )  # fmt: skip
    steps = None if options.finetune_epochs else options.finetune_steps
    history = finetune(
        model,
        loader,
        epochs=options.finetune_epochs or -(-options.finetune_steps // len(loader)),
        lr=options.finetune_lr,
        head=net.head,
        weight_decay=options.weight_decay,
        max_steps=steps,
        watcher=bench.watcher(path, net),
    )
    peak = peak_bytes() / 2**20
    top1, top5 = accuracies(model, net.loader(bench.dataset.test, 256, bench.device, shuffle=False), (1, 5))
    tested = record(net, method, labels, labelled(bench.dataset), bench.seed, depth, top1, top5)
    return [replace(tested, finetune_seconds=history[-1]["seconds"], peak_memory_mb=peak)]
