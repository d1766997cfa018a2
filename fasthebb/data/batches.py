"""CIFAR-10 and CIFAR-100: the official Python batches, read without running what a pickle may ask for.

The batches are pickles of a dict with `data`, uint8 [M, 3072] (red, green, blue plane of 32x32), and a list of labels.
Reading one builds dicts, lists, numbers and the stand-ins below; every other name in it is refused.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fasthebb.data.archives import DAMAGED, damaged
from fasthebb.data.listing import Arrays, Listing

SHAPE = (3, 32, 32)


class Layout(NamedTuple):
    """Names in the official archive, and the keys of labels and class names."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    names: str
    classes: int


LAYOUTS = {
    "cifar10": Layout(
        "cifar-10-batches-py", "cifar-10-python.tar.gz", tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch",
        "batches.meta", "labels", "label_names", 10,
    ),
    "cifar100": Layout(
        "cifar-100-python", "cifar-100-python.tar.gz", ("train",), "test", "meta", "fine_labels", "fine_label_names",
        100,
    ),
}  # fmt: skip
MD5 = {  # torchvision.datasets.CIFAR10 and CIFAR100
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}


def find_batches(name: str, folder: Path) -> Arrays | Listing | None:
    """Read `cifar10` or `cifar100` from `folder` or `folder/NAME`; None if it is not there.

    Batches, extracted or in the official archive, come first; else train/CLASS/ and test/CLASS/ of image files, in
    label order of the sorted names.

    Raises ValueError for batches that are missing, not the official ones by their checksum, or no batches at all.
    """
    layout = LAYOUTS[name]
    for root in (folder, folder / name):
        for source in (root / layout.folder, root / layout.archive):
            if source.exists():
                return _read_set(layout, source)
        if root.resolve().name == layout.folder and (root / layout.test).is_file():
            return _read_set(layout, root)
        if all(_count_folders(root / part) == layout.classes for part in ("train", "test")):
            from fasthebb.data.folders import list_files

            return list_files(name, root)
    return None


def _read_set(layout: Layout, source: Path) -> Arrays:
    batches = {name: _load(path, content) for name, path, content in _contents(layout, source)}
    wanted = (*layout.train, layout.test, layout.meta)
    if missing := [name for name in wanted if name not in batches]:
        raise damaged(source, f"without {', '.join(missing)}")
    files = (("train", layout.train), ("test", (layout.test,)))
    parts = {part: _join(layout, [batches[name] for name in names]) for part, names in files}
    return Arrays(tuple(batches[layout.meta][layout.names]), parts)


def _join(layout: Layout, batches: Sequence[dict[str, Any]]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images [M, 3, 32, 32] and labels [M] of several batches."""
    images = np.concatenate([batch["data"].values.reshape(-1, *SHAPE) for batch in batches])
    return images, np.concatenate([np.asarray(batch[layout.labels], np.int64) for batch in batches])


def _contents(layout: Layout, source: Path) -> Iterator[tuple[str, Path, bytes]]:
    """Name, path and content of the files that are wanted, from a folder or a tar.gz archive."""
    wanted = (*layout.train, layout.test, layout.meta)
    if source.is_dir():
        for name in wanted:
            if (source / name).is_file():
                yield name, source / name, (source / name).read_bytes()
        return
    try:
        with tarfile.open(source) as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                if member.isfile() and folder.removeprefix("./") == layout.folder and name in wanted:
                    yield name, source / name, tar.extractfile(member).read()  # type: ignore[union-attr]
    except DAMAGED as error:
        raise damaged(source, error) from None


def _load(path: Path, content: bytes) -> dict[str, Any]:
    """The dict in a batch that is the official one by its checksum."""
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != MD5[path.name]:
        raise damaged(path, "wrong checksum")
    try:
        batch: dict[str, Any] = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        return batch
    except Exception as error:  # a pickle that is none raises anything
        raise damaged(path, f"no batch: {' '.join(str(error).split())}") from None


def _count_folders(root: Path) -> int:
    return sum(path.is_dir() and not path.name.startswith(".") for path in root.iterdir()) if root.is_dir() else 0


class _Kind:
    """Stands for numpy.dtype, always unsigned bytes here."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands for numpy.ndarray; `values` are the bytes that its pickle holds."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Kind, bool, bytes | str]) -> None:
        _, shape, _, fortran, content = state
        data = content.encode("latin1") if isinstance(content, str) else content
        self.values = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Unpickler(pickle.Unpickler):
    """Knows the four names in a batch, each as a stand-in that only keeps what it is given."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): _Kind,
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return known[module, name]
