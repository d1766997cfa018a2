"""Every file the package writes goes through here: whole or not at all, and one writer to a run folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

AnyPath = str | os.PathLike[str]


def atomic_write(path: AnyPath, data: bytes | str) -> None:
    """Write `data` (a string as UTF-8) to `path`, which holds either its old or all of its new content at any moment.

    Raises OSError where the folder is missing or cannot be written; then nothing is left behind.
    """
    content = data.encode() if isinstance(data, str) else data

    def write(file: BinaryIO) -> None:
        file.write(content)

    atomic_save(path, write)


def atomic_save(path: AnyPath, write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill a file that takes the place of `path` only once it is whole and on the disk.

    The bytes go aside into the same folder (`.NAME.PID.part`), then fsync, rename, fsync of the folder. Whatever
    `write` raises passes through, but that a disk that takes no more is told of as an OSError with the path; the part
    file is removed, and one that a killed process left is removed by the next save of the same path.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    noted: list[OSError] = []
    try:
        with io.BufferedWriter(_Telling(part, noted)) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        first = noted[0] if noted else error  # torch.save makes a riddle of it
        if isinstance(first, OSError) and (noted or str(first.filename) == str(part)):
            raise OSError(first.errno, first.strerror, str(path)) from None
        raise
    _sync_folder(path.parent)
    _remove_orphans(path)


class _Telling(io.FileIO):
    """A file that notes why it could not be written."""

    def __init__(self, path: Path, told: list[OSError]) -> None:
        super().__init__(path, "w")
        self._told = told

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self._told.append(error)
            raise


def append_line(path: AnyPath, text: str) -> None:
    """Append `text` as one line, in one write, and see it to the disk; a line that a crash cut short is ended first.

    Raises ValueError if `text` holds a line break, OSError where the file cannot be written: then it is as it was.
    """
    if "\n" in text or "\r" in text:
        raise ValueError(f"{text!r} is more than one line: append its lines one by one")
    with Path(path).open("a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
        torn = end and file.read(1) != b"\n"
        data = (b"\n" if torn else b"") + text.encode() + b"\n"
        if file.write(data) < len(data):  # the disk took a part
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        os.fsync(file.fileno())


@contextlib.contextmanager
def lock(folder: AnyPath) -> Iterator[None]:
    """Hold `folder` (made if missing) for this process alone while the block runs.

    A flock on `folder/.lock`: it ends with the process, however that ends, so the file may stay without harm.

    Raises ValueError if another process holds it, if `folder` is a file, or if it cannot be made or written.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder} cannot be made ({error.strerror}): name another folder") from None
    try:
        file = (folder / ".lock").open("ab")
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror}): make it writable, or name another") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{folder} is in use by another process: wait until it ends, or name another folder"
            ) from None
        yield


def told(error: BaseException) -> str:
    """What an error says, in one line; of a file that cannot be used the path and why, without numbers."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return (
            f"{os.fspath(error.filename)} cannot be used ({error.strerror}): check the path, its permissions, its disk"
        )
    return " ".join(str(error).split())


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where its file system knows how."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_orphans(path: Path) -> None:
    """Remove what processes that are no more left of `path`."""
    for part in path.parent.iterdir():
        head, _, pid = part.name.removesuffix(".part").rpartition(".")
        if head == f".{path.name}" and part.suffix == ".part" and pid.isdecimal() and not _alive(int(pid)):
            part.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
