"""ImageNet's official archives, read in place: a tar of one tar per class, a tar of validation images, the devkit."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from fasthebb.data.archives import DAMAGED, Member, damaged, tar_members
from fasthebb.data.listing import Item, Listing

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
META, TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"


def list_archives(name: str, root: Path) -> Listing:
    """List the images inside the three archives; class names are the sorted wnids, validation is the test part.

    Only tar headers are read, 1.3 million of them: seconds once the disk has them.

    Raises ValueError for an archive that is missing, damaged, or does not fit the others.
    """
    if missing := [archive for archive in (TRAIN, VAL, DEVKIT) if not (root / archive).is_file()]:
        raise ValueError(f"{name}: {root} has no {', '.join(missing)}: put all three official archives there")
    wnids, train = _list_train(root / TRAIN)
    return Listing(wnids, {"train": train, "test": _list_val(root, wnids)})


def _list_train(path: Path) -> tuple[tuple[str, ...], list[Item]]:
    items: list[Item] = []
    with path.open("rb") as file:
        inner = {tar.name.removesuffix(".tar"): tar for tar in tar_members(file, 0, path.stat().st_size)}
        wnids = tuple(sorted(inner))
        for label, wnid in enumerate(wnids):
            _, start, size = inner[wnid]
            images = sorted(tar_members(file, start, start + size))
            items += (_item(f"train/{wnid}", image, label, path) for image in images)
    return wnids, items


def _list_val(root: Path, wnids: tuple[str, ...]) -> list[Item]:
    """The k-th image by name has the k-th label of the devkit, a number of its own that meta.mat gives a wnid."""
    path = root / VAL
    truth = _read_truth(root / DEVKIT)
    with path.open("rb") as file:
        images = sorted(tar_members(file, 0, path.stat().st_size))
    if len(images) != len(truth):
        raise damaged(path, f"{len(images)} images, but {len(truth)} labels in {DEVKIT}")
    label = {wnid: number for number, wnid in enumerate(wnids)}
    if apart := sorted(set(truth) - label.keys()):
        raise damaged(root / TRAIN, f"without {apart[0]}.tar")
    return [_item("val", image, label[wnid], path) for image, wnid in zip(images, truth)]


def _item(folder: str, image: Member, label: int, path: Path) -> Item:
    return Item(f"{folder}/{image.name}", label, str(path), image.offset, image.size)


def _read_truth(devkit: Path) -> list[str]:
    """The wnid of each validation image in order.

    meta.mat holds a record for each class, of which ILSVRC2012_ID is the number in the list of labels.
    """
    from scipy.io import loadmat  # type: ignore[import-untyped, unused-ignore]

    files = {}
    try:
        with tarfile.open(devkit) as tar:
            for member in tar:
                for wanted in (META, TRUTH):
                    if member.isfile() and member.name.endswith(f"/{wanted}"):
                        files[wanted] = tar.extractfile(member).read()  # type: ignore[union-attr]
    except DAMAGED as error:
        raise damaged(devkit, error) from None
    if len(files) < 2:
        raise damaged(devkit, f"without {META} or {TRUTH}")
    try:
        synsets = loadmat(io.BytesIO(files[META]))["synsets"].ravel()
        wnid = {int(synset["ILSVRC2012_ID"].item()): str(synset["WNID"].item()) for synset in synsets}
        return [wnid[int(number)] for number in files[TRUTH].split()]
    except Exception as error:  # loadmat raises anything on a file that is none
        raise damaged(devkit, f"{META} and {TRUTH} cannot be read: {type(error).__name__}") from None
