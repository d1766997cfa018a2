"""Tiny ImageNet in its official layout: train/WNID/images/, and val/images/ with its annotations."""

from __future__ import annotations

from pathlib import Path

from fasthebb.data.imagenet import check_same, list_class, wnid_folders
from fasthebb.data.listing import Item, Listing

FOLDER = "tiny-imagenet-200"
ANNOTATIONS = "val/val_annotations.txt"


def find_tiny_imagenet(name: str, folder: Path) -> Listing | None:
    """List Tiny ImageNet in `folder/tiny-imagenet-200` or `folder`; None if it is not there.

    Class names are the sorted wnids. The validation images are the test part; the official test images have no labels
    and are left out.

    Raises ValueError where training folders, wnids.txt (if there), annotations and validation images do not agree.
    """
    root = next((path for path in (folder / FOLDER, folder) if (path / ANNOTATIONS).is_file()), None)
    if root is None:
        return None
    train = root / "train"
    wnids = wnid_folders(train)
    known = root / "wnids.txt"
    if known.is_file():
        check_same(name, str(train), wnids, str(known), known.read_text(encoding="utf-8").split())
    items = [item for label, wnid in enumerate(wnids) for item in list_class(root, f"train/{wnid}/images", label)]
    return Listing(tuple(wnids), {"train": items, "test": _list_val(name, root, wnids)})


def _list_val(name: str, root: Path, wnids: list[str]) -> list[Item]:
    path = root / ANNOTATIONS
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    label_of = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in labels:
            raise ValueError(f"{name}: line {number} of {path} has the class {wnid!r}, which train/ has not: mend it")
        label_of[f"val/images/{file}"] = labels[wnid]
    items = list_class(root, "val/images", 0)
    found = {item.name for item in items}
    if absent := sorted(label_of.keys() - found):
        raise ValueError(f"{name}: {path} names {len(absent)} files that are missing, first {absent[0]}: extract again")
    if strange := sorted(found - label_of.keys()):
        raise ValueError(
            f"{name}: {path} lacks {len(strange)} images that are there, first {strange[0]}: extract again"
        )
    return [item._replace(label=label_of[item.name]) for item in items]
