"""What shards of others hold: their images, and what is said of each one's class, by the members that share its key."""

from __future__ import annotations

import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fasthebb.data.archives import DAMAGED, Member, members_to_tear
from fasthebb.data.decode import SUFFIXES
from fasthebb.data.listing import UNLABELLED, Item

LARGEST = 64 << 20  # bytes of a member that tells a class


class Sample(NamedTuple):
    """An image, and its class as its shard says it, "" where it has none."""

    item: Item
    said: str


class Shard(NamedTuple):
    """The images of a shard, and what is odd about some: keys of several images, labels that are no text."""

    samples: list[Sample]
    several: list[str]
    no_text: list[str]


def read_shard(spec: str, path: Path, name: str) -> Shard:
    """The images of a shard, in its order, called NAME/KEY.SUFFIX.

    Members of one key that follow each other are one image: of several image files the one with the fewest dots, the
    first of those. Its class is what KEY.cls says, or else "label" of KEY.json: a number or a name; less than 0 is
    none, and so is a KEY.cls that is not UTF-8.

    Raises ValueError, beginning with `spec`, for a file that is no shard, or has labels that are no classes.
    """
    found = Shard([], [], [])
    try:
        with path.open("rb") as file:
            shown = (member for member in members_to_tear(file) if not member.name.rpartition("/")[2].startswith("."))
            for key, group in itertools.groupby(shown, lambda member: _key(member.name)[0]):
                members = list(group)
                images = sorted(filter(_is_image, members), key=_dots)  # KEY.jpg before KEY.depth.png
                if not images:
                    continue
                if len(images) > 1 and _dots(images[0]) == _dots(images[1]):
                    found.several.append(f"{name}/{key}, of which {images[0].name} is read")
                by_suffix = {_key(member.name)[1]: member for member in members}
                item = Item(f"{name}/{images[0].name}", UNLABELLED, str(path), images[0].offset, images[0].size)
                found.samples.append(Sample(item, _said(file, by_suffix, found.no_text)))
    except (*DAMAGED, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{spec}: {path} cannot be read ({error}): restore it, or leave it out") from None
    return found


def names_of(paths: Iterable[Path]) -> dict[Path, str]:
    """What each shard is called: its file name, or the path below the folder that all share if they lie in several."""
    folders = {path: os.path.abspath(path.parent) for path in paths}  # noqa: PTH100
    shared = os.path.commonpath(folders.values())
    return {path: Path(os.path.relpath(folder, shared), path.name).as_posix() for path, folder in folders.items()}


def _key(name: str) -> tuple[str, str]:
    """Key and suffix of a member: what is before the first dot of its file name, and what is behind it."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix.lower()


def _is_image(member: Member) -> bool:
    return f".{_key(member.name)[1].rpartition('.')[2]}" in SUFFIXES


def _dots(member: Member) -> int:
    return _key(member.name)[1].count(".")


def _said(file: BinaryIO, members: Mapping[str, Member], no_text: list[str]) -> str:
    if "cls" in members:
        try:
            return _class(_content(file, members["cls"]).decode())
        except UnicodeDecodeError:
            no_text.append(f"{file.name}/{members['cls'].name}")
            return ""
    return _class(_label(members["json"].name, _content(file, members["json"]))) if "json" in members else ""


def _content(file: BinaryIO, member: Member) -> bytes:
    if member.size > LARGEST:
        raise tarfile.ReadError(f"{member.name} has {member.size} bytes, more than a label's {LARGEST >> 20} MiB")
    return os.pread(file.fileno(), member.size, member.offset)


def _label(name: str, text: bytes) -> str:
    """What a JSON file says as "label", "" if it says nothing."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise tarfile.ReadError(f"{name} is no JSON") from None
    label = content.get("label") if isinstance(content, dict) else None
    if isinstance(label, (list, dict)) or (isinstance(label, float) and not label.is_integer()):
        shown = json.dumps(label)
        raise tarfile.ReadError(f"{name} has the label {shown[:40]}{'…' * (len(shown) > 40)}, which is not one class")
    return "" if label is None else str(int(label) if isinstance(label, float) else label)


def _class(text: str) -> str:
    text = text.strip()
    if re.fullmatch(r"-\d+", text):
        return ""
    return text.lstrip("0") or "0" if text.isdecimal() and text.isascii() else text
