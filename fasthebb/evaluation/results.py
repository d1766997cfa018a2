"""Results of a study: one record per trained and tested cell, and the statistics made of them.

A cell is (method, rule, depth, labels, seed). Over the seeds of a cell go means with 95 % t-intervals; between two
methods go differences paired by seed, since one seed fixes the labels that both of them see.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from fasthebb.files import atomic_write

Key = tuple[str, str, int | None]


@dataclass(frozen=True)
class Record:
    """One measured cell of a study.

    `rule` is empty for methods that no Hebbian rule trained; `labels` is a count and `fraction` its share of the whole
    training set; `depth` is the probed layer, None meaning end to end. Accuracies are in percent, times in seconds,
    memory in MB; None means not measured.
    """

    dataset: str
    method: str
    rule: str
    labels: int
    fraction: float
    seed: int
    depth: int | None
    top1: float | None
    top5: float | None
    pretrain_seconds: float | None
    finetune_seconds: float | None
    peak_memory_mb: float | None

    @property
    def seconds(self) -> float | None:
        """Pre-training and fine-tuning together, in seconds; None when neither was timed."""
        known = [s for s in (self.pretrain_seconds, self.finetune_seconds) if s is not None]
        return sum(known) if known else None


FIELDS = tuple(field.name for field in fields(Record))


class Estimate(NamedTuple):
    """A mean and the half width of its 95 % t-interval; NaN where unknown."""

    mean: float
    half_width: float

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "–"
        return f"{self.mean:.1f}" if math.isnan(self.half_width) else f"{self.mean:.1f} ± {self.half_width:.1f}"


@dataclass(frozen=True)
class Summary:
    """What the seeds of one cell say together; `n` counts those with a top-1 accuracy, `name` is for readers."""

    dataset: str
    method: str
    rule: str
    depth: int | None
    labels: int
    fraction: float
    name: str
    n: int
    top1: Estimate
    top5: Estimate
    seconds: Estimate
    memory: Estimate

    @property
    def key(self) -> Key:
        """(method, rule, depth), as `paired` takes it."""
        return self.method, self.rule, self.depth


@dataclass(frozen=True)
class Difference:
    """Top-1 of one method minus another's at one budget: by seed, in points, with the mean and its half width."""

    labels: int
    by_seed: dict[int, float]
    estimate: Estimate

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero; never where there is none."""
        return self.spread and abs(self.estimate.mean) > self.estimate.half_width

    @property
    def spread(self) -> bool:
        """Whether seeds differ, so that there is an interval; few test images let them agree by chance."""
        return self.estimate.half_width > 0


def save(
    folder: Path, records: Sequence[Record], meta: Mapping[str, Any], tuning: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write `results.csv`, `results.json` and, from `meta`, `environment.json` into the folder.

    The JSON is a list of records; what is None or not finite becomes null there and an empty cell in the CSV. With
    `tuning`, how settings were chosen, it is {"records": that list, "tuning": this one} instead.
    Raises `TypeError` if `meta` does not fit JSON.
    """
    rows = [_finite(asdict(record)) for record in records]
    table = io.StringIO()
    writer = csv.DictWriter(table, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    environment = json.dumps(_finite(dict(meta)), indent=1, ensure_ascii=False)
    content = {"records": rows, "tuning": [_finite(dict(one)) for one in tuning]} if tuning else rows
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "results.csv", table.getvalue())
    atomic_write(folder / "results.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    atomic_write(folder / "environment.json", environment + "\n")


def load(folder: Path) -> tuple[list[Record], dict[str, Any]]:
    """Read back what `save` wrote: the records and the environment (empty if there is none).

    Raises `ValueError`, naming the file, if `results.json` is missing or is no list of records.
    """
    content = _read(folder / "results.json")
    rows = content.get("records") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise ValueError(f"{folder / 'results.json'}: expected a list of records")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != set(FIELDS):
            raise ValueError(f"{folder / 'results.json'}: record {number} needs exactly the fields {', '.join(FIELDS)}")
    environment = _read(folder / "environment.json") if (folder / "environment.json").exists() else {}
    return [Record(**row) for row in rows], environment


def load_tuning(folder: Path) -> list[dict[str, Any]]:
    """How settings were chosen, as `save` was told; empty where none were.

    Raises `ValueError` as `load` does.
    """
    content = _read(folder / "results.json")
    return list(content.get("tuning", ())) if isinstance(content, dict) else []


def interval(values: Iterable[float | None]) -> Estimate:
    """The mean and the half width of its 95 % t-interval, in the values' unit; None and NaN are left out.

    One value has a NaN half width, no value a NaN mean too. Source: Student's t with n − 1 degrees of freedom,
    t · s / √n.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not (n := len(known)):
        return Estimate(math.nan, math.nan)
    if n == 1:
        return Estimate(known[0], math.nan)
    from scipy.special import stdtrit  # type: ignore[import-untyped, unused-ignore]

    mean = math.fsum(known) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (n - 1))
    rounding = deviation <= 1e-12 * max(map(abs, known))
    return Estimate(mean, 0.0 if rounding else float(stdtrit(n - 1, 0.975)) * deviation / math.sqrt(n))


def summarise(records: Sequence[Record]) -> list[Summary]:
    """One row per (data set, method, rule, depth, labels): methods as they first appear, end to end before the depths.

    Budgets ascend within a method and depth.
    """
    methods = list(dict.fromkeys((r.dataset, r.method, r.rule) for r in records))
    rules = {method: {r.rule for r in records if r.method == method} for _, method, _ in methods}
    cells: dict[tuple[int, int, int], list[Record]] = {}
    for record in records:
        place = methods.index((record.dataset, record.method, record.rule))
        cells.setdefault((place, -1 if record.depth is None else record.depth, record.labels), []).append(record)
    return [_summary(cells[key], qualified=len(rules[cells[key][0].method]) > 1) for key in sorted(cells)]


def paired(records: Sequence[Record], a: str | Key, b: str | Key) -> list[Difference]:
    """Top-1 of `a` minus top-1 of `b`, one row per budget, over the seeds that measured both.

    `a`, `b`: a method's name (its end-to-end records), or (method, rule, depth). Budgets without a common seed are left
    out. Raises `ValueError` if one of them has two accuracies for the same budget and seed.
    """
    left, right = _accuracies(records, a), _accuracies(records, b)
    gaps: dict[int, dict[int, float]] = {}
    for labels, seed in sorted(left.keys() & right.keys()):
        gaps.setdefault(labels, {})[seed] = left[labels, seed] - right[labels, seed]
    return [Difference(labels, by_seed, interval(by_seed.values())) for labels, by_seed in gaps.items()]


def count(number: float) -> str:
    """A number as people write it: 0.5, 1149, 60 000 (with narrow spaces)."""
    return f"{number:,.0f}".replace(",", "\u202f") if number >= 10_000 else f"{number:.6g}"


def _accuracies(records: Sequence[Record], which: str | Key) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    for record in records:
        wanted = (which, record.rule, None) if isinstance(which, str) else which
        if (record.method, record.rule, record.depth) != wanted or _finite(record.top1) is None:
            continue
        if (record.labels, record.seed) in found:
            raise ValueError(f"{which!r} has two accuracies at {record.labels} labels, seed {record.seed}")
        found[record.labels, record.seed] = float(record.top1 or 0.0)
    return found


def _summary(cell: Sequence[Record], *, qualified: bool) -> Summary:
    first = cell[0]
    name = f"{first.method} [{first.rule or 'no rule'}]" if qualified else first.method
    if first.depth is not None:
        told = any(kind in name.lower() for kind in ("probe", "knn", "svm", "fine-tuned", "scratch"))
        name += f"{'' if told else ' + probe'} (depth {first.depth})"
    return Summary(
        **{field: getattr(first, field) for field in ("dataset", "method", "rule", "depth", "labels", "fraction")},
        name=name,
        n=sum(_finite(record.top1) is not None for record in cell),
        top1=interval(record.top1 for record in cell),
        top5=interval(record.top5 for record in cell),
        seconds=interval(record.seconds for record in cell),
        memory=interval(record.peak_memory_mb for record in cell),
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; a study writes it as it goes") from None
    except ValueError as problem:
        raise ValueError(f"{path}: not JSON ({problem})") from None
