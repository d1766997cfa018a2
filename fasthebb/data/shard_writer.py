"""Write a data set as shards in WebDataset's format, in parallel, and so that a later run goes on with them.

| file | holds |
|---|---|
| PART-000000.tar … | images as `KEY.SUFFIX` and, if labelled, `KEY.cls`, the number of the class |
| index.jsonl | format, classes, number of shards, a hash of what they are made of; then a row a shard, see `Index` |

The training part is shuffled by a fixed seed, so that a shard holds all classes; other parts keep their order.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image

from fasthebb.console import Console
from fasthebb.data.decode import in_threads, one_line, open_image, read_item, reason
from fasthebb.data.listing import Arrays, Item, Listing
from fasthebb.data.shards import BYTES, FORMAT, INDEX, damage_of, read_index
from fasthebb.files import append_line, atomic_save, lock

QUALITY = 95  # of JPEG


class Written(NamedTuple):
    """shards, images and bytes of all parts; "name (reason)" of each image that could not be read."""

    shards: int
    images: int
    bytes: int
    unreadable: list[str]


class _Shard(NamedTuple):
    name: str
    part: str
    rows: list[int]  # of the part


class _File(NamedTuple):
    key: str
    suffix: str
    data: bytes
    label: int


class _Files:
    """A listing: files as they are, or smaller where they are larger than `short_side`."""

    def __init__(self, listing: Listing, short_side: int | None) -> None:
        self._parts = listing.parts
        self._short_side = short_side

    def count(self, part: str) -> int:
        return len(self._parts[part])

    def note(self, part: str, digest: hashlib.blake2b) -> None:
        """Add what tells the part from others."""
        for item in self._parts[part]:
            digest.update(f"{item.name}\0{item.label}\0".encode("utf-8", "backslashreplace"))

    def file(self, part: str, row: int) -> _File | str:
        """An image, or "name (reason)" if it cannot be read."""
        item = self._parts[part][row]
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", Path(item.name).stem)[:64]
        try:
            suffix, data = self._content(item)
        except Exception as error:  # pillow's readers raise anything on a malformed file
            return one_line(item, reason(error))
        return _File(f"{row:08}_{stem}", suffix, data, item.label)

    def _content(self, item: Item) -> tuple[str, bytes]:
        data = read_item(item)
        if self._short_side is not None:
            image = open_image(data, self._short_side)
            scale = self._short_side / min(image.size)
            if scale < 1:
                size = [max(1, round(scale * side)) for side in image.size]
                out = io.BytesIO()
                image.convert("RGB").resize(size, Image.Resampling.BILINEAR).save(out, "JPEG", quality=QUALITY)
                return "jpg", out.getvalue()
        return Path(item.name).suffix[1:].lower(), data


class _Pixels:
    """Arrays: every image as PNG."""

    def __init__(self, arrays: Arrays) -> None:
        self._parts = arrays.parts

    def count(self, part: str) -> int:
        return len(self._parts[part][1])

    def note(self, part: str, digest: hashlib.blake2b) -> None:
        for array in self._parts[part]:
            digest.update(np.ascontiguousarray(array).data)

    def file(self, part: str, row: int) -> _File:
        pixels, labels = self._parts[part]
        image = pixels[row].transpose(1, 2, 0)
        out = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(out, "PNG")
        return _File(f"{row:08}", "png", out.getvalue(), int(labels[row]))


def write_shards(
    source: Listing | Arrays,
    folder: Path,
    *,
    images_per_shard: int = 2000,
    short_side: int | None = None,
    resume: bool = False,
    console: Console,
) -> Written:
    """Write the images of a data set into a folder of shards; what was written by an earlier run stays.

    Args:
        source: files, which go in as they are, or pixels, which become PNG.
        folder: made if missing.
        images_per_shard: at least 1.
        short_side: images whose shorter side is longer are brought to that many pixels, as JPEG of quality 95.
        resume: go on with a folder that was begun by the same call.
        console: shows progress.

    Raises:
        ValueError: the folder holds shards and `resume` is off, or shards of something else, or other files; a number
            makes no sense.
        OSError: the folder cannot be written.
    """
    for name, value in (("images per shard", images_per_shard), ("short side", short_side)):
        if value is not None and value < 1:
            raise ValueError(f"{name} {value}: give 1 or more")
    images = _Files(source, short_side) if isinstance(source, Listing) else _Pixels(source)
    plan = [shard for part in source.parts for shard in _plan(part, images.count(part), images_per_shard)]
    digest = hashlib.blake2b(repr((source.classes, images_per_shard, short_side)).encode(), digest_size=BYTES)
    for part in source.parts:
        digest.update(part.encode())
        images.note(part, digest)
    header = {
        "format": FORMAT, "classes": list(source.classes), "shards": len(plan), "made_of": digest.hexdigest(),
    }  # fmt: skip
    if folder.is_dir() and read_index(folder) is None and (strange := _seen_in(folder)):
        raise ValueError(f"{folder} is not empty and holds no shards (it holds {strange}); name another folder")
    with lock(folder):
        done = _begun(folder, header, resume=resume)
        for shard in console.progress([shard for shard in plan if shard.name not in done], "shards"):
            done[shard.name] = _write(images, folder, shard)
            append_line(folder / INDEX, json.dumps(done[shard.name]))
    number, size = sum(len(row["images"]) for row in done.values()), sum(row["bytes"] for row in done.values())
    unreadable = [bad for row in done.values() for bad in row.get("unreadable", [])]  # older rows name none
    return Written(len(plan), number, size, unreadable)


def _seen_in(folder: Path) -> str:
    # The first name that a folder shows, or "".
    return min((path.name for path in folder.iterdir() if not path.name.startswith(".")), default="")


def _plan(part: str, count: int, each: int) -> list[_Shard]:
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(count, generator=generator).tolist() if part == "train" else list(range(count))
    return [_Shard(f"{part}-{n:06}.tar", part, order[at : at + each]) for n, at in enumerate(range(0, count, each))]


def _begun(folder: Path, header: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    # The rows of shards that are whole, by name; a new index is begun where there is none.
    index = read_index(folder)
    if index is None:
        append_line(folder / INDEX, json.dumps(header))
        return {}
    if not resume:
        raise ValueError(f"{folder} holds shards already; add --resume to go on with them, or name another folder")
    if dict(index.header) != header:
        raise ValueError(f"{folder} holds shards of other images or options; name another folder")
    return {row["shard"]: row for row in index.shards if damage_of(folder, row) is None}


def _write(images: _Files | _Pixels, folder: Path, shard: _Shard) -> dict[str, Any]:
    row: dict[str, Any] = {"shard": shard.name, "part": shard.part, "images": [], "unreadable": []}

    def fill(file: BinaryIO) -> None:
        hashed = _Hashed(file)
        with tarfile.open(fileobj=hashed, mode="w|", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
            for made in in_threads(partial(images.file, shard.part), shard.rows):
                if isinstance(made, str):
                    row["unreadable"].append(made)
                    continue
                name = f"{made.key}.{made.suffix}"
                row["images"].append([name, made.label, tar.offset + tarfile.BLOCKSIZE, len(made.data)])
                _add(tar, name, made.data)
                if made.label >= 0:
                    _add(tar, f"{made.key}.cls", str(made.label).encode())
        row.update(bytes=hashed.bytes, blake2b=hashed.digest.hexdigest())

    atomic_save(folder / shard.name, fill)
    return row


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


class _Hashed:
    # A file that is written once through, its bytes counted and hashed on the way.

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = 0
        self.digest = hashlib.blake2b(digest_size=BYTES)

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self._file.write(data)
