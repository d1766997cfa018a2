"""MNIST and Fashion-MNIST are read from idx files wherever they are put, and never taken for each other."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from fasthebb.data import idx
from fasthebb.data.idx import find_idx, read_idx

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 4), np.uint8)
LABELS = (np.arange(12) % 10).astype(np.uint8)
DEBIAN = Path("/usr/share/datasets")


def pack(values: np.ndarray, kind: int = 8) -> bytes:
    header = struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *values.shape)
    return header + values.tobytes()


def write_set(folder: Path, *, zipped: bool = False, labels: np.ndarray = LABELS) -> Path:
    """Twelve training images and their first five as test images."""
    folder.mkdir(parents=True)
    for part, count in (("train", 12), ("t10k", 5)):
        for kind, values in (("images-idx3", IMAGES[:count]), ("labels-idx1", labels[:count])):
            content = pack(values)
            name = f"{part}-{kind}-ubyte"
            (folder / f"{name}.gz").write_bytes(gzip.compress(content)) if zipped else (folder / name).write_bytes(
                content
            )
    return folder


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mnist", "MNIST/raw"), ("mnist", "mnist"),
        ("fashion-mnist", "FashionMNIST/raw"), ("fashion-mnist", "fashion-mnist"),
    ],
)  # fmt: skip
def test_a_set_is_read_value_by_value_from_every_place(tmp_path: Path, name: str, place: str, zipped: bool) -> None:
    folder = write_set(tmp_path / place, zipped=zipped)
    for root in (tmp_path, folder):
        found = find_idx(name, root)
        assert found is not None
        assert len(found.classes) == 10
        for part, count in (("train", 12), ("test", 5)):
            images, labels = found.parts[part]
            assert images.shape == (count, 1, 5, 4)
            assert images.dtype == np.uint8
            assert labels.dtype == np.int64
            assert [images[m, 0, y, x] for m in range(count) for y in range(5) for x in range(4)] == list(
                IMAGES[:count].ravel()
            )
            assert labels.tolist() == [m % 10 for m in range(count)]


def test_a_set_is_not_found_in_the_folder_of_the_other_or_in_one_without_a_name(tmp_path: Path) -> None:
    write_set(tmp_path / "fashion-mnist")
    assert find_idx("mnist", tmp_path) is None
    assert find_idx("mnist", tmp_path / "fashion-mnist") is None
    nameless = write_set(tmp_path / "stuff")
    assert find_idx("mnist", nameless) is None
    assert find_idx("fashion-mnist", nameless) is None


def test_labels_tell_which_set_a_folder_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official = hashlib.md5(pack(LABELS)).hexdigest()
    monkeypatch.setitem(idx.SET_OF, official, "fashion-mnist")
    nameless = write_set(tmp_path / "stuff", zipped=True)
    assert find_idx("mnist", nameless) is None
    assert find_idx("fashion-mnist", nameless) is not None
    nameless.rename(tmp_path / "mnist")
    with pytest.raises(ValueError, match=r"mnist holds the files of fashion-mnist, not of mnist"):
        find_idx("mnist", tmp_path)


def test_a_set_counts_only_when_all_four_files_are_there(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "mnist")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    assert find_idx("mnist", tmp_path) is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an idx file"),
        (pack(IMAGES)[:10], "not an idx file"),
        (pack(IMAGES, kind=9), "not an idx file"),
        (pack(LABELS), "not an idx file"),
        (pack(IMAGES)[:-1], "239 values, its header says 240"),
        (pack(IMAGES) + b"\0", "241 values, its header says 240"),
    ],
)
def test_a_file_that_is_not_what_its_header_says_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "flipped", "no gzip"])
def test_a_damaged_gzip_file_is_named(tmp_path: Path, damage: str) -> None:
    content = bytearray(gzip.compress(pack(IMAGES)))
    content[-6] ^= damage == "flipped"  # in the checksum at its end
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes({"cut": content[: len(content) // 2], "flipped": content, "no gzip": b"<html>"}[damage])
    with pytest.raises(ValueError, match="is truncated or damaged") as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_images_and_labels_must_fit_each_other(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "mnist")
    labels = folder / "t10k-labels-idx1-ubyte"
    for wrong, says in ((LABELS[:4], "5 images, but 4 labels"), (LABELS[:5] + 7, "a label is 11")):
        labels.write_bytes(pack(wrong))
        with pytest.raises(ValueError, match=says):
            find_idx("mnist", tmp_path)
    labels.write_bytes(pack(LABELS[:5]))
    (folder / "t10k-images-idx3-ubyte").write_bytes(pack(IMAGES[:5].swapaxes(1, 2)))
    with pytest.raises(ValueError, match="differ in size"):
        find_idx("mnist", tmp_path)


@pytest.mark.skipif(not (DEBIAN / "fashion-mnist").is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist_is_the_official_set() -> None:
    for root in (DEBIAN, DEBIAN / "fashion-mnist"):
        found = find_idx("fashion-mnist", root)
        assert found is not None
        assert found.parts["train"][0].shape == (60000, 1, 28, 28)
        assert np.bincount(found.parts["test"][1]).tolist() == [1000] * 10
    assert idx._set_of(DEBIAN / "fashion-mnist" / "train-labels-idx1-ubyte.gz") == "fashion-mnist"
    assert find_idx("mnist", DEBIAN / "fashion-mnist") is None
