"""Shards in WebDataset's format, ours or those of others: tar files of images, their labels beside them.

Members of one key, all of a name before the first dot, are one image: `KEY.jpg` and, if it is labelled, `KEY.cls` with
the number of its class, or its name; `KEY.json` may say it as "label". A folder that `fasthebb data shard` wrote has
an index with class names, parts, checksums, and where each image lies; shards of others tell their part by their name,
train-…, val-…, validation-… or test-…. Images are read in place, by their offset in the shard.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import tarfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fasthebb.data.archives import DAMAGED, Member, members_to_tear
from fasthebb.data.decode import SUFFIXES, in_threads
from fasthebb.data.folders import hold_out, label_items
from fasthebb.data.listing import UNLABELLED, Item, Listing
from fasthebb.data.patterns import expanded

INDEX = "index.jsonl"
FORMAT = "fasthebb-shards-1"
LABELS = ("cls", "index", "json")  # members that tell a class, the first that is there
_PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_PART = re.compile(rf"(?<![a-z])({'|'.join(sorted(_PARTS, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)
MOST_CLASSES = 1_000_000  # by number
BYTES = 16  # of a checksum, blake2b
_LARGEST = 1 << 20  # bytes of a label, and of what is hashed at a time


class Index(NamedTuple):
    """What a folder of shards holds: the header of its index, and a row for each shard that is whole.

    A row: shard, the file; part; bytes and blake2b of the file; images, each as [member, class or -1, offset, size];
    unreadable, the images that were left out, "name (reason)" each.
    """

    header: Mapping[str, Any]
    shards: Sequence[Mapping[str, Any]]


class _Sample(NamedTuple):
    item: Item
    said: str  # its class, as its shard says it; "" is unlabelled, and so is -1


def find_shards(spec: str, pattern: Path) -> Listing:
    """The images of shards: of a folder with an index, or of files by a pattern with `*`, `?` and `{000..099}`.

    An image's name is SHARD/KEY.SUFFIX; parts are in the order of their shards and members. Without test shards, val
    shards are the test part; without either, a fixed fifth of every class is held out, if there are classes. Class
    numbers without names in an index are named by themselves. A shard that is missing from its index, of another size
    or cut short is warned of; its images are in the listing as far as they are known, for whoever reads them to count
    the bad ones.

    Raises ValueError, beginning with `spec`, for shards that are not there, unfinished, or none.
    """
    if pattern.is_dir():
        return _of_index(spec, pattern)
    found: dict[str, list[_Sample]] = {}
    paths = expanded(spec, pattern)
    for path, samples in zip(paths, in_threads(lambda path: list(_samples(spec, path)), paths)):
        found.setdefault(_part_of(path), []).extend(samples)
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
        while block := file.read(_LARGEST):
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


def _part_of(path: Path) -> str:
    match = _PART.search(path.name)
    return _PARTS[match[1].lower()] if match else "train"


def _samples(spec: str, path: Path) -> Iterator[_Sample]:
    try:
        with path.open("rb") as file:
            shown = (member for member in members_to_tear(file) if not member.name.rpartition("/")[2].startswith("."))
            for _, members in itertools.groupby(shown, lambda member: _key(member.name)[0]):
                by_suffix = {_key(member.name)[1]: member for member in members}
                shown_as = [suffix for suffix in by_suffix if f".{suffix.rpartition('.')[2]}" in SUFFIXES]
                image = (
                    by_suffix[min(shown_as, key=lambda s: s.count("."))] if shown_as else None
                )  # KEY.jpg before KEY.depth.png
                if image is not None:
                    said = next(
                        (_said(file, suffix, by_suffix[suffix]) for suffix in LABELS if suffix in by_suffix), ""
                    )
                    item = Item(f"{path.name}/{image.name}", UNLABELLED, str(path), image.offset, image.size)
                    yield _Sample(item, said)
    except (*DAMAGED, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{spec}: {path} cannot be read ({error}): restore it, or leave it out") from None


def _key(name: str) -> tuple[str, str]:
    """Key and suffix of a member: what is before the first dot of its file name, and what is behind it."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix.lower()


def _said(file: BinaryIO, suffix: str, member: Member) -> str:
    text = os.pread(file.fileno(), min(member.size, _LARGEST), member.offset).decode()
    if suffix == "json":
        try:
            content = json.loads(text)
        except ValueError:
            raise tarfile.ReadError(f"{member.name} is no JSON") from None
        label = content.get("label") if isinstance(content, dict) else None
        text = "" if label is None else str(label)
    text = text.strip()
    return "" if text == "-1" else str(int(text)) if text.isdecimal() else text


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
