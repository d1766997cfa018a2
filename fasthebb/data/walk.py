"""What lies in a folder: image files of the kinds that are read, sub-folders, and what is passed over.

Folders are read by `os.scandir`, a few hundred bytes a file, so that 100 000 files in one folder take a second.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fasthebb.data.decode import SUFFIXES
from fasthebb.data.listing import UNLABELLED, Item

NOWHERE = "link that leads nowhere"
OTHERS = frozenset(  # kinds of image files that are not read
    ("arw", "avif", "cr2", "dng", "heic", "heif", "j2k", "jfif", "jp2", "jpe", "jxl", "nef", "pbm", "pgm", "pnm", "psd",
     "raw", "tga")
)  # fmt: skip
Left = dict[str, str]  # paths that were passed over: NOWHERE, or the kind of an image file that is not read


def sub_folders(folder: Path) -> list[Path]:
    """The folders in a folder, and links to folders, without hidden ones, sorted."""
    return sorted(sub for sub in folder.iterdir() if not sub.name.startswith(".") and sub.is_dir())


def images_below(
    folder: Path, root: Path | None = None, *, deep: bool = True, links: bool = False, left: Left | None = None
) -> list[Item]:
    """The image files in a folder and, if deep, below it, sorted by their names below `root`, `folder` by default.

    Symbolic links to files are followed, those to folders only in `folder` itself and with `links`, unless they lead
    to it or above it. What is passed over is noted in `left`.
    """
    return sorted(_walk(folder, root, deep=deep, links=links, left=left))


def holds_images(folder: Path) -> bool:
    """Whether there is an image file in a folder or below it, as far as it can be read."""
    try:
        return any(True for _ in _walk(folder, None, deep=True, links=False, left=None))
    except OSError:
        return False


def printable(name: str) -> str:
    """A file name as text that can be written as UTF-8, bytes that are none as `\\udcff`."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


def kinds() -> str:
    """The kinds of image files that are read, for people."""
    return ", ".join(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))


def _walk(folder: Path, root: Path | None, *, deep: bool, links: bool, left: Left | None) -> Iterator[Item]:
    suffixes = tuple(SUFFIXES)
    start = "" if root in (None, folder) else f"{printable(folder.relative_to(root).as_posix())}/"
    waiting = [(str(folder), start)]
    while waiting:
        where, prefix = waiting.pop()
        with os.scandir(where) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = prefix + printable(entry.name)
                if entry.is_dir(follow_symlinks=False) or (links and prefix == start and _leads_down(entry, folder)):
                    if deep:
                        waiting.append((entry.path, f"{name}/"))
                elif entry.name.lower().endswith(suffixes) and _is_file(entry):
                    yield Item(name, UNLABELLED, entry.path)
                elif left is not None:
                    _note(left, entry)


def _is_file(entry: os.DirEntry[str]) -> bool:
    return Path(entry.path).is_file() if entry.is_symlink() else entry.is_file()


def _leads_down(entry: os.DirEntry[str], folder: Path) -> bool:
    """Whether it is a link to a folder that is neither `folder` nor above it."""
    return (
        entry.is_symlink()
        and Path(entry.path).is_dir()
        and not folder.resolve().is_relative_to(Path(entry.path).resolve())
    )


def _note(left: Left, entry: os.DirEntry[str]) -> None:
    kind = entry.name.rpartition(".")[2].lower()
    if entry.is_symlink() and not Path(entry.path).exists():
        left[entry.path] = NOWHERE
    elif kind in OTHERS:
        left[entry.path] = kind
