"""What a person reads while a command runs: results on stdout, progress and warnings on stderr.

On a terminal rich draws bars and tables; into a pipe or a file go plain lines. rich is imported where it draws, so
that a command that draws nothing starts at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from rich.console import RichCast
    from rich.progress import Progress

T = TypeVar("T")

FIRST_LINE = 2.0  # seconds until a piped loop says that it is under way
EVERY = 5.0  # seconds between its lines
GRACE = 3.0  # seconds that the first rank has to say first what failed
_NUMBER = re.compile(
    r"[-+−]?\.?\d|[–-]?$"
)  # what a right-aligned cell starts with; a dash or nothing is a missing number


def launched() -> tuple[int, int]:
    """This process's rank and the number of ranks, as torchrun told it; (0, 1) without torchrun."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


class Console:
    """The voice of a command; `quiet` silences `say` and `progress`, never warnings and tables."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bars: Progress | None = None
        self._open = 0

    def say(self, text: str) -> None:
        """Print one line of news on stdout."""
        if not self.quiet:
            _write_line(sys.stdout, text)

    def warn(self, text: str) -> None:
        """Print one warning on stderr."""
        _write_line(sys.stderr, f"warning: {text}")

    def error(self, text: str) -> None:
        """Print one line that says what failed, on stderr."""
        _write_line(sys.stderr, f"error: {text}")

    @overload
    def progress(self, source: int, description: str, *, total: int | None = None) -> Iterator[int]: ...
    @overload
    def progress(self, source: Iterable[T], description: str, *, total: int | None = None) -> Iterator[T]: ...
    def progress(self, source: int | Iterable[Any], description: str, *, total: int | None = None) -> Iterator[Any]:
        """Go through `source` (a number n means range(n)) and show how far it is, its rate and the time left.

        `total` is the number of items where `source` has no length. On a terminal a bar, gone when the loop ends; loops
        may nest. Piped, a line after two seconds and at most every five from then on, and one at the end.
        """
        items: Iterable[Any] = range(source) if isinstance(source, int) else source
        if self.quiet:
            return iter(items)
        meter = _Meter(len(items) if total is None and isinstance(items, Sized) else total)
        show = self._bar if sys.stderr.isatty() else self._lines
        return show(items, description, meter)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table on stdout; columns of numbers are aligned to the right.

        Raises ValueError for a row that does not have one cell per column.
        """
        cells = [[str(cell) for cell in row] for row in rows]
        for row in cells:
            if len(row) != len(columns):
                raise ValueError(f"{title}: the row {row} has {len(row)} cells, the table {len(columns)} columns")
        numeric = [all(_NUMBER.match(row[i]) for row in cells) for i in range(len(columns))]
        if sys.stdout.isatty():
            self._rich_table(title, columns, cells, numeric)
        else:
            _write_line(sys.stdout, _plain_table(title, columns, cells, numeric))

    def rich(self, renderable: RichCast) -> None:
        """Print something that rich knows how to draw, on stdout."""
        from rich.console import Console as Terminal

        width = None if sys.stdout.isatty() else 140
        Terminal(file=sys.stdout, width=width).print(renderable)

    def _lines(self, items: Iterable[T], description: str, meter: _Meter) -> Iterator[T]:
        due = FIRST_LINE
        meter.start()
        for item in items:
            yield item
            meter.done += 1
            if meter.elapsed() >= due:
                due = meter.elapsed() + EVERY
                _write_line(sys.stderr, f"{description}: {meter.text()}")
        if due > FIRST_LINE:
            _write_line(sys.stderr, f"{description}: {meter.done} done in {_clock(meter.elapsed())}")

    def _bar(self, items: Iterable[T], description: str, meter: _Meter) -> Iterator[T]:
        if self._bars is None:
            self._bars = _start_bars()
        bars = self._bars
        task = bars.add_task(description, total=meter.total, note="")
        self._open += 1
        meter.start()
        try:
            for item in items:
                yield item
                meter.done += 1
                bars.update(task, completed=meter.done, note=meter.text())
        finally:
            bars.remove_task(task)
            self._open -= 1
            if self._open == 0:
                bars.stop()
                self._bars = None

    def _rich_table(self, title: str, columns: Sequence[str], cells: list[list[str]], numeric: list[bool]) -> None:
        from rich.console import Console as Terminal
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title), title_justify="left")
        for name, right in zip(columns, numeric):
            table.add_column(Text(name), justify="right" if right else "left")
        for row in cells:
            table.add_row(*map(Text, row))
        terminal = self._bars.console if self._bars is not None else Terminal(file=sys.stdout)
        terminal.print(table)


class OtherRank(Console):
    """The voice of a rank that is not the first: it says nothing but an error that the first one does not have."""

    def __init__(self, rank: int) -> None:
        super().__init__(quiet=True)
        self._rank = rank

    def warn(self, text: str) -> None:
        """Nothing: the first rank warns."""

    def own_warning(self, text: str) -> None:
        """Warn of what the first rank cannot know."""
        super().warn(f"rank {self._rank}: {text}")

    def error(self, text: str) -> None:
        """Say what failed here alone: where the first rank fails too, this one is ended while it waits."""
        time.sleep(GRACE)
        super().error(f"rank {self._rank}: {text}")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Nothing: the first rank prints."""

    def rich(self, renderable: RichCast) -> None:
        """Nothing: the first rank prints."""


class _Meter:
    """How many items are done, since when, of how many."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.done = 0
        self.start()

    def start(self) -> None:
        self._since = time.monotonic()

    def elapsed(self) -> float:
        return time.monotonic() - self._since

    def text(self) -> str:
        """`120/400, 12.3/s, 0:23 left`, or what of it is known."""
        rate = self.done / max(self.elapsed(), 1e-9)
        speed = f"{rate:.3g}/s" if rate < 1000 else f"{rate:.0f}/s"
        if self.total is None:
            return f"{self.done}, {speed}"
        left = max(self.total - self.done, 0) / rate if rate else 0.0
        return f"{self.done}/{self.total}, {speed}, {_clock(left)} left"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is closest to one mistyped, whatever its case; None if none is close."""
    lower = {other.lower(): other for other in known}
    close = get_close_matches(name.lower(), lower, n=1)
    return lower[close[0]] if close else None


def _start_bars() -> Progress:
    from rich.console import Console as Terminal
    from rich.progress import BarColumn, Progress, TextColumn

    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Terminal(file=sys.stderr),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # a piped stdout keeps its lines
    )
    bars.start()
    return bars


def _plain_table(title: str, columns: Sequence[str], cells: list[list[str]], numeric: list[bool]) -> str:
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        aligned = (cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, numeric))
        return "  ".join(aligned).rstrip()

    return "\n".join([title, line(columns), "  ".join("-" * w for w in widths), *map(line, cells)])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _write_line(stream: Any, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


@contextlib.contextmanager
def no_output() -> Iterator[None]:
    """Let what is printed for people go nowhere, so that stdout holds one document."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        yield
