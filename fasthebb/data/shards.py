"""Shards in WebDataset's format, ours or those of others: tar files of images, their labels beside them.

Members of one key, all of a name before the first dot, are one image: `KEY.jpg` and, if it is labelled, `KEY.cls` with
the number of its class, or its name; without that `KEY.json` may say it as "label". A folder that `fasthebb data shard`
wrote has an index with class names, parts, checksums, and where each image lies; shards of others tell their part by
their name, train-…, val-…, validation-… or test-…, or where that tells none by their folder's, if they lie in several.
Images are read in place, by their offset in the shard.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fasthebb.data.decode import SUFFIXES, in_threads
from fasthebb.data.folders import hold_out, label_items
from fasthebb.data.listing import UNLABELLED, Item, Listing
from fasthebb.data.patterns import expanded
from fasthebb.data.shard_members import Sample, names_of, read_shard

INDEX = "index.jsonl"
FORMAT = "fasthebb-shards-1"
_PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_PART = re.compile(rf"(?<![a-z])({'|'.join(sorted(_PARTS, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)
MOST_CLASSES = 1_000_000  # by number
BYTES = 16  # of a checksum, blake2b
_BLOCK = 1 << 20  # bytes that are hashed at a time


class Index(NamedTuple):
    """What a folder of shards holds: the header of its index, and a row for each shard that is whole.

    A row: shard, the file; part; bytes and blake2b of the file; images, each as [member, class or -1, offset, size];
    unreadable, the images that were left out, "name (reason)" each.
    """

    header: Mapping[str, Any]
    shards: Sequence[Mapping[str, Any]]


def find_shards(spec: str, pattern: Path) -> Listing:
    """The images of shards: of a folder with an index, or of files by a pattern with `*`, `?` and `{000..099}`.

    An image's name is SHARD/KEY.SUFFIX, SHARD below the folder that all shards share; parts are in the order of their
    shards and members. Without test shards, val shards are the test part; without either, a fixed fifth of every class
    is held out, if there are classes. Class numbers without names in an index are named by themselves. A shard that is
    missing from its index, of another size or cut short is warned of; its images are in the listing as far as they are
    known, for whoever reads them to count the bad ones.

    Raises ValueError, beginning with `spec`, for shards that are not there, unfinished, or none.
    """
    if pattern.is_dir():
        return _of_index(spec, pattern)
    found: dict[str, list[Sample]] = {}
    several, no_text = list[str](), list[str]()
    paths = expanded(spec, pattern)
    names = names_of(paths)
    in_folders = len({path.parent for path in paths}) > 1
    for path, shard in zip(paths, in_threads(lambda path: read_shard(spec, path, names[path]), paths)):
        found.setdefault(_part_of(path, in_folders=in_folders), []).extend(shard.samples)
        several += shard.several
        no_text += shard.no_text
    if several:
        warnings.warn(f"{spec}: several images have one key, {_first(several)}: give each a key", stacklevel=2)
    if no_text:
        warnings.warn(f"{spec}: not UTF-8, so that its image has no label: {_first(no_text)}", stacklevel=2)
    classes = _classes(said for part in found.values() for _, said in part)
    numbers = {name: number for number, name in enumerate(classes)} | {"": UNLABELLED}
    parts = {part: [item._replace(label=numbers[said]) for item, said in some] for part, some in found.items()}
    return _parted(spec, classes, parts)


def read_index(folder: Path) -> Index | None:
    """The index of a folder of shards, finished or not; None if it has none.

    Raises ValueError if it is none of ours.
    """
    file = folder / INDEX
    if not file.is_file():
        return None
    try:
        header, *rows = _lines(file)
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no index of shards ({error}): name another folder") from None
    by_name = {row["shard"]: row for row in rows}  # of a shard that was written again, the last
    return Index(header, [by_name[name] for name in sorted(by_name)])


def damages(folder: Path) -> Iterator[str]:
    """One line for each shard of a folder's index that is missing, or whose bytes are not those of its checksum."""
    index = read_index(folder)

    def look(row: Mapping[str, Any]) -> str | None:
        return damage_of(folder, row) or (None if _checksum(folder / row["shard"]) == row["blake2b"] else "other bytes")

    rows = index.shards if index else ()
    for row, damage in zip(rows, in_threads(look, rows)):
        if damage is not None:
            yield f"shard {row['shard']} is damaged: {damage}"


def _checksum(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=BYTES)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _of_index(spec: str, folder: Path) -> Listing:
    index = _complete(spec, folder)
    parts: dict[str, list[Item]] = {}
    for row in index.shards:
        shard, path = row["shard"], str(folder / row["shard"])
        some = (Item(f"{shard}/{name}", label, path, offset, size) for name, label, offset, size in row["images"])
        parts.setdefault(row["part"], []).extend(some)
    return _parted(spec, tuple(index.header["classes"]), parts)


def _complete(spec: str, folder: Path) -> Index:
    index = read_index(folder)
    if index is None:
        raise ValueError(f"{spec}: {folder} has no {INDEX}: name the shards by a pattern ({folder}/train-*.tar)")
    if len(index.shards) < index.header["shards"]:
        raise ValueError(
            f"{spec}: {folder} has {len(index.shards)} of {index.header['shards']} shards: finish it by the same "
            "`fasthebb data shard` with --resume"
        )
    for row in index.shards:
        if damage := damage_of(folder, row):
            warnings.warn(f"{spec}: {folder / row['shard']} is damaged: {damage}", stacklevel=2)
    return index


def damage_of(folder: Path, row: Mapping[str, Any]) -> str | None:
    """What is wrong with a shard of an index at a glance: it is missing, or of another size."""
    path = folder / row["shard"]
    if not path.is_file():
        return "it is missing"
    size = path.stat().st_size
    return None if size == row["bytes"] else f"it has {size} bytes, not {row['bytes']}"


def _lines(file: Path) -> Iterator[Any]:
    # A line that a crash cut short is as good as not there.
    for line in file.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def _part_of(path: Path, *, in_folders: bool) -> str:
    match = _PART.search(path.name)
    said = match[1] if match else path.parent.name if in_folders else ""
    return _PARTS.get(said.lower(), "train")


def _first(what: Sequence[str]) -> str:
    return what[0] + (f" and {len(what) - 1} more" if len(what) > 1 else "")


def _classes(said: Iterable[str]) -> tuple[str, ...]:
    names = {name for name in said if name}
    numbers = [int(name) for name in names if name.isdecimal()]
    if len(numbers) == len(names):
        if max(numbers, default=0) >= MOST_CLASSES:
            raise ValueError(f"shards name class {max(numbers)}: number classes from 0 on")
        return tuple(str(number) for number in range(max(numbers, default=-1) + 1))
    return tuple(sorted(names))


def _parted(spec: str, classes: tuple[str, ...], parts: dict[str, list[Item]]) -> Listing:
    if not parts.get("train"):
        raise ValueError(f"{spec} has no training image: name shards with images ({', '.join(sorted(SUFFIXES))})")
    if "test" not in parts and "val" in parts:
        parts["test"] = parts.pop("val")
    if "test" not in parts and classes:
        by_class = {name: [item for item in parts["train"] if item.label == n] for n, name in enumerate(classes)}
        train, test = hold_out(spec, by_class)
        loose = [item for item in parts["train"] if item.label == UNLABELLED]
        parts = {"train": sorted(label_items(classes, train) + loose), "test": label_items(classes, test)}
    return Listing(classes, parts)
