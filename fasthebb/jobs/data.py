"""`fasthebb data check`: what is in a data set, and what may spoil a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fasthebb.console import Console
from fasthebb.data.check import COLUMNS, Report, check
from fasthebb.jobs.options import DataOptions
from fasthebb.jobs.outcome import Outcome

MOST = 50  # rows of a table of classes or files


@dataclass(frozen=True, kw_only=True)
class DataCommandOptions(DataOptions):
    """Count, measure and compare the images of a data set.

    Args:
        verb: what to do, check; the option's name may be left out.
    """

    plain_word: ClassVar[str] = "verb"

    verb: Literal["check"]


def run(options: DataCommandOptions, console: Console) -> Outcome:
    """Print what the data set holds; it is not sound if class folders differ or too many files are unreadable."""
    report = check(
        options.data,
        data_dir=options.data_dir,
        labels_file=options.labels_file,
        unlabeled=options.unlabeled,
        download=options.download,
        console=console,
    )
    console.table(report.data, COLUMNS, report.rows())
    _classes(report, console)
    _unreadable(report, console)
    for warning in report.warnings():
        console.warn(warning)
    return Outcome(report.plain(), _error(report, options.max_bad))


def _classes(report: Report, console: Console) -> None:
    """How many images of each class are in each part."""
    parts = [part for part in report.parts if part.per_class]
    names = sorted({name for part in parts for name in part.per_class})
    rows = [(name, *(part.per_class.get(name, 0) for part in parts)) for name in names[:MOST]]
    if rows:
        console.table(_title("images of each class", len(names)), ("class", *(part.name for part in parts)), rows)


def _unreadable(report: Report, console: Console) -> None:
    rows = [(part.name, file) for part in report.parts for file in part.unreadable]
    if rows:
        console.table(_title("unreadable files", len(rows)), ("part", "file"), rows[:MOST])


def _title(what: str, count: int) -> str:
    return what if count <= MOST else f"{what}, {MOST} of {count}: --json has all"


def _error(report: Report, max_bad: float) -> str:
    if report.differences:
        return f"{report.data}: {report.differences[0]}: make them agree"
    bad, files = sum(len(part.unreadable) for part in report.parts), sum(part.images for part in report.parts)
    if bad > max_bad * files:
        return f"{report.data}: {bad} of {files} images cannot be read: mend or remove them, or allow more by --max-bad"
    return ""
