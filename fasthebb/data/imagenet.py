"""ImageNet (ILSVRC 2012) and its subset Imagenette, as folders of one class each, named by WordNet numbers (wnids)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from fasthebb.data.decode import SUFFIXES
from fasthebb.data.imagenet_archives import TRAIN, list_archives
from fasthebb.data.listing import Item, Listing

WNID = re.compile(r"n\d{8}")
IMAGENETTE = ("imagenette2", "imagenette2-320", "imagenette2-160")  # the largest first
READABLE = {  # torchvision.datasets.Imagenette
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


def find_imagenet(name: str, folder: Path) -> Listing | None:
    """List ImageNet in `folder/imagenet`, `folder/ILSVRC2012` or `folder`; None if it is not there.

    Folders train/WNID/ and val/WNID/ come before the official archives, which are read in place. Class names are the
    sorted wnids; the validation images are the test part.

    Raises ValueError for folders that do not agree and archives that are missing or damaged.
    """
    for root in (folder / "imagenet", folder / "ILSVRC2012", folder):
        if _is_extracted(root):
            return _list_folders(name, root)
        if (root / TRAIN).is_file():
            return list_archives(name, root)
    return None


def find_imagenette(name: str, folder: Path) -> Listing | None:
    """List Imagenette in `folder/imagenette2`, its -320 or -160, or `folder` if it bears one of these names; or None.

    Class names are readable ones, in the order of the wnids; the validation images are the test part.

    Raises ValueError for folders that do not agree or are not Imagenette's.
    """
    roots = [folder / size for size in IMAGENETTE] + [folder] * (folder.resolve().name in IMAGENETTE)
    root = next((root for root in roots if (root / "train").is_dir()), None)
    if root is None:
        return None
    listing = _list_folders(name, root)
    if strangers := [wnid for wnid in listing.classes if wnid not in READABLE]:
        raise ValueError(f"{name}: {root} has classes that are not in the set, first {strangers[0]}: remove them")
    return listing._replace(classes=tuple(READABLE[wnid] for wnid in listing.classes))


def wnid_folders(folder: Path) -> list[str]:
    """The sorted names of the sub-folders that are wnids; none where there is no folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if WNID.fullmatch(entry.name) and entry.is_dir())


def list_class(root: Path, below: str, label: int) -> list[Item]:
    """The image files in `root/below`, sorted; their names are below `root`.

    Raises ValueError if there are none.
    """
    with os.scandir(root / below) as entries:
        names = sorted(entry.name for entry in entries if is_image(entry.name))
    if not names:
        raise ValueError(f"{root / below} holds no images: extract the set again")
    return [Item(f"{below}/{name}", label, f"{root}/{below}/{name}") for name in names]


def is_image(name: str) -> bool:
    """Whether a file is an image by its name, and not hidden."""
    return not name.startswith(".") and ("." + name.rpartition(".")[2]).lower() in SUFFIXES


def check_same(name: str, first: str, one: Iterable[str], second: str, other: Iterable[str]) -> None:
    """Raise ValueError, naming a few, if not all classes are in both."""
    if apart := sorted(set(one) ^ set(other)):
        names = ", ".join(apart[:3]) + (f" and {len(apart) - 3} more" if len(apart) > 3 else "")
        raise ValueError(f"{name}: only one of {first} and {second} has the classes {names}: extract the set again")


def _is_extracted(root: Path) -> bool:
    """Whether these are folders of ImageNet, and not those of Tiny ImageNet or Imagenette."""
    others = root.resolve().name in IMAGENETTE or (root / "val" / "val_annotations.txt").exists()
    return not others and bool(wnid_folders(root / "train")) and (root / "val").is_dir()


def _list_folders(name: str, root: Path) -> Listing:
    train, val = root / "train", root / "val"
    wnids = wnid_folders(train)
    check_same(name, str(train), wnids, str(val), wnid_folders(val))
    return Listing(tuple(wnids), {"train": _list_part(root, "train", wnids), "test": _list_part(root, "val", wnids)})


def _list_part(root: Path, part: str, wnids: Sequence[str]) -> list[Item]:
    return [item for label, wnid in enumerate(wnids) for item in list_class(root, f"{part}/{wnid}", label)]
