"""Which image files a folder holds: of which class and part, and which are unlabelled."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from fasthebb.data.layout import LOOSE, PARTS, slips
from fasthebb.data.listing import Item, Listing
from fasthebb.data.walk import Left, images_below, kinds, printable, sub_folders

TEST_SHARE = 0.2  # of every class, where there is no test/
Classes = dict[str, list[Item]]


class Survey(NamedTuple):
    """The images of a folder, and one line for each part whose class folders are not those of train/, and each slip."""

    listing: Listing
    differences: list[str]
    slips: list[str]


def list_files(spec: str, root: Path) -> Listing:
    """The images of a folder in any of these layouts, each part sorted by name.

    root/CLASS/… is a training part; root/train/CLASS/… with val/ and test/ beside it are parts. Images beside the
    training classes, and those below `unlabeled` or `unlabelled`, are unlabelled training images. Without test/, a
    fixed fifth of every class is held out; of images without any class nothing is. Hidden files and folders, and
    folders without images, do not count. Slips of the layout are warned of, see `slips`.

    Raises ValueError, beginning with `spec`, for a folder that does not hold this, and for parts whose class folders
    differ.
    """
    parts, loose, odd = _scan(spec, root)
    if differences := list(_differences(parts)):
        raise ValueError(f"{spec}: {differences[0]}: make them agree")
    for slip in odd:
        warnings.warn(f"{spec}: {slip}", stacklevel=2)
    return _listing(spec, parts, loose)


def survey(spec: str, root: Path) -> Survey:
    """As `list_files`, without errors and warnings of what it tells."""
    parts, loose, odd = _scan(spec, root)
    return Survey(_listing(spec, parts, loose), list(_differences(parts)), odd)


def list_images(root: Path) -> list[Item]:
    """Every image file below a folder, unlabelled, sorted by name; hidden files and folders do not count.

    Links to folders are followed in this folder, not below it, and not to where they would lead back to it.

    Raises ValueError if it is no folder or cannot be read.
    """
    _check_folder(str(root), root)
    try:
        return images_below(root, links=True)
    except OSError as error:
        raise _unreadable(str(root), error) from None


def list_unlabelled(spec: str, root: Path) -> list[Item]:
    """The images of a folder as unlabelled ones: all that are not below a val/ or test/ beside its train/.

    Raises ValueError, beginning with `spec`, if there are none.
    """
    _check_folder(spec, root)
    parts = {path.name for path in sub_folders(root)}
    others = tuple(f"{part}/" for part in PARTS[1:]) if "train" in parts else ()
    items = [item for item in list_images(root) if not item.name.startswith(others)]
    if not items:
        raise ValueError(f"{spec}: {root} holds no images: name a folder of images ({kinds()})")
    return items


def hold_out(spec: str, classes: Mapping[str, list[Item]]) -> tuple[Classes, Classes]:
    """Train and test images: of every class the same seeded share, at least one where there are two.

    Raises ValueError, beginning with `spec`, if every class has one image.
    """
    train, test = {}, {}
    generator = torch.Generator().manual_seed(0)
    for name, items in sorted(classes.items()):
        count = min(max(1, int(TEST_SHARE * len(items) + 0.5)), len(items) - 1)
        order = torch.randperm(len(items), generator=generator).tolist()
        test[name] = [items[i] for i in order[:count]]
        train[name] = [items[i] for i in order[count:]]
    if not any(test.values()):
        raise ValueError(f"{spec} has one image in each class, none to test on: add images, or a test/ folder")
    return train, test


def label_items(classes: tuple[str, ...], found: Mapping[str, list[Item]]) -> list[Item]:
    """The images of every class with its number, sorted by name."""
    return sorted(item._replace(label=label) for label, name in enumerate(classes) for item in found.get(name, ()))


def _scan(spec: str, root: Path) -> tuple[dict[str, Classes], list[Item], list[str]]:
    """What each part holds, the unlabelled images, and the slips."""
    _check_folder(spec, root)
    try:
        folders = _part_folders(spec, root)
        left: Left = {}
        parts = {part: _list_classes(spec, root, folder, left) for part, folder in folders.items()}
        _check_parts(spec, folders, parts)
        loose = _list_loose(root, folders["train"], left)
        return parts, loose, slips(root, folders["train"], left)
    except OSError as error:
        raise _unreadable(spec, error) from None


def _listing(spec: str, parts: dict[str, Classes], loose: list[Item]) -> Listing:
    classes = tuple(sorted({name for found in parts.values() for name in found}))
    if "test" not in parts and classes:
        train, test = hold_out(spec, parts["train"])
        parts = {**parts, "train": train, "test": test}
    items = {part: label_items(classes, found) for part, found in parts.items()}
    items["train"] = sorted(items["train"] + loose)
    return Listing(classes, items)


def _check_folder(spec: str, root: Path) -> None:
    if not root.is_dir():
        raise ValueError(f"{spec}: {root} is {'not a folder' if root.exists() else 'missing'}: check the path")


def _unreadable(spec: str, error: OSError) -> ValueError:
    where = printable(os.fsdecode(error.filename or ""))
    return ValueError(f"{spec}: {where} cannot be read ({error.strerror}): check its permissions and its length")


def _part_folders(spec: str, root: Path) -> dict[str, Path]:
    """Where each part is: `train` and so on are parts if they have sub-folders or stand alone, else classes."""
    below = {folder.name for folder in sub_folders(root)}
    present = [part for part in PARTS if part in below]
    beside = below.difference(PARTS, LOOSE)
    if not present or (beside and not any(sub_folders(root / part) for part in present)):
        return {"train": root}
    if "train" not in present:
        raise ValueError(
            f"{spec} has {present[0]}/ but no train/: put the training images into {root / 'train' / 'CLASS'}/, "
            f"or name a folder of classes ({spec}/{present[0]})"
        )
    return {part: root / part for part in present}


def _list_classes(spec: str, root: Path, folder: Path, left: Left) -> Classes:
    """The image files below each sub-folder that has any; their names are below `root`."""
    classes = {
        printable(sub.name): images
        for sub in sub_folders(folder)
        if sub.name not in LOOSE and (images := images_below(sub, root, left=left))
    }
    if classes or images_below(folder):
        return classes
    raise ValueError(f"{spec}: {folder} holds no images: put them into {folder / 'CLASS'}/ ({kinds()})")


def _check_parts(spec: str, folders: Mapping[str, Path], parts: Mapping[str, Classes]) -> None:
    # One part alone may be without classes.
    if len(parts) == 1 or all(parts.values()):
        return
    folder = folders[next(part for part, found in parts.items() if not found)]
    there = images_below(folder)
    alone = "" if any(parts.values()) else f", or name {folders['train']} alone to train without classes"
    raise ValueError(
        f"{spec}: {folder} holds {len(there)} images but no class sub-folders: put them into one folder per class "
        f"({folder / 'CLASS' / Path(there[0].name).name}){alone}"
    )


def _list_loose(root: Path, train: Path, left: Left) -> list[Item]:
    """The training images of no class: beside the class folders, or in a folder that says so."""
    folders = [folder / name for folder in {root, train} for name in LOOSE if (folder / name).is_dir()]
    beside = images_below(train, root, deep=False, left=left)
    return beside + [item for folder in folders for item in images_below(folder, root, left=left)]


def _differences(parts: Mapping[str, Classes]) -> Iterator[str]:
    for part, found in parts.items():
        if apart := sorted(parts["train"].keys() ^ found.keys()):
            names = ", ".join(apart[:5]) + (f" and {len(apart) - 5} more" if len(apart) > 5 else "")
            yield f"only one of train/ and {part}/ has images of {names}"
