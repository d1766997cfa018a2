"""Results of a run folder: records made of a net and a measurement, added to what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from fasthebb.environment import hardware
from fasthebb.evaluation.results import Record, load, save
from fasthebb.jobs.net import Net


def record(
    net: Net, method: str, labels: int, images: int, seed: int, depth: int | None, top1: float, top5: float | None
) -> Record:
    """A measurement of `net` on test images, of six classes or more also top-5; trained on `labels` of `images`."""
    return Record(
        dataset=net.dataset,
        method=method,
        rule=net.rule,
        labels=labels,
        fraction=labels / images,
        seed=seed,
        depth=depth,
        top1=top1,
        top5=top5 if len(net.classes) > 5 else None,
        pretrain_seconds=net.pretrain_seconds,
        finetune_seconds=None,
        peak_memory_mb=None,
    )


def add(run: Path, records: Sequence[Record]) -> list[Record]:
    """Add records to a run's results.csv and results.json, and return all.

    A measurement that is there already is replaced, but keeps the times and memory that the new one does not know.
    """
    cells = {cell(r): r for r in (load(run)[0] if (run / "results.json").exists() else [])}
    for r in records:
        known = {name: value for name, value in asdict(r).items() if value is not None}
        cells[cell(r)] = replace(cells.get(cell(r), r), **known)
    save(run, list(cells.values()), hardware())
    return list(cells.values())


def cell(record: Record) -> tuple[object, ...]:
    """What makes two records measurements of the same thing."""
    return record.dataset, record.method, record.rule, record.labels, record.seed, record.depth
