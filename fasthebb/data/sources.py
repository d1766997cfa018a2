"""From the name of a data set to its files or pixels: `digits`, `folder:PATH`, `shards:PATH`, or a named set."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fasthebb.console import Console
from fasthebb.data.folders import TEST_SHARE, list_files, list_unlabelled
from fasthebb.data.labels_file import list_labelled
from fasthebb.data.listing import UNLABELLED, Arrays, Listing
from fasthebb.data.shards import find_shards

SPECS = ("digits", "folder:PATH", "shards:PATH")
PLACES = (Path("data"), Path("/usr/share/datasets"))  # of named sets, where no folder is given
AnyPath = str | Path


def find_source(
    spec: str, *, data_dir: AnyPath | None, labels_file: AnyPath | None, download: bool, console: Console
) -> Listing | Arrays:
    """The files or pixels of a data set; see `load` for the arguments.

    Raises ValueError for an unknown set, one that is not there or not whole, a labels file beside another set than a
    folder.
    """
    root = folder_of(spec, data_dir)
    if labels_file is not None:
        if root is None:
            raise ValueError(f"{spec} has its own labels: a labels file ({labels_file}) goes with folder:PATH only")
        return list_labelled(spec, root, Path(labels_file))
    if root is not None:
        return list_files(spec, root)
    if spec == "digits":
        return _digits()
    if (shards := shards_of(spec, data_dir)) is not None:
        return find_shards(spec, shards)
    from fasthebb.data.named import NAMES, find

    if spec in NAMES:
        return find(spec, PLACES if data_dir is None else [Path(data_dir)], download=download, console=console)
    raise ValueError(_unknown(spec, NAMES))


def check_classes(spec: str, source: Listing | Arrays) -> None:
    """Raise ValueError if a data set has no classes."""
    if not source.classes:
        count = len(source.parts["train"])
        raise ValueError(
            f"{spec} holds {count} images and no class, which is enough for pretrain and embed alone: put images into "
            "one folder per class, or name their classes in a labels file"
        )


def single_class(spec: str, classes: Sequence[str]) -> str:
    """One line about a data set of a single class, which no classifier can be trained or tested on; "" for others."""
    if len(classes) != 1:
        return ""
    level = "PATH may be one level too high, or " if spec.startswith("folder:") else ""
    return f"{spec} has a single class, {classes[0]!r}, and a classifier needs two: {level}a class is missing"


def find_unlabelled(spec: str, *, data_dir: AnyPath | None, download: bool, console: Console) -> Listing | Arrays:
    """The training images of a data set as unlabelled ones, its only part; of a folder see `list_unlabelled`.

    Raises ValueError as `find_source` does.
    """
    root = folder_of(spec, data_dir)
    if root is not None:
        return Listing((), {"train": list_unlabelled(spec, root)})
    source = find_source(spec, data_dir=data_dir, labels_file=None, download=download, console=console)
    if isinstance(source, Listing):
        return Listing((), {"train": [item._replace(label=UNLABELLED) for item in source.parts["train"]]})
    pixels, labels = source.parts["train"]
    return Arrays((), {"train": (pixels, np.full_like(labels, UNLABELLED))})


def folder_of(spec: str, data_dir: AnyPath | None) -> Path | None:
    """The folder that `folder:PATH` names, a relative one below `data_dir` if that is given; None for other sets."""
    return _path_of("folder", spec, data_dir)


def shards_of(spec: str, data_dir: AnyPath | None) -> Path | None:
    """The folder or pattern that `shards:PATH` names, as `folder_of`; None for other sets."""
    return _path_of("shards", spec, data_dir)


def _path_of(kind: str, spec: str, data_dir: AnyPath | None) -> Path | None:
    said, _, path = spec.partition(":")
    return Path(data_dir or "") / Path(path).expanduser() if said == kind and path else None


def default_channels(spec: str) -> int:
    """1 for a set of grey images, 3 for others."""
    if spec == "digits":
        return 1
    if ":" in spec:
        return 3
    from fasthebb.data.named import GREY

    return 1 if spec in GREY else 3


def _unknown(spec: str, known: Sequence[str]) -> str:
    names = {name.partition(":")[0]: name for name in (*SPECS, *known)}
    close = difflib.get_close_matches(spec.partition(":")[0].lower(), names, n=1)
    guess = f"folder:{spec}" if spec and Path(spec).is_dir() else names[close[0]] if close else None
    return f"data set {spec!r} is unknown: there is {', '.join(names.values())}" + (
        f"; did you mean {guess}?" if guess else ""
    )


def _digits() -> Arrays:
    """The 1 797 images of scikit-learn, 8x8; a fixed stratified fifth is test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=0, shuffle=True
    )
    parts = {name: (pixels[chosen], labels[chosen]) for name, chosen in (("train", train), ("test", test))}
    return Arrays(tuple("0123456789"), parts)
