"""How training end to end chooses its settings: the same few for every method, inside a budget, on the first seed.

A setting trains on four fifths of a budget's labels and is tested on the fifth that is left; the best accuracy wins, of
equals the first. Other budgets and seeds take the choice of the nearest budget. A cell tune-CELL-LABELS-sSEED keeps it
in tuning.json, written anew after every setting.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fasthebb.console import launched
from fasthebb.evaluation.results import count
from fasthebb.files import atomic_write
from fasthebb.study.bench import Bench
from fasthebb.study.options import StudyOptions
from fasthebb.study.places import AbandonedError, place, taken
from fasthebb.study.variants import in_words

FILE = "tuning.json"
HELD = 0.2  # of the labels of a class
PAUSE = 1.0  # seconds until one that waits for a choice looks again

HOW = (
    "Training end to end chose among these settings, on the first seed: accuracy in percent of a run on four fifths"
    " of a budget's labels, on the last fifth. Bold: the chosen one. Other budgets and seeds took the choice of the"
    " nearest budget."
)

Accuracy = Callable[[StudyOptions, Tensor, Tensor], float]


def split(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows to test on, both int64, of labels [M]: a fifth of every class is tested on.

    The fifth is rounded, but at least one image and never all of a class.

    Raises:
        ValueError: no class has two images.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    held = []
    for label in sorted(set(labels.tolist())):
        rows = order[labels[order] == label]
        held.append(rows[: min(len(rows) - 1, max(1, round(HELD * len(rows))))])
    tested = torch.cat(held).sort().values
    if not len(tested):
        raise ValueError(f"{len(labels)} labels are one a class, which leaves none to choose settings by")
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[tested] = False
    return kept.nonzero().flatten(), tested


def nearest(labels: int, tuned: Iterable[int]) -> int:
    """Of some budgets the one nearest to so many labels by their ratio; of two as near the smaller."""
    return min(tuned, key=lambda other: (abs(math.log(other / labels)), other))


def tuned_budgets(bench: Bench) -> list[int]:
    """The budgets at which a method's settings are chosen, as numbers of labels.

    A method with budgets of its own chooses at those of the study's that are among them, or else at the nearest ones.

    Raises:
        ValueError: one is no budget of the study, or leaves no label to choose by.
    """
    if not bench.options.tuning or not (bench.options.finetune or bench.method.base == "scratch"):
        return []
    found = bench.counts(bench.options.tune_at or bench.options.budgets)
    if "budgets" in bench.options.own.get(bench.method.name, {}):
        has = bench.counts(bench.options.budgets)
        found = [labels for labels in found if labels in has] or sorted({nearest(labels, has) for labels in found})
    if bench.seed != bench.options.seeds[0]:
        return found
    for text, labels in zip(bench.options.tune_at, bench.counts(bench.options.tune_at)):
        if labels not in bench.budgets and labels in found:
            known = ", ".join(map(str, bench.budgets))
            raise ValueError(f"--tune-at {text}: {labels} labels are no budget of this study; choose from {known}")
    for labels in found:
        try:
            split(bench.dataset.train.labels[bench.budgets[labels]], bench.seed)
        except ValueError as error:
            raise ValueError(f"--tune-at {labels}: {error}; choose at a larger budget") from None
    return found


def chosen(bench: Bench, cell: str, method: str, labels: int, accuracy: Accuracy) -> StudyOptions:
    """The method's options with the setting that is chosen for a budget.

    cell: of the training, without labels and seed. method: what results call it. accuracy: of training with options on
    some images and testing on others, given by their numbers; called on the first seed alone.

    Raises:
        AbandonedError: no process is at the first seed, which has not chosen.
    """
    if not bench.options.tuning:
        return bench.options
    at = nearest(labels, tuned_budgets(bench))
    path = bench.cell(f"tune-{cell}-{at}", bench.options.seeds[0])
    known = _known(path) if bench.seed == bench.options.seeds[0] else _awaited(bench, path)
    if "chosen" not in known:
        known = _search(bench, path, {"method": method, "labels": at, "accuracies": [], **known}, accuracy)
    return bench.method.with_(known["settings"][known["chosen"]]).options


def _known(path: Path) -> dict[str, Any]:
    return json.loads((path / FILE).read_text()) if (path / FILE).exists() else {}


def _awaited(bench: Bench, path: Path) -> dict[str, Any]:
    # What the process that is at the first seed has chosen, once it has.
    while True:
        busy = taken(place(bench, seed=bench.options.seeds[0]))  # asked first: it may choose and leave in between
        known = _known(path)
        if "chosen" in known:
            return known
        assert launched()[1] > 1, "one process measures the first seed before any other"
        if not busy:
            raise AbandonedError
        time.sleep(PAUSE)


def _search(bench: Bench, path: Path, known: dict[str, Any], accuracy: Accuracy) -> dict[str, Any]:
    settings = bench.options.tuning
    images = bench.budgets[known["labels"]]
    train, test = split(bench.dataset.train.labels[images], bench.seed)
    known["settings"], found = settings, known["accuracies"]
    for setting in settings[len(found) :]:
        bench.folder.log(
            f"seed {bench.seed}: {known['method']}, {known['labels']} labels, choosing: {in_words(setting)}"
        )
        found.append(accuracy(bench.method.with_(setting).options, images[train], images[test]))
        if len(found) == len(settings):
            known["chosen"] = found.index(max(found))
        path.mkdir(parents=True, exist_ok=True)
        atomic_write(path / FILE, json.dumps(known, indent=1) + "\n")
        bench.folder.begun = True
    return known


def choices(folder: Path, seed: int) -> list[dict[str, Any]]:
    """What was chosen in a study's folder, by method and labels.

    Each has method, labels, settings, accuracies in percent and chosen, the place of the best setting.
    """
    files = (folder / "cells").glob(f"tune-*-s{seed}/{FILE}")
    found = [json.loads(file.read_text()) for file in files]
    return sorted((one for one in found if "chosen" in one), key=lambda one: (one["method"], one["labels"]))


def choice_table(tuning: Sequence[Mapping[str, Any]], bold: str) -> tuple[list[str], list[list[str]]]:
    """Column names and cells: a line per method and budget, a column per setting; `bold` makes the chosen one stand
    out, with {} for its accuracy."""
    settings = list(dict.fromkeys(in_words(setting) for one in tuning for setting in one["settings"]))
    table = []
    for one in tuning:
        cells = {in_words(s): f"{accuracy:.1f}" for s, accuracy in zip(one["settings"], one["accuracies"])}
        best = in_words(one["settings"][one["chosen"]])
        cells[best] = bold.format(cells[best])
        table.append([one["method"], count(one["labels"]), *(cells.get(setting, "–") for setting in settings)])
    return ["method", "labels", *settings], table
