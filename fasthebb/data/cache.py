"""Decoded images of large data sets in memory-mapped files, so that each file is decoded once.

An entry is a folder, named by a hash of what was decoded and how, with `pixels.u8` (the readable images, uint8
[M, C, H, W]) and, written after it, `about.json`. Pixels are written rather than mapped until they are whole: a full
disk is then an error and not a signal.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import mmap
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fasthebb.console import Console
from fasthebb.data.decode import Pixels, decode_each
from fasthebb.data.decoded import decode_items, readable
from fasthebb.data.imageset import ImageSet
from fasthebb.data.listing import Item
from fasthebb.files import AnyPath, atomic_save, atomic_write

FORMAT = 1
SMALL = 64 * 2**20  # bytes of pixels up to which a data set needs no cache
_PIXELS, _ABOUT, _LOCK = "pixels.u8", "about.json", ".lock"
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0  # MAP_NORESERVE, which older Pythons do not name


def cache_folder(cache_dir: AnyPath | None = None) -> Path:
    """The given folder, else $FASTHEBB_CACHE, else $XDG_CACHE_HOME/fasthebb, else ~/.cache/fasthebb."""
    if given := cache_dir or os.environ.get("FASTHEBB_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fasthebb"


class Cache:
    """Decoded images in `cache_folder(cache_dir)`; safe among processes, never trusted blindly."""

    def __init__(self, cache_dir: AnyPath | None, console: Console) -> None:
        self.folder = cache_folder(cache_dir) / "images"
        self._console = console
        self._writable = True

    def read(self, items: Sequence[Item], size: int, channels: int, resize: str) -> tuple[ImageSet, list[str]]:
        """As `decode_items`, with the images mapped copy-on-write; decoded where no entry holds them.

        An entry that is damaged or of another version is decoded anew, with a warning. Where the folder cannot be
        written there is one warning, and images are decoded into memory.

        Raises ValueError where writing fails in another way, as on a full disk; then nothing is left behind.
        """
        entry = self.folder / entry_name(items, size, channels, resize)
        shape = (channels, size, size)
        try:
            found = _open(entry, len(items), shape)
        except _DamagedError as error:
            self._console.warn(f"the cache entry {entry} {error}: its images are decoded anew")
            found = None
        if found is None and self._writable:
            found = self._make(entry, items, size, channels, resize)
        if found is None:
            return decode_items(items, size, channels, resize, self._console)
        return readable(items, *found)

    def _make(
        self, entry: Path, items: Sequence[Item], size: int, channels: int, resize: str
    ) -> tuple[Pixels, dict[int, str]] | None:
        """Decode into an entry, or wait for the process that does; None where that cannot be."""

        def write(file: BinaryIO) -> None:
            def keep(block: Pixels) -> None:
                file.write(block.data)

            reasons.update(decode_each(items, size, channels, resize, keep, self._console))

        reasons: dict[int, str] = {}
        shape = (channels, size, size)
        try:
            with _locked(entry, self._console):
                with contextlib.suppress(_DamagedError):
                    if found := _open(entry, len(items), shape):
                        return found
                _remove_parts(self.folder, entry)
                (entry / _ABOUT).unlink(missing_ok=True)
                atomic_save(entry / _PIXELS, write)
                if any(why.startswith("[Errno ") for why in reasons.values()):  # a fault of the disk may pass
                    return _mapped(entry / _PIXELS, len(items) - len(reasons), shape), reasons
                atomic_write(entry / _ABOUT, json.dumps({"format": FORMAT, "unreadable": reasons}))
                return _open(entry, len(items), shape)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise ValueError(
                    f"decoded images cannot be cached in {self.folder} ({error.strerror}): "
                    "make room there, or name another folder with --cache-dir"
                ) from None
        self._writable = False
        self._console.warn(f"the cache folder {self.folder} cannot be written: images are decoded into memory")
        return None


def entry_name(items: Sequence[Item], size: int, channels: int, resize: str) -> str:
    """A hash of how images are decoded, and of where each is, how large its file is and when that was changed."""
    digest = hashlib.blake2b(repr((size, channels, resize)).encode(), digest_size=16)
    path, state = None, b""
    for item in items:
        if item.path != path:
            path = item.path
            state = _state(path)
        digest.update(state + b" %d %d\n" % (item.offset, item.size))
    return digest.hexdigest()


class _DamagedError(Exception):
    """An entry that is not to be trusted, and why."""


def _open(entry: Path, count: int, shape: tuple[int, int, int]) -> tuple[Pixels, dict[int, str]] | None:
    """The pixels of an entry and why the others of its `count` items are unreadable; None if there is no entry."""
    try:
        about = json.loads((entry / _ABOUT).read_bytes())
        if about["format"] != FORMAT:
            raise _DamagedError(f"is of format {about['format']}, not {FORMAT}")
        reasons = {int(number): str(reason) for number, reason in about["unreadable"].items()}
        bytes_ = (entry / _PIXELS).stat().st_size
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise _DamagedError("cannot be read") from None
    kept = (count - len(reasons), *shape)
    if not all(0 <= number < count for number in reasons):
        raise _DamagedError(f"names images beyond its {count}")
    if bytes_ != math.prod(kept):
        raise _DamagedError(f"holds {bytes_} bytes, not {kept[0]} images of {list(shape)}")
    return _mapped(entry / _PIXELS, kept[0], shape), reasons


def _mapped(path: Path, count: int, shape: tuple[int, int, int]) -> Pixels:
    """The images of a file, copy-on-write, without setting memory aside for copies: it may be larger than that."""
    if count == 0:
        return np.empty((0, *shape), np.uint8)
    flags = mmap.MAP_PRIVATE | _NO_RESERVE
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return np.frombuffer(pages, np.uint8).reshape(count, *shape)


@contextlib.contextmanager
def _locked(entry: Path, console: Console) -> Iterator[None]:
    """Hold an entry (made if missing) for this process alone, once no other does."""
    entry.mkdir(parents=True, exist_ok=True)
    with (entry / _LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say("another process decodes the same images: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_parts(folder: Path, own: Path) -> None:
    """Remove what killed processes left in any entry; the lock of `own` is held already, that of a live one is not
    free."""
    for part in folder.glob("*/.*.part"):
        with contextlib.suppress(OSError), (part.parent / _LOCK).open("ab") as file:
            if part.parent != own:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def _state(path: str) -> bytes:
    place = Path(path).absolute()
    try:
        about = place.stat()
    except OSError:
        return b"%b\0missing" % bytes(place)
    return b"%b\0%d %d" % (bytes(place), about.st_size, about.st_mtime_ns)
