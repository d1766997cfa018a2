"""What the processes of a study hold while they are at it: a method and a seed, by a lock that ends with them."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fasthebb.study.bench import Bench


class AbandonedError(Exception):
    """What a cell waits for is made by nobody: it has to be left, and begun again later."""


def place(bench: Bench, *, seed: int | None = None, name: str | None = None) -> Path:
    """Where the cells of a bench's method and seed, or of others, are held: a path that begins all of their marks."""
    wanted = bench.seed if seed is None else seed
    return bench.folder.path / "cells" / f".{name or bench.method.name}-s{wanted}"


@contextlib.contextmanager
def held(of: Path) -> Iterator[bool]:
    """Hold a place while the block runs, and say whether it was free."""
    with _opened(of) as file:
        yield _locked(file, fcntl.LOCK_EX)


def taken(of: Path) -> bool:
    """Whether somebody holds a place; those who ask do not see each other."""
    with _opened(of) as file:
        return not _locked(file, fcntl.LOCK_SH)


def _opened(of: Path) -> BinaryIO:
    of.parent.mkdir(parents=True, exist_ok=True)
    return of.with_name(f"{of.name}.taken").open("ab")


def _locked(file: BinaryIO, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
