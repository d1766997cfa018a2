"""Patterns of file names, as of shards: `train-{000000..000146}.tar`, `{train,val}-*.tar`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


def expanded(spec: str, pattern: Path) -> list[Path]:
    """The files that a pattern names, in its order; `*`, `?` and `[…]` in the last part of the path, sorted by name.

    Raises ValueError, beginning with `spec`, if it, or one of those that its braces spell, names no file.
    """
    found: list[Path] = []
    for text in _braced(str(pattern)):
        path = Path(text)
        some = sorted(path.parent.glob(path.name)) if set("*?[") & set(path.name) else [path]
        if not some or not all(place.is_file() for place in some):
            raise ValueError(f"{spec}: there is no {path}: check the path")
        found += some
    return found


def _braced(text: str) -> Iterator[str]:
    """Texts with each {a..b}, numbers of a's width, and each {a,b} spelled out."""
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", text)
    if match is None:
        yield text
        return
    first, last, listed = match.groups()
    words = listed.split(",") if listed else [f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1)]
    for word in words:
        yield from _braced(text[: match.start()] + word + text[match.end() :])
