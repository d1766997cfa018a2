"""`fasthebb study`: methods × budgets × seeds, cell by cell, then tables and a report."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fasthebb.console import Console
from fasthebb.environment import hardware
from fasthebb.evaluation.results import Record, Summary, load, save, summarise
from fasthebb.files import atomic_save
from fasthebb.jobs.setup import load_data, statistics
from fasthebb.options import plain
from fasthebb.study.cells import Bench, base_net, first_filters, hebbian, random_features, scratch, usage
from fasthebb.study.options import BASELINES, StudyOptions
from fasthebb.study.report import write_report
from fasthebb.study.verdict import headline, shown
from fasthebb.training.loop import device_of
from fasthebb.training.run import RunFolder, read_config, read_metrics

PICTURES = "pictures.npz"  # the last thing that a study measures


def run(options: StudyOptions, console: Console) -> Path:
    """Run or resume a study; returns its report.

    Raises:
        ValueError: an option does not fit the data or the folder.
        Interrupted: a signal came; the study resumes with the cells that are left.
    """
    device = device_of(options.device)
    with RunFolder(options.out, plain(options), resume=options.resume, console=console) as folder:
        report = folder.path / "report.html"
        done = (folder.path / PICTURES).exists()
        if done:
            console.say(f"{folder.path} is finished already")
        else:
            _measure(options, folder, device)
        records, _ = load(folder.path)
        if not done or not report.exists():
            rebuild(folder.path)
            console.say(headline(records, shown(summarise(records))))
            folder.log(f"report: {report}")
    show(records, console)
    return report


def _measure(options: StudyOptions, folder: RunFolder, device: torch.device) -> None:
    dataset = load_data(options, options.image_size, folder.console)
    mean, std = statistics(dataset)
    nets = {seed: base_net(options, dataset, mean, std, seed) for seed in options.seeds}
    benches = [Bench(options, dataset, folder, device, net, seed) for seed, net in nets.items()]
    for bench in benches:
        assert bench.budgets  # a budget that does not fit fails before anything is trained
    folder.write_config()
    records: list[Record] = []
    for bench in benches:
        for method in options.methods:
            records += _method(method)(bench, method)
            save(folder.path, records, hardware())
    _keep_pictures(benches[0])


def show(records: list[Record], console: Console) -> None:
    """Print the main table: methods × budgets, mean ± half width of the 95 % t-interval."""
    columns, table = main_table(shown(summarise(records)))
    console.table(f"{records[0].dataset}: mean ± 95 % t-interval over seeds", columns, table)


def main_table(rows: list[Summary]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells of top-1 accuracy: a line per method, a column per budget."""
    budgets = sorted({row.labels for row in rows})
    cells = {(row.name, row.labels): str(row.top1) for row in rows}
    names = dict.fromkeys(row.name for row in rows)
    table = [[name, *(cells.get((name, labels), "–") for labels in budgets)] for name in names]
    return ["top-1 %", *(f"{labels} labels" for labels in budgets)], table


def rebuild(folder: Path) -> Path:
    """Write the report of a study's folder from what the folder holds.

    Raises:
        ValueError: it holds no study, or one without results.
    """
    config = read_config(folder)
    if "budgets" not in config:
        raise ValueError(f"{folder} holds no study; give the --out of one")
    records, environment = load(folder)
    if not records:
        raise ValueError(f"{folder} has no results yet; let the study finish a method first")
    first_seed = config["seeds"][0]
    curves = {p.name: list(read_metrics(p)) for p in sorted((folder / "cells").glob(f"*-s{first_seed}"))}
    command = ["fasthebb", "study", "--config", str(folder / "config.yaml"), "--out", f"{folder}-again"]
    return write_report(
        folder,
        records,
        title=f"{records[0].dataset}: few labels",
        filters=_pictures(folder, "filters"),
        curves={name: rows for name, rows in curves.items() if rows and name.startswith("pretrain")},
        usage=_pictures(folder, "usage"),
        environment={**environment, "model": config["model"], "width": config["width"], "seeds": config["seeds"]},
        commands=[shlex.join(command)],
    )


def _method(name: str) -> Callable[[Bench, str], list[Record]]:
    return {"random": random_features, "scratch": scratch}.get(name, hebbian)


def _keep_pictures(bench: Bench) -> None:
    # What the report draws of the nets themselves, of the first seed: "filters/METHOD" and "usage/METHOD/LAYER".
    largest = max(bench.budgets)
    names = [name for name in bench.options.methods if name not in BASELINES]
    cells = {name.upper(): f"pretrain-{name}" for name in names}
    if "scratch" in bench.options.methods:
        cells[f"scratch, {largest} labels"] = f"scratch-backprop-{largest}"
    filters = {f"filters/{name}": first_filters(bench, cell) for name, cell in cells.items()}
    kept = {name: array for name, array in filters.items() if array is not None}
    for name in names:
        kept |= {f"usage/{name.upper()}/{layer}": share for layer, share in usage(bench, name).items()}
    atomic_save(bench.folder.path / PICTURES, lambda file: np.savez(file, allow_pickle=False, **kept))


def _pictures(folder: Path, kind: str) -> dict[str, NDArray[Any]]:
    file = folder / PICTURES
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as arrays:
        return {name.partition("/")[2]: arrays[name] for name in arrays.files if name.startswith(f"{kind}/")}
