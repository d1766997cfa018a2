"""STL-10: binary files of 96x96 images, each stored as its red, green and blue plane, column by column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fasthebb.data.archives import damaged
from fasthebb.data.listing import UNLABELLED, Arrays

FOLDER = "stl10_binary"
FILES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin", "class_names.txt")
SIDE = 96  # pixels
IMAGE = 3 * SIDE * SIDE  # bytes


def find_stl10(_: str, folder: Path) -> Arrays | None:
    """Read STL-10 from `folder/stl10_binary` or `folder`; None if it is not there.

    The test images stay in their file, memory-mapped. The 100 000 unlabelled images follow the 5 000 labelled ones in
    the train part, label -1: one array, for which all are copied once, 2.9 GB.

    Raises ValueError for files that are missing, of a wrong size, or with labels out of range.
    """
    root = next((path for path in (folder / FOLDER, folder) if (path / FILES[0]).is_file()), None)
    if root is None:
        return None
    if missing := [name for name in FILES if not (root / name).is_file()]:
        raise ValueError(f"{root} has no {', '.join(missing)}: extract the whole official archive {FOLDER}.tar.gz")
    classes = tuple((root / "class_names.txt").read_text(encoding="utf-8").split())
    train, labels = _read_part(root, "train", len(classes))
    loose = _images(root / "unlabeled_X.bin")
    parts = {
        "train": (np.concatenate((train, loose)), np.concatenate((labels, np.full(len(loose), UNLABELLED)))),
        "test": _read_part(root, "test", len(classes)),
    }
    return Arrays(classes, parts)


def _read_part(root: Path, part: str, classes: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images [M, 3, 96, 96] and labels [M]; the file counts classes from 1."""
    images, path = _images(root / f"{part}_X.bin"), root / f"{part}_y.bin"
    labels = np.fromfile(path, np.uint8).astype(np.int64) - 1
    if len(labels) != len(images):
        raise damaged(path, f"{len(labels)} labels for {len(images)} images")
    if labels.min() < 0 or labels.max() >= classes:
        raise damaged(path, f"labels {labels.min() + 1} to {labels.max() + 1} of {classes} classes")
    return images, labels


def _images(path: Path) -> npt.NDArray[np.uint8]:
    """The images of a file, [M, 3, H, W], a view of the memory-mapped file."""
    count, rest = divmod(path.stat().st_size, IMAGE)
    if rest or not count:
        raise damaged(path, f"{path.stat().st_size} bytes are not a whole number of images")
    stored = np.memmap(path, np.uint8, "c", shape=(count, 3, SIDE, SIDE))  # its last two axes are W, H
    return stored.swapaxes(2, 3)
