"""What is probably not meant in the layout of a folder of images, as it would go unseen otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fasthebb.data.walk import NOWHERE, Left, holds_images, images_below, printable, sub_folders

PARTS = ("train", "val", "test")
LOOSE = ("unlabeled", "unlabelled")  # names of a folder whose images have no class


def slips(root: Path, train: Path, left: Left) -> list[str]:
    """One line for each slip: names that differ by their case alone, images that are not read, links to nowhere.

    train: where the training classes are, `root` or a folder in it. left: what was passed over where images were read.
    """
    beside = left if root == train else {**left, **_passed_over(root)}
    return [*_misspelt(root, train), *_unread(root, train), *_of(beside)]


def _passed_over(root: Path) -> Left:
    left: Left = {}
    images_below(root, deep=False, left=left)
    return left


def _misspelt(root: Path, train: Path) -> Iterator[str]:
    """Class folders with the name of a part, or of unlabelled images, but for its case."""
    names = {sub: sub.name.lower() for sub in sub_folders(train) if sub.name not in (*PARTS, *LOOSE)}
    parts = PARTS if root == train else ()
    alone = set(names.values()) <= {*PARTS, *LOOSE}
    for sub, name in names.items():
        if name in LOOSE or (name in parts and (alone or sub_folders(sub))):  # a class may be called Train
            yield f"{_shown(sub, root)}/ is taken for a class: if it is not, call it {name}/"


def _unread(root: Path, train: Path) -> Iterator[str]:
    """Folders beside train/ with images that are no part."""
    if root == train:
        return
    for sub in sub_folders(root):
        if sub.name not in (*PARTS, *LOOSE) and holds_images(sub):
            name = sub.name.lower()
            what = f"call it {name}/" if name in (*PARTS, *LOOSE) else f"parts are {'/, '.join((*PARTS, LOOSE[0]))}/"
            yield f"{_shown(sub, root)}/ beside train/ is not read, though it holds images: {what}"
    if count := len(images_below(root, deep=False)):
        yield f"{count} images beside train/ are not read: put them into {LOOSE[0]}/ to train on them without a class"


def _of(left: Left) -> Iterator[str]:
    if dead := sorted(path for path, what in left.items() if what == NOWHERE):
        yield f"{len(dead)} links lead nowhere, first {printable(dead[0])}: mend or remove them"
    if counts := Counter(what for what in left.values() if what != NOWHERE):
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        yield f"{counts.total()} image files are of kinds that are not read ({listed}): convert them to png or jpg"


def _shown(sub: Path, root: Path) -> str:
    return printable(sub.relative_to(root).as_posix())
