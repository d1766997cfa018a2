"""`fasthebb evaluate`: what the features of a run are worth on test images."""

from __future__ import annotations

import contextlib
import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fasthebb.console import Console
from fasthebb.data.labels import parse_budget
from fasthebb.distributed import first_of_machine, gathered, rank, shared
from fasthebb.evaluation import confusion_matrix, predictions, topk_accuracy
from fasthebb.evaluation.results import Record
from fasthebb.files import atomic_write, lock
from fasthebb.jobs.frozen import CHOSEN, frozen
from fasthebb.jobs.net import Net
from fasthebb.jobs.options import RunDataOptions
from fasthebb.jobs.readouts import ReadOutOptions
from fasthebb.jobs.results import add, record
from fasthebb.jobs.setup import budget, labelled, load_for, set_aside, with_data_of
from fasthebb.jobs.trained import is_exported, read_net, trained_folder
from fasthebb.training.loop import device_of, place
from fasthebb.training.precision import Precision
from fasthebb.training.run import read_metrics


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ReadOutOptions, RunDataOptions):
    """Measure a trained net on test images; results are added to the run's results.csv and results.json.

    Args:
        run: the run folder, of pre-training or of fine-tuning, an exported net, or the name of ready weights.
        labels: the label budget of probe and knn, all labels by default; a fine-tuned net keeps its own.
        balanced: as many labels of every class, otherwise a plain shuffle; a fine-tuned net keeps its own.
        seed: decides which labels; by default the run's, and a fine-tuned net keeps its own.
        device: cpu, cuda, or auto.
        precision: fp32, or products in tf32 (GPUs) or bf16: faster on machines with instructions for them.
        batch_size: images a step.
    """

    labels: str | None = None
    balanced: bool | None = None
    seed: int | None = None
    device: str = "auto"
    precision: Precision = "fp32"
    batch_size: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels is not None:
            parse_budget(self.labels)

    def idle(self) -> dict[str, str]:
        """Options that nothing reads beside the others, and why."""
        return self.unread()


def run(options: EvaluateOptions, console: Console) -> list[Record]:
    """Measure the net of a run folder, print the table, and add it to the run's results; an exported net keeps none.

    Raises:
        ValueError: there is nothing to measure, or an option does not fit.
    """
    options = replace(options, run=trained_folder(options.run))
    net, model = read_net(options.run, console, trust=options.trust)
    if not (options.wanted or net.classifier):
        raise ValueError(f"{options.run} holds no classifier, so there is nothing to measure: add --probe or --knn")
    options = with_data_of(net, _with_labels_of(net, options))
    seed, text = options.seed, options.labels
    assert seed is not None
    assert text is not None
    device = device_of(options.device)
    place(model, device, options.precision)
    keeps = rank() == 0 and not is_exported(options.run)
    with lock(options.run) if keeps else contextlib.nullcontext():
        with first_of_machine():
            dataset = load_for(net, options, console)
        if dataset.classes != net.classes and net.classifier:
            raise ValueError(
                f"{options.data}: its classes are {', '.join(dataset.classes)}, the run's {', '.join(net.classes)}"
            )
        aside = set_aside(dataset, net.validation, net.seed)
        chosen = torch.empty(0, dtype=torch.int64)
        if options.wanted or not net.classifier:
            chosen, _ = budget(dataset, parse_budget(text), aside, seed=seed, balanced=options.balanced is not False)
        seconds = net.pretrain_seconds or next((r["seconds"] for r in reversed(list(read_metrics(options.run)))), None)
        net = replace(net, classes=dataset.classes, dataset=dataset.name, pretrain_seconds=seconds)
        records = []
        if net.classifier:
            tests = shared(torch.arange(len(dataset.test)))
            loader = net.loader(dataset.test, options.batch_size, device, indices=tests, shuffle=False)
            scores, truth = map(gathered, predictions(model, loader))
            top1, top5 = (topk_accuracy(scores, truth, k) for k in (1, 5))
            if keeps:
                _write_confusion(options.run, net, confusion_matrix(scores.argmax(1), truth, len(net.classes)))
            records.append(
                record(
                    net, net.classifier, net.label_count or len(chosen), labelled(dataset), seed, net.depth, top1, top5
                )
            )
        if options.wanted:
            found = frozen(
                net, model, dataset, {len(chosen): chosen}, seed, device, console, options,
                batch_size=options.batch_size,
            )  # fmt: skip
            unchosen = bool(options.probe_depths)  # no choice among all
            every = [r for r in found if not (unchosen and r.depth is None and r.method in CHOSEN)]
            records += [_named(net, options, r) for r in every]
        if keeps:
            add(options.run, records)
    columns = ("method", "depth", "labels", "top-1 %", "top-5 %")
    console.table(f"{net.dataset}: {options.run}", columns, [_row(r) for r in records])
    return records


def _named(net: Net, options: EvaluateOptions, r: Record) -> Record:
    # By what is not its default, so that no record replaces one of other options. A fine-tuned net has one draw of
    # labels, its own; retrieval reads none.
    plainly = options.balanced is False and not net.classifier and r.labels > 0
    return replace(r, method=options.named(r.method) + (" drawn plainly" if plainly else ""))


def _write_confusion(run: Path, net: Net, counts: Tensor) -> None:
    # confusion.csv: a line per true class, a column per predicted one.
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["true class", *net.classes])
    rows.writerows([name, *line] for name, line in zip(net.classes, counts.tolist()))
    atomic_write(run / "confusion.csv", text.getvalue())


def _with_labels_of(net: Net, options: EvaluateOptions) -> EvaluateOptions:
    # Which labels may be seen: a fine-tuned net has seen its own, and no others are counted as its budget.
    if not net.classifier:
        seed = net.seed if options.seed is None else options.seed
        return replace(options, labels=options.labels or "1.0", seed=seed)
    if options.labels and net.labels and parse_budget(options.labels) == parse_budget(net.labels):
        options = replace(options, labels=net.labels)
    own = {"labels": net.labels, "balanced": net.balanced, "seed": net.label_seed}
    for name, value in own.items():
        given = getattr(options, name)
        if given not in (None, value):
            raise ValueError(f"{options.run} was fine-tuned with {name}={value}, not {given}: leave --{name} out")
    return replace(options, **own)  # type: ignore[arg-type]


def _row(r: Record) -> tuple[str, ...]:
    top5 = "–" if r.top5 is None else f"{r.top5:.2f}"
    none = "all" if "together" in r.method else "chosen" if r.method.split()[0] in CHOSEN else "–"
    depth = str(r.depth) if r.depth is not None else none
    return r.method, depth, str(r.labels or "–"), f"{r.top1:.2f}", top5
