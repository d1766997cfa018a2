"""STL-10's columns become rows, its labels start at 0, and its unlabelled images follow the training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fasthebb.data.stl10 import find_stl10

NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
COUNTS = {"train": 6, "test": 3, "unlabeled": 4}


def write_set(folder: Path) -> dict[str, np.ndarray]:
    """Write the set as its authors did: channel, column, row. Returns the images of each file, [M, 3, H, W]."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    images = {}
    for part, count in COUNTS.items():
        images[part] = random.integers(0, 256, (count, 3, 96, 96), np.uint8)
        stored = bytes(
            images[part][m, c, y, x] for m in range(count) for c in range(3) for x in range(96) for y in range(96)
        )
        (folder / f"{part}_X.bin").write_bytes(stored)
    (folder / "train_y.bin").write_bytes(bytes([1, 10, 3, 1, 2, 9]))
    (folder / "test_y.bin").write_bytes(bytes([10, 1, 5]))
    (folder / "class_names.txt").write_text("\n".join(NAMES) + "\n")
    return images


def test_every_pixel_and_label_is_where_it_belongs(tmp_path: Path) -> None:
    assert find_stl10("stl10", tmp_path) is None
    written = write_set(tmp_path / "stl10_binary")
    for root in (tmp_path, tmp_path / "stl10_binary"):
        found = find_stl10("stl10", root)
        assert found is not None
        assert found.classes == NAMES
        images, labels = found.parts["train"]
        assert np.array_equal(images, np.concatenate((written["train"], written["unlabeled"])))
        assert labels.tolist() == [0, 9, 2, 0, 1, 8, -1, -1, -1, -1]
        assert labels.dtype == np.int64
        images, labels = found.parts["test"]
        assert np.array_equal(images, written["test"])
        assert labels.tolist() == [9, 0, 4]


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "stl10_binary"
    write_set(folder)
    for name, content, says in (
        ("unlabeled_X.bin", b"\0" * 27649, "27649 bytes are not a whole number of images"),
        ("unlabeled_X.bin", b"", "0 bytes are not"),
        ("test_y.bin", bytes([1, 2]), "2 labels for 3 images"),
        ("test_y.bin", bytes([1, 0, 2]), "labels 0 to 2 of 10 classes"),
        ("test_y.bin", bytes([1, 11, 2]), "labels 1 to 11 of 10 classes"),
    ):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=says) as caught:
            find_stl10("stl10", tmp_path)
        assert str(folder / name) in str(caught.value)
        (folder / name).write_bytes(before)
    (folder / "test_X.bin").unlink()
    with pytest.raises(ValueError, match=r"has no test_X\.bin: extract"):
        find_stl10("stl10", tmp_path)
