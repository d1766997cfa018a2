"""A table as Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The lines of a table, without a newline at its end; cells are text: bars, & and < are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(text(cell).replace('|', chr(92) + '|') for cell in cells)} |" for cells in lines)


def text(words: str) -> str:
    """Words that hold no HTML, whatever is in them; Markdown they may be."""
    return words.replace("&", "&amp;").replace("<", "&lt;")
