"""CIFAR batches are read value by value, and nothing that a pickle asks for is run."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasthebb.data import batches
from fasthebb.data.batches import LAYOUTS, find_batches
from fasthebb.data.listing import Arrays, Listing

EACH = 4  # images of a batch


def python2(batch: dict[str, Any]) -> bytes:
    """The batch as Python 2 and its numpy wrote it: strings of bytes, in hand-written opcodes."""
    pixels: np.ndarray = batch["data"]

    def text(value: bytes) -> bytes:
        return b"T" + len(value).to_bytes(4, "little") + value  # BINSTRING

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR"
    kind = (
        b"cnumpy\ndtype\n("
        + text(b"u1")
        + b"K\x00K\x01tR(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    state = (
        b"(K\x01("
        + number(pixels.shape[0])
        + number(pixels.shape[1])
        + b"t"
        + kind
        + b"\x89"
        + text(pixels.tobytes())
        + b"tb"
    )
    content = b"\x80\x02}(" + text(b"data") + array + state
    for key, values in batch.items():
        if key != "data":
            content += text(key.encode()) + b"(" + b"".join(map(number, values)) + b"l"
    return content + b"u."


def python3(batch: dict[str, Any]) -> bytes:
    return pickle.dumps(batch, protocol=2)


def content_of(name: str, write: Any = python3) -> dict[str, bytes]:
    """Every file of a small set: its k-th batch holds EACH images."""
    layout = LAYOUTS[name]
    random = np.random.default_rng(len(name))
    files = {}
    for file in (*layout.train, layout.test):
        pixels = random.integers(0, 256, (EACH, 3072), np.uint8)
        labels = random.integers(0, layout.classes, EACH).tolist()
        files[file] = write({"data": pixels, layout.labels: labels})
    names = [f"class {number}" for number in range(layout.classes)]
    files[layout.meta] = python3({layout.names: names})
    return files


def accept(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in files.items():
        monkeypatch.setitem(batches.MD5, name, hashlib.md5(content).hexdigest())


def write_folder(root: Path, name: str, files: dict[str, bytes]) -> Path:
    folder = root / LAYOUTS[name].folder
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return folder


def write_archive(root: Path, name: str, files: dict[str, bytes]) -> Path:
    folder = write_folder(root / "aside", name, files)
    archive = root / LAYOUTS[name].archive
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    return archive


def check(name: str, found: Arrays | Listing | None, files: dict[str, bytes]) -> None:
    """Every value where the format says: planes of colour, then rows, then columns."""
    layout = LAYOUTS[name]
    assert isinstance(found, Arrays)
    assert found.classes == tuple(f"class {number}" for number in range(layout.classes))
    for part, names in (("train", layout.train), ("test", (layout.test,))):
        images, labels = found.parts[part]
        written = [pickle.loads(files[file], encoding="latin1") for file in names]
        assert images.shape == (EACH * len(names), 3, 32, 32)
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
        assert labels.tolist() == [label for batch in written for label in batch[layout.labels]]
        for m, image in enumerate(images):
            row = written[m // EACH]["data"][m % EACH]
            for channel, y, x in ((0, 0, 0), (0, 0, 31), (1, 5, 7), (2, 31, 0), (2, 30, 31)):
                assert image[channel, y, x] == row[1024 * channel + 32 * y + x]
            assert np.array_equal(image.ravel(), row)


@pytest.mark.parametrize("write", [python2, python3])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_set_is_read_from_its_folder_and_from_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Any
) -> None:
    files = content_of(name, write)
    accept(files, monkeypatch)
    assert find_batches(name, tmp_path) is None
    write_archive(tmp_path, name, files)
    check(name, find_batches(name, tmp_path), files)
    folder = write_folder(tmp_path / "below" / name, name, files)
    check(name, find_batches(name, tmp_path / "below"), files)
    check(name, find_batches(name, folder), files)


def test_values_in_columns_are_put_into_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = content_of("cifar100")
    batch = pickle.loads(files["test"])
    files["test"] = python3(batch | {"data": np.asfortranarray(batch["data"])})
    accept(files, monkeypatch)
    write_folder(tmp_path, "cifar100", files)
    check("cifar100", find_batches("cifar100", tmp_path), files)


@pytest.mark.parametrize("packed", [False, True])
def test_one_flipped_bit_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    files = content_of("cifar10")
    accept(files, monkeypatch)
    flipped = bytearray(files["data_batch_3"])
    flipped[5000] ^= 4
    (write_archive if packed else write_folder)(tmp_path, "cifar10", files | {"data_batch_3": bytes(flipped)})
    with pytest.raises(ValueError, match=r"data_batch_3 is truncated or damaged \(wrong checksum\)"):
        find_batches("cifar10", tmp_path)


def test_a_missing_batch_and_a_cut_archive_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = content_of("cifar10")
    accept(files, monkeypatch)
    archive = write_archive(tmp_path / "a", "cifar10", files)
    archive.write_bytes(archive.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"cifar-10-python.tar.gz is truncated or damaged"):
        find_batches("cifar10", tmp_path / "a")
    files.pop("test_batch")
    write_folder(tmp_path / "b", "cifar10", files)
    with pytest.raises(ValueError, match="without test_batch"):
        find_batches("cifar10", tmp_path / "b")


class Attack:
    """Its pickle runs a command when it is loaded as usual."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, (f"touch {self.mark}",)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    attack = pickle.dumps({"data": Attack(mark), "labels": [0]}, protocol=2)
    pickle.loads(attack)
    assert mark.exists(), "the attack works where nothing stops it"
    mark.unlink()
    files = content_of("cifar10") | {"data_batch_2": attack}
    write_folder(tmp_path, "cifar10", files)
    with pytest.raises(ValueError, match="wrong checksum"):
        find_batches("cifar10", tmp_path)
    accept(files, monkeypatch)
    with pytest.raises(ValueError, match=r"data_batch_2 .* it names posix\.system"):
        find_batches("cifar10", tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("below", ["", "cifar10"])
def test_folders_of_ten_classes_are_a_set_too(tmp_path: Path, below: str) -> None:
    for part, count in (("train", 2), ("test", 1)):
        for name in "abcdefghij":
            folder = tmp_path / below / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (4, 4)).save(folder / f"{number}.png")
    found = find_batches("cifar10", tmp_path)
    assert isinstance(found, Listing)
    assert found.classes == tuple("abcdefghij")
    assert [item.label for item in found.parts["train"]] == [number // 2 for number in range(20)]
    assert [item.label for item in found.parts["test"]] == list(range(10))
    assert find_batches("cifar100", tmp_path) is None, "it has ten classes"
