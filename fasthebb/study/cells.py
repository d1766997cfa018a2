"""The cells of a study: what is trained or measured once, kept in a folder of its own, and never done again.

| cell | does |
|---|---|
| pretrain-METHOD-sSEED | trains or fits the hidden layers without labels |
| frozen-METHOD-sSEED | read-outs of frozen features, every depth, every budget |
| finetune-METHOD-LABELS-sSEED | trains the pre-trained net on a budget, end to end |
| teacher-METHOD-sSEED, student-METHOD-LABELS-sSEED | train a fresh net on the probe's scores of all images |
| scratch-TWIN-LABELS-sSEED | trains a twin of the net on a budget, from initial weights |
| tune-CELL-LABELS-sSEED | chooses the settings of one of the last two, on the first seed |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from fasthebb.evaluation.results import Record
from fasthebb.jobs.frozen import frozen
from fasthebb.jobs.layer_rules import forward_of, rule_name
from fasthebb.jobs.net import Net
from fasthebb.memory import peak_bytes
from fasthebb.models import trainable_layers
from fasthebb.models.vae import vae
from fasthebb.study.bench import Bench
from fasthebb.study.ensembles import Scores, probe_of
from fasthebb.study.options import PATCHES
from fasthebb.study.prepared import cells_of, prepare, train_by_rules
from fasthebb.study.students import students
from fasthebb.study.supervised import supervised
from fasthebb.training.loop import place
from fasthebb.training.patches import fit_patches
from fasthebb.training.simclr import pretrain_simclr
from fasthebb.training.vae import encoder_state, pretrain_vae

READ_OUTS = {"knn": "kNN", "knn propagated": "kNN propagated", "svm": "SVM"}  # as results call them


def hebbian(bench: Bench) -> list[Record]:
    """Everything measured of a rule: pre-training, then its features frozen and fine-tuned."""
    net = net_of(bench)

    def train(path: Path) -> list[Record]:
        model = bench.fresh(net)
        with torch.no_grad():
            for layer in set(trainable_layers(model)) - {net.head}:
                model.get_submodule(layer).weight.mul_(bench.options.initial_scale)  # type: ignore[operator]
        bench.folder.log(f"seed {bench.seed}: pre-training by {net.rule} on {len(bench.images)} images without labels")
        train_by_rules(bench, net, model, bench.options.epochs, path)
        return []

    return _pretrained(bench, net, train)


def variational(bench: Bench) -> list[Record]:
    """Everything measured of a variational auto-encoder's encoder, a backprop twin of the net."""
    options, net = bench.options, net_of(bench)

    def train(path: Path) -> list[Record]:
        model = bench.fresh(net)
        bench.folder.log(f"seed {bench.seed}: pre-training of a VAE on {len(bench.images)} images without labels")
        whole = vae(channels=len(net.mean), image_size=net.image_size, width=net.width, forward=net.forward)
        history = pretrain_vae(
            place(whole, bench.device, options.precision),
            bench.unlabelled(net, options.batch_size),
            epochs=options.epochs,
            lr=options.lr,
            max_steps=options.max_steps,
            watcher=bench.folder.watcher(
                net.plain(), options.checkpoint_steps, path / "vae", tensorboard=options.tensorboard
            ),
        )
        model.load_state_dict(encoder_state(whole), strict=False)
        bench.keep(path, net, model, history[-1]["seconds"])
        return []

    return _pretrained(bench, net, train)


def contrastive(bench: Bench) -> list[Record]:
    """Everything measured of a backprop twin of the net that SimCLR pre-trained, on augmented images of its own."""
    options, net = bench.options, net_of(bench)

    def train(path: Path) -> list[Record]:
        model = bench.fresh(net)
        bench.folder.log(f"seed {bench.seed}: pre-training by SimCLR on {len(bench.images)} images without labels")
        history = pretrain_simclr(
            model,
            bench.unlabelled(net, bench.method.batch_size, augment="contrast", views=2),
            epochs=options.epochs,
            lr=options.lr,
            head=net.head,
            max_steps=options.max_steps,
            max_seconds=options.max_seconds,
            watcher=bench.folder.watcher(
                net.plain(), options.checkpoint_steps, path / "simclr", tensorboard=options.tensorboard
            ),
        )
        bench.keep(path, net, model, history[-1]["seconds"])
        return []

    return _pretrained(bench, net, train)


def patches(bench: Bench) -> list[Record]:
    """Everything measured of filters in closed form: principal components or means of patches."""
    net = net_of(bench)
    shown, filters = PATCHES[bench.method.base]

    def fit(path: Path) -> list[Record]:
        model = bench.fresh(net)
        bench.folder.log(f"seed {bench.seed}: {shown} of {len(bench.images)} images without labels")
        hidden = [layer for layer in trainable_layers(model) if layer != net.head]
        history = fit_patches(
            model, hidden, bench.unlabelled(net, 256), filters, seed=bench.seed, show=bench.folder.console.progress
        )
        bench.keep(path, net, model, history[-1]["seconds"])
        return []

    return _pretrained(bench, net, fit)


def random_features(bench: Bench) -> list[Record]:
    """Read-outs of the features of initial weights, with batch statistics of the training images."""
    net = net_of(bench)

    def measure(path: Path) -> list[Record]:
        model = bench.fresh(net)
        with torch.no_grad():
            model.train()
            for x, _y in bench.unlabelled(net, 256):
                model(x)
        return _frozen(bench, net, model, path)

    return bench.once(f"frozen-{bench.method.name}", measure)


def scratch(bench: Bench) -> list[Record]:
    """Supervised training from initial weights on every budget, of both twins where they differ."""
    name, shown = bench.method.name, bench.method.title
    twins = ("hebbian", "backprop") if bench.options.both_twins else ("backprop",)
    nets = {twin: bench.net_of(twin=twin) for twin in twins}
    if len({str(net.build()) for net in nets.values()}) == 1:
        net = nets["backprop"]
        records = supervised(bench, net, partial(bench.fresh, net), f"{name}-backprop", shown)
        # a study that is older says of which twin
        return [replace(r, method=r.method.replace(" (backprop twin)", "")) for r in records]
    return [
        record
        for twin, net in nets.items()
        for record in supervised(bench, net, partial(bench.fresh, net), f"{name}-{twin}", f"{shown} ({twin} twin)")
    ]


def net_of(bench: Bench) -> Net:
    """The net that a method pre-trains; of scratch the backprop twin."""
    base = bench.method.base
    rules = bench.options.rules.get(base)
    if rules is not None:
        return bench.net_of(forward=forward_of(rules), rule=rule_name(rules))
    return bench.net_of(twin="backprop" if base in ("scratch", "vae", "simclr") else "hebbian")


METHODS: dict[str, Callable[[Bench], list[Record]]] = {
    "random": random_features,
    "scratch": scratch,
    "vae": variational,
    "simclr": contrastive,
    **dict.fromkeys(PATCHES, patches),
}
UNTRAINED = frozenset({"random", "scratch"})  # those of them that pre-train no net


def _pretrained(bench: Bench, net: Net, train: Callable[[Path], list[Record]]) -> list[Record]:
    # Pre-training, what follows it, and what the net is worth after it.
    name, shown = bench.method.name, bench.method.title
    cells = cells_of(bench)
    bench.once(cells[0], train)
    net = replace(net, pretrain_seconds=prepare(bench, net))
    records = bench.once(f"frozen-{name}", lambda path: _frozen(bench, net, bench.trained(net, cells[-1]), path))
    if bench.options.student:
        records = records + students(bench, net, cells[-1])
    if bench.options.finetune:
        start = partial(bench.trained, net, cells[-1])
        records = records + supervised(bench, net, start, f"finetune-{name}", f"{shown} fine-tuned")
    return records


def _frozen(bench: Bench, net: Net, model: nn.Module, path: Path) -> list[Record]:
    shown, scores = bench.method.title, Scores(probe_of(bench.options))
    if not bench.options.wanted:
        return []
    bench.folder.log(f"seed {bench.seed}: {shown} features, frozen")
    found = frozen(
        net, model, bench.dataset, bench.budgets, bench.seed, bench.device, bench.folder.console, bench.options,
        batch_size=256, keep=scores,
    )  # fmt: skip
    scores.save(path)
    peak = peak_bytes() / 2**20
    return [replace(r, method=f"{shown} {READ_OUTS.get(r.method, r.method)}", peak_memory_mb=peak) for r in found]
