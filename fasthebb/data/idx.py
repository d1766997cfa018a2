"""MNIST and Fashion-MNIST: four idx files, gzipped or not, that bear the same names in both sets.

The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a big-endian 32-bit
number, then the values (Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database").
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fasthebb.data.archives import DAMAGED, damaged
from fasthebb.data.listing import Arrays

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # fmt: skip
PLACES = {"mnist": ("MNIST/raw", "mnist"), "fashion-mnist": ("FashionMNIST/raw", "fashion-mnist")}
FOLDERS = {"mnist": {"mnist"}, "fashion-mnist": {"fashion-mnist", "fashionmnist"}}  # names in lower case
SET_OF = {  # md5 of the unpacked training labels
    "a25bea736e30d166cdddb491f175f624": "mnist",
    "9018921c3c673c538a1fc5bad174d6f9": "fashion-mnist",
}
_BYTES = 8  # the type


def find_idx(name: str, folder: Path) -> Arrays | None:
    """Read `mnist` or `fashion-mnist` from below `folder`, or from `folder` itself; None if it is not there.

    `folder` itself counts if it, or the folder of its `raw`, is named for the set, or if its labels are the set's.

    Raises ValueError for files that are damaged, do not fit each other, or are those of the other set.
    """
    for place in PLACES[name]:
        if _paths(folder / place):
            return _read_set(name, folder / place)
    if not (paths := _paths(folder)):
        return None
    named = FOLDERS[name].intersection(part.lower() for part in folder.resolve().parts[-2:])
    return _read_set(name, folder) if named or _set_of(paths[TRAIN[1]]) == name else None


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The values of an idx file, uint8 of that many dimensions; unpacked if its name ends in .gz.

    Raises ValueError if it is not such a file, or shorter or longer than its dimensions say.
    """
    content = _content(path)
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes((0, 0, _BYTES, dimensions)):
        raise damaged(path, f"not an idx file of {dimensions}-dimensional bytes")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    if len(content) - start != math.prod(shape):
        raise damaged(path, f"{len(content) - start} values, its header says {math.prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _read_set(name: str, folder: Path) -> Arrays:
    paths = _paths(folder)
    other = _set_of(paths[TRAIN[1]])
    if other not in (name, None):
        raise ValueError(f"{folder} holds the files of {other}, not of {name}: move them to a folder named for it")
    parts = {part: _read_part(*(paths[file] for file in files)) for part, files in (("train", TRAIN), ("test", TEST))}
    sizes = {images.shape[1:] for images, _ in parts.values()}
    if len(sizes) > 1:
        raise ValueError(f"{folder}: training and test images differ in size: replace its files by the official ones")
    return Arrays(CLASSES[name], parts)


def _read_part(images_path: Path, labels_path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images [M, 1, H, W] and labels [M]."""
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise damaged(images_path, f"{len(images)} images, but {len(labels)} labels in {labels_path.name}")
    if images.size == 0:
        raise damaged(images_path, "no images")
    if labels.max() > 9:
        raise damaged(labels_path, f"a label is {labels.max()}, the last class is 9")
    return images[:, None], labels.astype(np.int64)


def _paths(folder: Path) -> dict[str, Path]:
    """The four files by their plain names, or nothing unless all are there."""
    found: dict[str, Path] = {}
    for name in (*TRAIN, *TEST):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                found.setdefault(name, path)
    return found if len(found) == 4 else {}


def _set_of(labels: Path) -> str | None:
    """The set whose official training labels these are."""
    return SET_OF.get(hashlib.md5(_content(labels), usedforsecurity=False).hexdigest())


def _content(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except DAMAGED as error:
        raise damaged(path, error) from None
