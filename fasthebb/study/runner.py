"""`fasthebb study`: methods × budgets × seeds, cell by cell, then tables and a report."""

from __future__ import annotations

import shlex
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

from fasthebb.console import Console, launched
from fasthebb.distributed import world_size
from fasthebb.environment import hardware
from fasthebb.evaluation.results import Record, Summary, count, load, load_tuning, save, summarise
from fasthebb.jobs.setup import load_as_given, statistics
from fasthebb.options import plain
from fasthebb.study.bench import Bench, nets_of
from fasthebb.study.cells import METHODS, hebbian
from fasthebb.study.choose import decided
from fasthebb.study.claims import together
from fasthebb.study.effects import effects
from fasthebb.study.ensembles import ensembles
from fasthebb.study.growth import GROWING, grown
from fasthebb.study.kept import PICTURES, keep_pictures, pictures, strips
from fasthebb.study.options import StudyOptions, differences, title_of
from fasthebb.study.reasons import minutes_of
from fasthebb.study.report import TESTS, write_report
from fasthebb.study.short import cut_short
from fasthebb.study.tuning import choices, tuned_budgets
from fasthebb.study.verdict import headline, shown
from fasthebb.training.loop import device_of
from fasthebb.training.run import RunFolder, read_config, read_metrics


def run(options: StudyOptions, console: Console) -> Path:
    """Run or resume a study; returns its report. Processes that torchrun started share its cells.

    Raises:
        ValueError: an option does not fit the data or the folder.
        Interrupted: a signal came; the study resumes with the cells that are left.
    """
    rank, ranks = launched()
    if world_size() > 1:
        raise ValueError(
            f"A process group of {world_size()} ranks: the processes of a study share none; run it outside"
        )
    if ranks > 1 and options.minutes is not None:
        raise ValueError(f"--minutes {options.minutes} plans for one process: start it without torchrun")
    device = device_of(options.device, shared=True)
    options, reasons = decided(options, console)
    defaults, minutes = plain(StudyOptions()), minutes_of(options.out)
    with RunFolder(
        options.out, plain(options), defaults=defaults, grown=grown, resume=options.resume, console=console,
        leads=rank == 0, begun_by=f"--minutes {minutes}" if minutes else "",
    ) as folder:  # fmt: skip
        for reason in reasons:
            folder.log(reason)
        report = folder.path / "report.html"
        done = (folder.path / PICTURES).exists() and _is_of(folder)
        if done:
            console.say(f"{folder.path} is finished already")
        else:
            _measure(options, folder, device, spread=ranks > 1)
        if rank:
            return report
        records, _ = load(folder.path)
        if not done or not report.exists():
            rebuild(folder.path)
            said = headline(records, shown(summarise(records))), cut_short(folder.options, records)
            console.say(" ".join(said).rstrip())
            folder.log(f"report: {report}")
    show(records, console)
    return report


def _is_of(folder: RunFolder) -> bool:
    # Whether the folder's study has the methods, ensembles and seeds of now.
    before = {**plain(StudyOptions()), **read_config(folder.path)}
    return all(before[name] == folder.options[name] for name in GROWING)


def _measure(options: StudyOptions, folder: RunFolder, device: torch.device, *, spread: bool) -> None:
    dataset = load_as_given(options, folder.console)
    if options.classes is not None:
        dataset = dataset.of_classes(options.classes)
    folder.check_data(dataset.name, dataset.fingerprint)
    nets = nets_of(options, dataset, statistics(dataset))
    benches = {
        seed: [
            Bench(options.method(name), dataset, folder, device, replace(net, seed=seed), seed)
            for name, net in nets.items()
        ]
        for seed in options.seeds
    }
    for bench in chain.from_iterable(benches.values()):
        _ = bench.budgets, bench.images, tuned_budgets(bench)  # what does not fit fails before anything is trained
    if folder.leads:
        (folder.path / PICTURES).unlink(missing_ok=True)  # of a study that something is added to
        folder.write_config()
    if spread:
        folder.begun = True  # by whichever process
        together(list(chain.from_iterable(benches.values())))
    if not folder.leads:
        return
    records: list[Record] = []
    where = {**hardware(), TESTS: len(dataset.test)}
    for methods in benches.values():
        for bench in (bench for bench in methods if bench.budgets):
            records += METHODS.get(bench.method.base, hebbian)(bench)
            save(folder.path, records, where, choices(folder.path, options.seeds[0]))
        records += ensembles(methods, records)
    save(folder.path, records, where, choices(folder.path, options.seeds[0]))
    first = [r for r in records if r.seed == options.seeds[0]]
    keep_pictures(benches[options.seeds[0]], first)


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
    return ["top-1 %", *(f"{count(labels)} labels" for labels in budgets)], table


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
    own = config.get("own", {})  # older studies have none
    cells = {title_of(name, own): folder / "cells" / f"pretrain-{name}-s{first_seed}" for name in config["methods"]}
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
        tuning=load_tuning(folder),
        differences=differences(config),
        effects=effects(config, records),
        short=cut_short(config, records),
        environment={**environment, "model": config["model"], "width": config["width"], "seeds": config["seeds"]},
        commands=[shlex.join(command)],
    )
