"""Training end to end on label budgets: of the whole net, and cut at every depth asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from fasthebb.console import Console
from fasthebb.evaluation.results import Record
from fasthebb.jobs.net import Net, cut_at
from fasthebb.memory import peak_bytes
from fasthebb.study.bench import Bench
from fasthebb.study.options import StudyOptions
from fasthebb.study.semi import alone, matched
from fasthebb.study.tuning import chosen
from fasthebb.training.finetune import accuracy, finetune
from fasthebb.training.loop import History, Watcher

Start = Callable[[], nn.Module]


def supervised(bench: Bench, net: Net, start: Start, cell: str, method: str) -> list[Record]:
    """The records of training on every budget.

    start: gives the net's model with the weights to begin with. cell: without labels and seed. method: as results call
    it.
    """
    records = []
    for depth in (None, *bench.options.finetune_depths):
        for labels in bench.budgets:
            at = "" if depth is None else f"-depth{depth}"
            measure = partial(_measure, bench, net, start, depth, labels, cell, method)
            found = bench.once(f"{cell}-{labels}{at}", measure)
            records += found if depth else found + matched(bench, net, f"{cell}-{labels}", labels, found)
    return records


def _measure(
    bench: Bench, net: Net, start: Start, depth: int | None, labels: int, cell: str, method: str, path: Path
) -> list[Record]:
    options = chosen(bench, cell, method, labels, partial(_tried, bench, net, start))
    bench.folder.log(f"seed {bench.seed}: {method}, {labels} labels" + ("" if depth is None else f", depth {depth}"))
    model = start()
    if depth is not None:
        net, model = cut_at(net, model, depth)
    net = replace(
        net, classifier="finetune", labels=str(labels), label_count=labels, label_seed=bench.seed,
        balanced=options.balanced,
    )  # fmt: skip
    history = _fit(bench, net, model, options, bench.budgets[labels], bench.watcher(path, net))
    peak = peak_bytes() / 2**20
    (tested,) = alone(bench, labels, net, model, method, depth)
    return [replace(tested, finetune_seconds=history[-1]["seconds"], peak_memory_mb=peak)]


def _tried(bench: Bench, net: Net, start: Start, options: StudyOptions, train: Tensor, test: Tensor) -> float:
    # What a setting is worth: the accuracy on some images of training on others, in no more steps than are allowed.
    model = start()
    _fit(bench, net, model, options, train, _Shown(bench.folder.console), options.tune_steps)
    return accuracy(model, net.loader(bench.dataset.train, 256, bench.device, indices=test, shuffle=False))


def _fit(
    bench: Bench, net: Net, model: nn.Module, options: StudyOptions, images: Tensor, watcher: Watcher,
    most: int | None = None,
) -> History:  # fmt: skip
    # Trains a model under a new head; most: steps.
    model.get_submodule(net.head).reset_parameters()  # type: ignore[operator]
    loader = net.loader(
        bench.dataset.train, options.finetune_batch_size or options.batch_size, bench.device,
        indices=images, seed=bench.seed, augment=options.augment,
    )  # fmt: skip
    limits = [steps for steps in (None if options.finetune_epochs else options.finetune_steps, most) if steps]
    return finetune(
        model,
        loader,
        epochs=options.finetune_epochs or -(-options.finetune_steps // len(loader)),
        lr=options.finetune_lr,
        head=net.head,
        weight_decay=options.weight_decay,
        head_steps=options.head_steps,
        hidden_rate=options.hidden_rate,
        max_steps=min(limits, default=None),
        watcher=watcher,
    )


class _Shown(Watcher):
    # A stage that is shown as it goes by, and keeps nothing.

    def __init__(self, console: Console) -> None:
        self._console = console

    def steps(self, steps: range, description: str) -> Iterable[int]:
        return self._console.progress(steps, description)
