"""`fasthebb evaluate`: what the features of a run are worth on test images."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from fasthebb.console import Console
from fasthebb.data import Dataset
from fasthebb.data.labels import parse_budget
from fasthebb.evaluation import knn_accuracy, knn_left_out, linear_probe
from fasthebb.evaluation.features import extract
from fasthebb.evaluation.results import Record
from fasthebb.files import lock
from fasthebb.jobs.options import EvaluateOptions
from fasthebb.jobs.results import add, record
from fasthebb.jobs.setup import Net, budget, depths, load_data, pool_of, read_net, set_aside, with_data_of
from fasthebb.models import trainable_layers
from fasthebb.training.finetune import accuracies
from fasthebb.training.loop import device_of, place
from fasthebb.training.run import read_metrics


def run(options: EvaluateOptions, console: Console) -> list[Record]:
    """Measure the net of a run folder, print the table, and add it to the run's results.

    Raises:
        ValueError: there is nothing to measure, or an option does not fit.
    """
    net, model = read_net(options.run, console)
    if not (options.probe or options.knn or net.classifier):
        raise ValueError(f"{options.run} holds no classifier, so there is nothing to measure: add --probe or --knn")
    options = with_data_of(net, _with_labels_of(net, options))
    seed, text = options.seed, options.labels
    assert seed is not None
    assert text is not None
    device = device_of(options.device)
    place(model, device)
    with lock(options.run):
        dataset = load_data(options, net.image_size, console)
        if dataset.classes != net.classes and net.classifier:
            raise ValueError(
                f"{options.data}: its classes are {', '.join(dataset.classes)}, the run's {', '.join(net.classes)}"
            )
        aside = set_aside(dataset, net.validation, net.seed)
        chosen, _ = budget(dataset, parse_budget(text), aside, seed=seed, balanced=options.balanced is not False)
        seconds = net.pretrain_seconds or next((r["seconds"] for r in reversed(list(read_metrics(options.run)))), None)
        net = replace(net, classes=dataset.classes, dataset=dataset.name, pretrain_seconds=seconds)
        records = []
        if net.classifier:
            top1, top5 = accuracies(model, net.loader(dataset.test, options.batch_size, device, shuffle=False), (1, 5))
            records.append(record(net, net.classifier, len(chosen), len(dataset.train), seed, None, top1, top5))
        if options.probe or options.knn:
            records += frozen(
                net, model, dataset, {len(chosen): chosen}, seed, device, console,
                probe=options.probe, knn=options.knn, probe_method=options.probe_method, k=options.k,
                batch_size=options.batch_size,
            )  # fmt: skip
        add(options.run, records)
    columns = ("method", "depth", "labels", "top-1 %", "top-5 %")
    console.table(f"{net.dataset}: {options.run}", columns, [_row(r) for r in records])
    return records


def _with_labels_of(net: Net, options: EvaluateOptions) -> EvaluateOptions:
    # Which labels may be seen: a fine-tuned net has seen its own, and no others are counted as its budget.
    if not net.classifier:
        seed = net.seed if options.seed is None else options.seed
        return replace(options, labels=options.labels or "1.0", seed=seed)
    own = {"labels": net.labels, "balanced": net.balanced, "seed": net.label_seed}
    for name, value in own.items():
        given = getattr(options, name)
        if given not in (None, value):
            raise ValueError(f"{options.run} was fine-tuned with {name}={value}, not {given}: leave --{name} out")
    return replace(options, **own)  # type: ignore[arg-type]


def frozen(
    net: Net,
    model: nn.Module,
    dataset: Dataset,
    budgets: dict[int, Tensor],
    seed: int,
    device: torch.device,
    console: Console,
    *,
    probe: bool,
    knn: bool,
    probe_method: str,
    k: int,
    batch_size: int,
) -> list[Record]:
    """Probe and nearest neighbours on the frozen features of every depth, for every label budget.

    A record without a depth is of the depth that a budget's own labels choose: of least leave-one-out error. Labels are
    read at the budgets' images only.
    """
    most = max(budgets.values(), key=len)
    place = {int(index): row for row, index in enumerate(most)}
    train = net.loader(dataset.train, batch_size, device, indices=most, shuffle=False)
    test = net.loader(dataset.test, batch_size, device, shuffle=False)
    x = next(iter(test))[0][:2]
    hidden = [name for name in trainable_layers(model) if name != net.head]
    found: list[tuple[float, Record]] = []  # with their leave-one-out error
    for depth, layer in console.progress(list(depths(model, hidden, net.head, x).items()), "depths"):
        pool = pool_of(model, layer, x)
        features, labels = extract(model, layer, train, pool=pool)
        tested, truth = extract(model, layer, test, pool=pool)
        for count, indices in budgets.items():
            rows = torch.tensor([place[int(i)] for i in indices], device=features.device)
            few, known = features[rows], labels[rows]
            at = (count, len(dataset.train), seed, depth)
            if probe:
                ridge = linear_probe(few, known)
                fitted = ridge if probe_method == "ridge" else linear_probe(few, known, method=probe_method, seed=seed)
                top1, top5 = fitted.score(tested, truth), fitted.score(tested, truth, 5)
                found.append((ridge.left_out or 0.0, record(net, "probe", *at, top1, top5)))
            if knn:
                near = max(1, min(k, count // len(net.classes)))
                top1 = knn_accuracy(few, known, tested, truth, k=near)
                found.append((-knn_left_out(few, known, k=near), record(net, "knn", *at, top1, None)))
    return [r for _, r in found] + _chosen(found)


def _chosen(found: list[tuple[float, Record]]) -> list[Record]:
    # Of every method and budget the record of least leave-one-out error, as one of no depth.
    best: dict[tuple[str, int], tuple[float, Record]] = {}
    for error, r in found:
        if (r.method, r.labels) not in best or error < best[r.method, r.labels][0]:
            best[r.method, r.labels] = error, r
    return [replace(r, depth=None) for _, r in best.values()]


def _row(r: Record) -> tuple[str, ...]:
    top5 = "–" if r.top5 is None else f"{r.top5:.2f}"
    depth = str(r.depth) if r.depth is not None else "chosen" if r.method in ("probe", "knn") else "–"
    return r.method, depth, str(r.labels), f"{r.top1:.2f}", top5
