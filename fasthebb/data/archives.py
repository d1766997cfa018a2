"""Archives of data sets: unpacked whole or not at all, or left packed and their members found by offset."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, NamedTuple

from fasthebb.console import Console

DAMAGED = (EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile)
BLOCK = 512  # bytes: tar headers and members begin at multiples of it
REGULAR, FOLDER = b"0\0", b"5"  # kinds of tar members


class Member(NamedTuple):
    """A file in an uncompressed tar archive: `size` bytes at `offset` of the file that holds the archive."""

    name: str
    offset: int
    size: int


def damaged(path: Path | str, why: object) -> ValueError:
    """What to tell a user of a file that ends early or does not hold what it should."""
    return ValueError(f"{path} is truncated or damaged ({why}): remove it and download it again")


def unpack(archive: Path, folder: Path, top: str, console: Console) -> None:
    """Unpack `folder/top` from a tar (of any compression) or zip archive that holds a folder `top`.

    The files go to `folder/.TOP.part`, which is renamed once all are on the disk; what a killed process left there is
    removed first. The caller holds the lock of `folder`.

    Raises ValueError for a damaged archive, one without `top`, and one with links or members outside its folder.
    """
    aside = folder / f".{top}.part"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for name, source in console.progress(_files_of(archive), f"unpacking {archive.name}"):
            target = aside / _inside(archive, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(source, file)
        if not (aside / top).is_dir():
            raise damaged(archive, f"no folder {top}")
        os.sync()
        (aside / top).rename(folder / top)
    except DAMAGED as error:
        raise damaged(archive, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def tar_members(file: BinaryIO, start: int, end: int) -> Iterator[Member]:
    """The files in the uncompressed tar archive that lies at bytes `start` to `end` of `file`; reads headers only.

    Raises ValueError if it ends early, a header's sum is wrong, or a member is neither a file nor a folder.
    """
    while True:
        header = os.pread(file.fileno(), BLOCK, start)
        start += BLOCK
        if len(header) < BLOCK or start > end:
            raise damaged(file.name, "it ends without the mark of its end")
        if not header.strip(b"\0"):
            return
        kind, size = header[156:157], _header_size(file.name, header)
        if start + size > end:
            raise damaged(file.name, f"it ends at byte {end}, within a member")
        if kind in REGULAR:
            yield Member(_header_name(header), start, size)
        elif kind != FOLDER:
            raise ValueError(f"{file.name} has links or extended headers: use the official archive, or extract it")
        start += -(-size // BLOCK) * BLOCK


def _header_name(header: bytes) -> str:
    """The name of a member; POSIX headers have its folder in a field of its own."""
    folder = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return os.fsdecode(folder + b"/" * bool(folder) + header[:100].partition(b"\0")[0])


def _header_size(path: str, header: bytes) -> int:
    """The size of a member, from its header, once the header's sum is right (its field counts as blanks)."""
    try:
        size, total = (int(field.strip(b"\0 ") or b"0", 8) for field in (header[124:136], header[148:156]))
    except ValueError:
        raise damaged(path, "no tar header") from None
    if sum(header) - sum(header[148:156]) + 8 * ord(" ") != total:
        raise damaged(path, "wrong sum of a tar header")
    return size


def _files_of(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file in an archive, in its order."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                if not entry.is_dir():
                    with packed.open(entry) as source:
                        yield entry.filename, source
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                continue
            content = tar.extractfile(member) if member.isfile() else None
            if content is None:
                raise ValueError(f"{archive} has a link or device in it ({member.name}): use the official archive")
            yield member.name, content


def _inside(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{archive} would write outside its folder ({name}): use the official archive")
    return path


def members_to_tear(file: BinaryIO) -> Iterator[Member]:
    """The files of a shard, in its order, to where it is torn; plain headers are read many times as fast as others.

    Raises tarfile.TarError for one that begins with none.
    """
    end = os.fstat(file.fileno()).st_size
    found: list[Member] = []
    try:
        for member in tar_members(file, 0, end):
            found.append(member)
    except ValueError as error:
        why = str(error)
        if "extended headers" in why:
            found, why = _extended(file, end)
        if why and not found:
            raise tarfile.ReadError(why) from None
        if why:
            warnings.warn(f"{file.name} is torn after {found[-1].name}: what is before is read", stacklevel=2)
    yield from found


def _extended(file: BinaryIO, end: int) -> tuple[list[Member], str]:
    # The files of a shard with headers of any kind, and why there are no more; "" at its end.
    file.seek(0)
    found: list[Member] = []
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isfile() and member.offset_data + member.size <= end:
                    found.append(Member(member.name, member.offset_data, member.size))
            mark = os.pread(file.fileno(), BLOCK, tar.offset)
    except tarfile.TarError as error:
        return found, str(error)
    return found, "" if mark == bytes(BLOCK) else "it ends without the mark of its end"
