"""Students: a fresh net learns what a probe of frozen features makes of all images, the few labels included.

| cell | does |
|---|---|
| teacher-METHOD-sSEED | scores all images by the probe of every budget, kept in teacher.safetensors |
| student-METHOD-LABELS-sSEED | trains the student on them, and asks both of them about the test images |
| fixmatch-student-METHOD-LABELS-sSEED | trains it by FixMatch then, if that is wanted, and asks both of them again |
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn.functional import pad

from fasthebb.evaluation import linear_probe, topk_accuracy
from fasthebb.evaluation.confusion import predictions
from fasthebb.evaluation.features import extract_many
from fasthebb.evaluation.probe import Probe
from fasthebb.evaluation.results import Record
from fasthebb.files import atomic_write
from fasthebb.jobs.frozen import spots_of
from fasthebb.jobs.net import Net, Spot
from fasthebb.jobs.results import record
from fasthebb.jobs.setup import labelled
from fasthebb.jobs.views import InTurn, views_of
from fasthebb.memory import peak_bytes
from fasthebb.study.bench import Bench, student_of
from fasthebb.study.ensembles import FILE as SCORES
from fasthebb.study.ensembles import depth_of
from fasthebb.study.semi import matched, seen
from fasthebb.training.student import soft_targets, teach

FILE = "teacher.safetensors"
AT_ONCE = 4096  # images whose features are held at a time
TEMPERATURES = {"ridge": 0.2}  # of scores from -1 to 1; those of other probes are logits


def students(bench: Bench, net: Net, cell: str) -> list[Record]:
    """The records of a student at every budget; its teacher is the net that a cell keeps, under its probe."""
    name = bench.method.name
    bench.once(f"teacher-{name}", partial(_teacher, bench, net, cell))
    own, records = student_of(net, bench.options), []
    for labels in bench.budgets:
        cell = f"student-{name}-{labels}"
        found = bench.once(cell, partial(_student, bench, own, labels))
        records += found + matched(bench, own, cell, labels, found, _with_teacher)
    return records


def _teacher(bench: Bench, net: Net, cell: str, path: Path) -> list[Record]:
    bench.folder.log(f"seed {bench.seed}: {bench.method.title} scores {len(bench.images)} images")
    began, model, most = time.perf_counter(), bench.trained(net, cell), max(bench.budgets)
    spots = spots_of(net, model, bench.options)
    frozen = bench.cell(f"frozen-{bench.method.name}")
    chosen = {n: depth_of(frozen, n) for n in bench.budgets}
    places = {n: [spots[depth]] if depth else list(spots.values()) for n, depth in chosen.items()}
    needed = list({spot.module: spot for some in places.values() for spot in some}.values())

    features, labels = _features(bench, net, model, needed, bench.budgets[most])
    rows = {int(image): row for row, image in enumerate(bench.budgets[most])}
    probes = {n: _probe(bench, places[n], features, labels, [rows[int(i)] for i in bench.budgets[n]]) for n in places}
    scores: dict[int, list[Tensor]] = {n: [] for n in probes}
    images = seen(bench, most)
    for part in bench.folder.console.progress(torch.split(images, AT_ONCE), "scores"):
        features, _ = _features(bench, net, model, needed, part)
        for n, probe in probes.items():
            given = probe.scores(_beside(features, places[n]).flatten(0, 1))
            scores[n].append(given.view(-1, len(part), given.shape[1]).mean(0))
    kept = {str(n): torch.cat(parts).float().cpu().contiguous() for n, parts in scores.items()}
    kept["images"], kept["seconds"] = images, torch.tensor(time.perf_counter() - began)
    atomic_write(path / FILE, to_safetensors(kept))
    return []


def _features(
    bench: Bench, net: Net, model: nn.Module, spots: list[Spot], images: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    # By module, features [views, M, F] of some training images, and their labels, which those of a budget alone reads.
    loaders = [
        net.loader(bench.dataset.train, 256, bench.device, indices=images, shuffle=False, **view._asdict())
        for view in views_of(bench.options)
    ]
    pools = {spot.module: spot.pool for spot in spots}
    found = extract_many(model, list(pools), InTurn(loaders), pool=pools)
    return {name: rows.view(len(loaders), len(images), -1) for name, (rows, _) in found.items()}, (
        bench.dataset.train.labels[images]
    )


def _beside(features: Mapping[str, Tensor], spots: list[Spot]) -> Tensor:
    return torch.cat([features[spot.module] for spot in spots], 2)


def _probe(bench: Bench, spots: list[Spot], features: Mapping[str, Tensor], labels: Tensor, rows: list[int]) -> Probe:
    # The probe of a budget, as it was read out.
    few, options = _beside(features, spots)[:, rows], bench.options
    known = labels[rows].repeat(len(few))
    if options.together or options.probe_method == "ridge":
        return linear_probe(few.flatten(0, 1), known, copies=len(few))
    return linear_probe(
        few.flatten(0, 1), known, method=options.probe_method, seed=bench.seed, epochs=options.probe_epochs
    )


def _student(bench: Bench, net: Net, labels: int, path: Path) -> list[Record]:
    options, budget = bench.options, bench.budgets[labels]
    shown = f"{bench.method.title} student"
    bench.folder.log(f"seed {bench.seed}: {shown}, {labels} labels")
    taught = load_file(bench.cell(f"teacher-{bench.method.name}") / FILE)
    known = torch.full((len(bench.dataset.train),), -1)
    known[budget] = bench.dataset.train.labels[budget]
    targets = torch.zeros(len(known), len(net.classes))
    targets[taught["images"]] = _targets(bench, net, taught[str(labels)], known[taught["images"]])
    net = replace(
        net, labels=str(labels), label_count=labels, label_seed=bench.seed, balanced=options.balanced,
        pretrain_seconds=(net.pretrain_seconds or 0.0) + float(taught["seconds"]),
    )  # fmt: skip
    model = bench.fresh(net)
    history = teach(
        model,
        net.loader(
            bench.dataset.train, options.finetune_batch_size or options.batch_size, bench.device,
            indices=seen(bench, labels), seed=bench.seed, augment=options.augment,
        ),
        targets.to(bench.device),
        steps=options.finetune_steps,
        lr=options.finetune_lr,
        weight_decay=options.weight_decay,
        head=net.head,
        watcher=bench.watcher(path, net),
    )  # fmt: skip
    peak = peak_bytes() / 2**20
    tested = _with_teacher(bench, labels, net, model, shown)
    return [replace(r, finetune_seconds=history[-1]["seconds"], peak_memory_mb=peak) for r in tested]


def _with_teacher(bench: Bench, labels: int, net: Net, model: nn.Module, title: str) -> list[Record]:
    # The records of a student alone, and of the mean of what it and its teacher say.
    own, truth = _tested(bench, net, model)
    scores = load_file(bench.cell(f"frozen-{bench.method.name}") / SCORES)[str(labels)]
    both = own.softmax(2).mean(0) + _targets(bench, net, scores).to(own.device)
    return [
        record(
            net, name, labels, labelled(bench.dataset), bench.seed, None,
            topk_accuracy(found, truth), topk_accuracy(found, truth, 5),
        )
        for name, found in ((title, own[0]), (f"{title} and teacher", both))
    ]  # fmt: skip


def _targets(bench: Bench, net: Net, scores: Tensor, known: Tensor | None = None) -> Tensor:
    # Shares of all classes [M, classes]; those behind the last one of the budget, of which a probe says nothing, get 0.
    options = bench.options
    temperature = TEMPERATURES.get("ridge" if options.together else options.probe_method, 1.0)
    shares = soft_targets(scores, temperature, known)
    return pad(shares, (0, len(net.classes) - shares.shape[1]))


def _tested(bench: Bench, net: Net, model: nn.Module) -> tuple[Tensor, Tensor]:
    # A student's scores [views, M, classes] of the test images, in the views of the probe, and the images' labels.
    views = views_of(bench.options)
    found = [
        predictions(model, net.loader(bench.dataset.test, 256, bench.device, shuffle=False, **view._asdict()))
        for view in views
    ]
    return torch.stack([scores for scores, _ in found]), found[0][1]
