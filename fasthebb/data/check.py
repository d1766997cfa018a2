"""What is in a data set, and what may be wrong with it: unreadable files, duplicates, classes that differ."""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fasthebb.console import Console
from fasthebb.data.decode import decode_image, in_threads, lost_class, one_line, opened_image, read_item, reason
from fasthebb.data.folders import survey
from fasthebb.data.listing import Arrays, Item, Listing
from fasthebb.data.shards import damages
from fasthebb.data.sources import find_source, find_unlabelled, folder_of, shards_of, single_class

EXTRA = "unlabeled"  # the part of images that another set adds
COLUMNS = ("part", "images", "unlabelled", "classes", "a class", "pixels", "modes", "unreadable", "duplicates")


@dataclass(frozen=True)
class Part:
    """What a part of a data set holds.

    images: how many, unreadable ones included. per_class: labelled images of each class. widths, heights: smallest,
    median and largest, () if no image can be read. modes: how many images pillow reads as L, RGB and so on.
    unreadable: "name (reason)" of each. duplicates: readable images that equal an earlier one of the part.
    """

    name: str
    images: int
    unlabelled: int
    per_class: dict[str, int]
    widths: tuple[int, ...]
    heights: tuple[int, ...]
    modes: dict[str, int]
    unreadable: tuple[str, ...]
    duplicates: int


@dataclass(frozen=True)
class Shared:
    """Contents that are in two parts, how many, and the names of one in each."""

    parts: tuple[str, str]
    count: int
    first: tuple[str, str]


@dataclass(frozen=True)
class Report:
    """What `check` found.

    differences: one line for each part whose class folders are not those of train/. damages: one for each shard whose
    bytes are not those that its index knows. slips: one for each thing that is probably not meant, such as one class.
    """

    data: str
    parts: tuple[Part, ...]
    shared: tuple[Shared, ...]
    differences: tuple[str, ...]
    damages: tuple[str, ...] = ()
    slips: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "warnings": self.warnings()}

    def rows(self) -> list[tuple[str, ...]]:
        """One row of `COLUMNS` for each part."""
        return [_row(part) for part in self.parts]

    def warnings(self) -> list[str]:
        """One line for everything that may spoil a result."""
        unreadable = [
            f"{len(part.unreadable)} of {part.images} images of {part.name} cannot be read, first {part.unreadable[0]}"
            for part in self.parts
            if part.unreadable
        ]
        across = [
            f"{found.count} images are in {found.parts[0]} and {found.parts[1]}, first {found.first[0]} = "
            f"{found.first[1]}"
            for found in self.shared
        ]
        return [*self.differences, *self.damages, *self.slips, *unreadable, *across]


class _Looks(NamedTuple):
    """What was seen of the readable images [R] of a part: a hash of the content, its side lengths, which one it is;
    and their labels, each once."""

    hashes: npt.NDArray[np.uint64]
    widths: npt.NDArray[np.int32]
    heights: npt.NDArray[np.int32]
    names: Sequence[str]
    labels: set[int]


def check(
    spec: str,
    *,
    data_dir: str | Path | None = None,
    labels_file: str | Path | None = None,
    unlabeled: str | None = None,
    download: bool = False,
    console: Console | None = None,
) -> Report:
    """Read every image of a data set once: count, measure and compare; the arguments are those of `load`.

    Two images are duplicates if their files, or the pixels of sets that come as arrays, are equal byte for byte (by a
    64-bit hash).

    Raises ValueError as `load` does, but for unreadable files and class folders that differ.
    """
    console = console or Console(quiet=True)
    root = folder_of(spec, data_dir)
    source: Listing | Arrays
    differences, slips = list[str](), list[str]()
    if root is not None and labels_file is None:
        source, differences, slips = survey(spec, root)
    else:
        source = find_source(spec, data_dir=data_dir, labels_file=labels_file, download=download, console=console)
    found = [_look_at(name, source, name, console) for name in source.parts]
    if unlabeled is not None:
        extra = find_unlabelled(unlabeled, data_dir=data_dir, download=download, console=console)
        found.append(_look_at("train", extra, EXTRA, console))
    pairs = itertools.combinations(found, 2)
    shared = (_compare((a.name, b.name), looks, others) for (a, looks), (b, others) in pairs)
    damaged = () if (shards := shards_of(spec, data_dir)) is None else tuple(damages(shards))
    parts, both = tuple(part for part, _ in found), tuple(some for some in shared if some)
    for part, looks in found:
        slips += [lost_class(part.name, name) for label, name in enumerate(source.classes)
                  if part.per_class.get(name) and label not in looks.labels]  # fmt: skip
    slips += [single] if (single := single_class(spec, source.classes)) else []
    return Report(spec, parts, both, tuple(differences), damaged, tuple(slips))


def _look_at(part: str, source: Listing | Arrays, name: str, console: Console) -> tuple[Part, _Looks]:
    unreadable: list[str] = []
    if isinstance(source, Listing):
        labels: Iterable[int] = (item.label for item in source.parts[part])
        looks, modes = _look_at_files(source.parts[part], name, unreadable, console)
    else:
        labels = source.parts[part][1].tolist()
        looks, modes = _look_at_pixels(*source.parts[part], name)
    counts = Counter(labels)
    per_class = {cls: counts[label] for label, cls in enumerate(source.classes)}
    widths, heights = (_spread(sides) for sides in (looks.widths, looks.heights))
    duplicates = len(looks.hashes) - len(np.unique(looks.hashes))
    total, unlabelled = sum(counts.values()), counts[-1]
    return Part(name, total, unlabelled, per_class, widths, heights, dict(modes), tuple(unreadable), duplicates), looks


def _look_at_files(
    items: Sequence[Item], name: str, unreadable: list[str], console: Console
) -> tuple[_Looks, Counter[str]]:
    def look(item: Item) -> tuple[int, int, int, str] | str:
        try:
            data = read_item(item)
            with opened_image(data) as opened:
                width, height, mode = opened.width, opened.height, opened.mode
            decode_image(data, 8, 3)  # to its end: a truncated file has a sound head
            return _hash(data), width, height, mode
        except Exception as error:  # pillow's readers raise anything on a malformed file
            return one_line(item, reason(error))

    hashes = np.empty(len(items), np.uint64)
    sides = np.empty((2, len(items)), np.int32)
    names, labels = list[str](), set[int]()
    modes: Counter[str] = Counter()
    with warnings.catch_warnings():  # pillow's, of odd files that it reads all the same
        warnings.simplefilter("ignore")
        outcomes = console.progress(in_threads(look, items), f"checking {name}", total=len(items))
        for item, outcome in zip(items, outcomes):
            if isinstance(outcome, str):
                unreadable.append(outcome)
                continue
            hashes[len(names)], *sides[:, len(names)], mode = outcome
            modes[mode] += 1
            names.append(item.name)
            labels.add(item.label)
    count = len(names)
    return _Looks(hashes[:count], sides[0, :count], sides[1, :count], names, labels), modes


def _look_at_pixels(
    pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], name: str
) -> tuple[_Looks, Counter[str]]:
    count, channels, height, width = pixels.shape
    hashes = np.fromiter((_hash(image.tobytes()) for image in pixels), np.uint64, count)
    widths, heights = (np.full(count, side, np.int32) for side in (width, height))
    names = [f"{name}[{number}]" for number in range(count)]
    return _Looks(hashes, widths, heights, names, set(labels.tolist())), Counter(
        {"L" if channels == 1 else "RGB": count}
    )


def _compare(parts: tuple[str, str], a: _Looks, b: _Looks) -> Shared | None:
    both, in_a, in_b = np.intersect1d(a.hashes, b.hashes, return_indices=True)
    if not len(both):
        return None
    first = in_a.argmin()
    return Shared(parts, len(both), (a.names[in_a[first]], b.names[in_b[first]]))


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _spread(sides: npt.NDArray[np.int32]) -> tuple[int, ...]:
    return (int(sides.min()), int(np.median(sides)), int(sides.max())) if len(sides) else ()


def _row(part: Part) -> tuple[str, ...]:
    counts = [count for count in part.per_class.values() if count]
    spread = f"{min(counts)} to {max(counts)}, {np.mean(counts):.4g} on average" if counts else "–"
    pixels = " / ".join(f"{width}x{height}" for width, height in zip(part.widths, part.heights)) or "–"
    return (
        part.name,
        str(part.images),
        str(part.unlabelled),
        str(len(counts)),
        spread,
        pixels,
        _listed(part.modes),
        str(len(part.unreadable)),
        str(part.duplicates),
    )


def _listed(modes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {mode}" for mode, count in sorted(modes.items())) or "–"
