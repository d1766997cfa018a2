"""`fasthebb data check`: what is in a data set and may spoil a result; `fasthebb data shard`: the set as shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from fasthebb.console import Console
from fasthebb.data.check import COLUMNS, Report, check
from fasthebb.data.shard_writer import Written, write_shards
from fasthebb.data.sources import find_source
from fasthebb.jobs.options import DataOptions
from fasthebb.jobs.outcome import Outcome

MOST = 50  # rows of a table of classes or files


@dataclass(frozen=True, kw_only=True)
class DataCommandOptions(DataOptions):
    """Count, measure and compare the images of a data set, or write them as shards.

    Args:
        verb: what to do, check or shard; the names of verb, data and out may be left out, in this order.
        out: of shard, the folder to write to.
        images_per_shard: of shard, how many images a tar file holds.
        short_side: of shard, bring larger images to so many pixels at their shorter side, as JPEG; as they are by
            default.
        resume: of shard, go on with the shards in that folder; start anew if there are none.
    """

    by_place: ClassVar[tuple[str, ...]] = ("verb", "data", "out")

    verb: Literal["check", "shard"]
    out: Path | None = None
    images_per_shard: int = 2000
    short_side: int | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.verb == "shard" and self.out is None:
            raise ValueError("data shard needs --out: name a folder for the shards")
        if self.verb == "shard" and self.unlabeled is not None:
            raise ValueError(f"--unlabeled {self.unlabeled}: write shards of one set at a time")

    def idle(self) -> dict[str, str]:
        """Options that nothing reads beside the others, and why."""
        written = ("out", "images_per_shard", "short_side", "resume")
        return dict.fromkeys(written, "with data check, which writes nothing") if self.verb == "check" else {}


def run(options: DataCommandOptions, console: Console) -> Outcome:
    """Do what the verb says."""
    return _check(options, console) if options.verb == "check" else _shard(options, console)


def _shard(options: DataCommandOptions, console: Console) -> Outcome:
    """Write shards; too many unreadable images make it fail, when all others are written."""
    source = find_source(
        options.data, data_dir=options.data_dir, labels_file=options.labels_file, download=options.download,
        console=console,
    )  # fmt: skip
    assert options.out is not None
    written = write_shards(
        source, options.out, images_per_shard=options.images_per_shard, short_side=options.short_side,
        resume=options.resume, console=console,
    )  # fmt: skip
    shards = f"{written.shards} shard{'s' if written.shards != 1 else ''}"
    console.say(
        f"{options.out}: {written.images} images in {shards}, {written.bytes / 2**20:.1f} MiB; "
        f"read them by --data shards:{options.out}"
    )
    return Outcome({"out": options.out, **written._asdict()}, _left_out(options, written, console))


def _left_out(options: DataCommandOptions, written: Written, console: Console) -> str:
    bad = written.unreadable
    if not bad:
        return ""
    found = f"{options.data}: {len(bad)} images cannot be read and were left out, first {bad[0]}"
    if len(bad) > options.max_bad * (written.images + len(bad)):
        return f"{found}: mend them and write all anew, or allow more by --max-bad"
    console.warn(found)
    return ""


def _check(options: DataCommandOptions, console: Console) -> Outcome:
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
    if report.damages:
        return f"{report.data}: {report.damages[0]}: restore it, or write the shards anew"
    if report.differences:
        return f"{report.data}: {report.differences[0]}: make them agree"
    bad, files = sum(len(part.unreadable) for part in report.parts), sum(part.images for part in report.parts)
    if bad > max_bad * files:
        return f"{report.data}: {bad} of {files} images cannot be read: mend or remove them, or allow more by --max-bad"
    return ""
