"""Data sets known by name, from their official files, where Debian and torchvision put them too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fasthebb.console import Console
from fasthebb.data.batches import find_batches
from fasthebb.data.download import obtain
from fasthebb.data.idx import find_idx
from fasthebb.data.imagenet import find_imagenet, find_imagenette
from fasthebb.data.listing import Arrays, Listing
from fasthebb.data.official import OFFICIAL
from fasthebb.data.stl10 import find_stl10
from fasthebb.data.tiny_imagenet import find_tiny_imagenet


class _Reader(NamedTuple):
    """find: what a folder holds of a set, None if nothing; wants: the files, for a user who has none of them."""

    find: Callable[[str, Path], Listing | Arrays | None]
    wants: str


_IDX = "train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] and the same of t10k"
_READERS = {
    "mnist": _Reader(find_idx, f"MNIST/raw/ or mnist/ with {_IDX}"),
    "fashion-mnist": _Reader(find_idx, f"FashionMNIST/raw/ or fashion-mnist/ with {_IDX}"),
    "cifar10": _Reader(find_batches, "cifar-10-batches-py/, cifar-10-python.tar.gz, or train/ and test/ of 10 classes"),
    "cifar100": _Reader(find_batches, "cifar-100-python/, cifar-100-python.tar.gz, or train/ and test/ of 100 classes"),
    "stl10": _Reader(find_stl10, "stl10_binary/ with train_X.bin and the other files of the official archive"),
    "tiny-imagenet": _Reader(find_tiny_imagenet, "tiny-imagenet-200/ with train/ and val/val_annotations.txt"),
    "imagenet": _Reader(
        find_imagenet,
        "train/WNID/ and val/WNID/, or ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and "
        "ILSVRC2012_devkit_t12.tar.gz",
    ),
    "imagenette": _Reader(find_imagenette, "imagenette2/, imagenette2-320/ or imagenette2-160/ with train/ and val/"),
}
NAMES = ("mnist", "fashion-mnist", "cifar10", "cifar100", "stl10", "tiny-imagenet", "imagenet", "imagenette")
GREY = frozenset({"mnist", "fashion-mnist"})


def find(name: str, folders: Sequence[Path], *, download: bool, console: Console) -> Listing | Arrays:
    """The files or pixels of a named set from the first of `folders` that has it, each as its module says.

    With `download`, a set that none has is downloaded into the first.

    Raises ValueError for a name that is not in `NAMES`, a set that is not there, and one that is damaged.
    """
    if name not in NAMES:
        raise ValueError(f"data set {name!r} is unknown: there is {', '.join(NAMES)}")
    try:
        found = _search(name, folders)
        if found is None and download:
            obtain(name, folders[0], console)
            found = _search(name, folders[:1])
    except OSError as error:
        raise ValueError(f"{name}: {error.filename} cannot be read ({error.strerror}): check it") from None
    if found is None:
        raise ValueError(_missing(name, folders))
    return found


def _search(name: str, folders: Sequence[Path]) -> Listing | Arrays | None:
    for folder in folders:
        if (found := _READERS[name].find(name, folder)) is not None:
            return found
    return None


def _missing(name: str, folders: Sequence[Path]) -> str:
    """What to do about a set that is nowhere, or still packed."""
    for folder in folders:
        for file in OFFICIAL.get(name, ()):
            archive = folder / file.place
            if file.top and archive.is_file():
                return f"{name}: {archive} is still packed: unpack it there, or give --download, which does"
    ways = ["give --download"] if name in OFFICIAL else ["download it from image-net.org, which needs an account"]
    ways += ["name its folder with --data-dir"]
    ways += ["install Debian's dataset-fashion-mnist"] * (name == "fashion-mnist")
    looked = " or ".join(map(str, folders))
    return f"{name} is not in {looked}: it wants {_READERS[name].wants}; {', '.join(ways[:-1])}, or {ways[-1]}"
