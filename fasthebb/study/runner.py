"""`fasthebb study`: methods × budgets × seeds, cell by cell, then tables and a report."""

from __future__ import annotations

import shlex
from pathlib import Path

import torch

from fasthebb.console import Console
from fasthebb.environment import hardware
from fasthebb.evaluation.results import Record, Summary, load, save, summarise
from fasthebb.jobs.setup import load_as_given, statistics
from fasthebb.options import plain
from fasthebb.study.bench import Bench, base_net
from fasthebb.study.cells import METHODS, hebbian
from fasthebb.study.kept import PICTURES, keep_pictures, pictures, strips
from fasthebb.study.options import StudyOptions, title_of
from fasthebb.study.report import write_report
from fasthebb.study.verdict import headline, shown
from fasthebb.training.loop import device_of
from fasthebb.training.run import RunFolder, read_config, read_metrics


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
    dataset = load_as_given(options, folder.console)
    folder.check_data(dataset.name, dataset.fingerprint)
    spread = statistics(dataset)
    nets = {seed: base_net(options, dataset, spread, seed) for seed in options.seeds}
    benches = [Bench(options, dataset, folder, device, net, seed) for seed, net in nets.items()]
    for bench in benches:
        _ = bench.budgets  # one that does not fit fails before anything is trained
    folder.write_config()
    records: list[Record] = []
    for bench in benches:
        for method in options.methods:
            records += METHODS.get(method, hebbian)(bench, method)
            save(folder.path, records, hardware())
    first = [r for r in records if r.seed == options.seeds[0]]
    keep_pictures(benches[0], first)


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
    cells = {title_of(name): folder / "cells" / f"pretrain-{name}-s{first_seed}" for name in config["methods"]}
    curves = {title: list(read_metrics(cell)) for title, cell in cells.items()}
    command = ["fasthebb", "study", "--config", str(folder / "config.yaml"), "--out", f"{folder}-again"]
    return write_report(
        folder,
        records,
        title=f"{records[0].dataset}: few labels",
        filters=pictures(folder, "filters"),
        curves={title: rows for title, rows in curves.items() if len(rows) > 1},
        usage=pictures(folder, "usage"),
        units=pictures(folder, "units"),
        confusion=pictures(folder, "confusion"),
        classes=[str(name) for name in pictures(folder, "classes").get("", [])],
        strips=strips(folder),
        environment={**environment, "model": config["model"], "width": config["width"], "seeds": config["seeds"]},
        commands=[shlex.join(command)],
    )
