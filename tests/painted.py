"""Folders of small images whose colour says which they are."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def paint(path: Path, colour: int = 0, side: int = 4) -> Path:
    """A grey PNG or other file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (colour, colour, colour)).save(path)
    return path


def fill(root: Path, classes: str, count: int, first: int = 0) -> Path:
    """`count` images in a folder for each letter, numbered and coloured from `first` on."""
    for name in classes:
        for number in range(first, first + count):
            paint(root / name / f"{number:03}.png", number)
    return root
