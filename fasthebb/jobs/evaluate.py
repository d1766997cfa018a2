"""`fasthebb evaluate`: what the features of a run are worth on test images."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from fasthebb.console import Console
from fasthebb.data import Dataset
from fasthebb.data.labels import parse_budget
from fasthebb.evaluation import knn_accuracy, linear_probe
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

    Labels are read at the budgets' images only.
    """
    most = max(budgets.values(), key=len)
    place = {int(index): row for row, index in enumerate(most)}
    train = net.loader(dataset.train, batch_size, device, indices=most, shuffle=False)
    test = net.loader(dataset.test, batch_size, device, shuffle=False)
    x = next(iter(test))[0][:2]
    hidden = [name for name in trainable_layers(model) if name != net.head]
    records = []
    for depth, layer in console.progress(list(depths(model, hidden, net.head, x).items()), "depths"):
        pool = pool_of(model, layer, x)
        features, labels = extract(model, layer, train, pool=pool)
        tested, truth = extract(model, layer, test, pool=pool)
        for count, indices in budgets.items():
            rows = torch.tensor([place[int(i)] for i in indices], device=features.device)
            few, known = features[rows], labels[rows]
            at = (count, len(dataset.train), seed, depth)
            if probe:
                fitted = linear_probe(few, known, method=probe_method, seed=seed)
                records.append(record(net, "probe", *at, fitted.score(tested, truth), fitted.score(tested, truth, 5)))
            if knn:
                top1 = knn_accuracy(few, known, tested, truth, k=max(1, min(k, count // len(net.classes))))
                records.append(record(net, "knn", *at, top1, None))
    return records


def _row(r: Record) -> tuple[str, ...]:
    top5 = "–" if r.top5 is None else f"{r.top5:.2f}"
    return r.method, "–" if r.depth is None else str(r.depth), str(r.labels), f"{r.top1:.2f}", top5
