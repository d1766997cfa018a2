"""Official files from the network: mirrors in order, resumed where they were cut off, checked before they count."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from fasthebb.console import Console
from fasthebb.data.archives import unpack
from fasthebb.data.official import OFFICIAL
from fasthebb.files import lock

CHUNK = 1 << 20  # bytes of one read
TIMEOUT = 20.0  # seconds without a byte until a mirror counts as dead
RANGE_NOT_SATISFIABLE = 416  # there is nothing after the bytes we have


class _BrokenError(Exception):
    """What the network or a server did; an OSError is then always the disk's."""


def obtain(name: str, folder: Path, console: Console) -> None:
    """Download what is missing of the official files of a set into `folder`, and unpack what is not read packed.

    Raises ValueError for a set that is not to be had without an account, for files that no mirror gives, and for a
    folder that cannot be written or that another process uses.
    """
    if name not in OFFICIAL:
        raise ValueError(
            f"{name} is never downloaded, it needs an account at image-net.org: put its files into {folder} by hand"
        )
    try:
        with lock(folder):
            for file in OFFICIAL[name]:
                archive = folder / file.place
                fetch(file.urls, archive, md5=file.md5, console=console)
                if file.top and not (folder / file.top).exists():
                    unpack(archive, folder, file.top, console)
    except OSError as error:
        raise ValueError(
            f"{name} cannot be downloaded into {folder} ({error.strerror}): make room there, or name another --data-dir"
        ) from None


def fetch(urls: Sequence[str], target: Path, *, md5: str, console: Console) -> None:
    """Download `target` from the first of `urls` that gives the file whose md5 sum is `md5`; nothing if it is there.

    The bytes go to `NAME.part` beside it, which the next mirror, or the next run, continues; only a file of the right
    sum takes the place of `target`. Proxies are those of the environment (`http_proxy`, `https_proxy`).

    Raises ValueError if no mirror gives it, naming each and where to put the file by hand; OSError where the folder
    cannot be written.
    """
    if target.is_file() and _md5(target) == md5:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    failures = []
    for url in urls:
        failure = _try_mirror(url, part, md5, console)
        if not failure:
            part.replace(target)
            return
        failures.append(f"{url} ({failure})")
    raise ValueError(
        f"{target.name} cannot be downloaded, tried {', '.join(failures)}: "
        f"check the network, or put the file by hand at {target}"
    )


def _try_mirror(url: str, part: Path, md5: str, console: Console) -> str:
    """Why the mirror did not complete `part`, or "" if it did; a continued file that ends up wrong is begun anew."""
    continued = part.exists()
    try:
        _receive(url, part, console)
    except _BrokenError as error:
        return str(error)
    if _md5(part) == md5:
        return ""
    part.unlink()
    return _try_mirror(url, part, md5, console) if continued else "wrong checksum: not the official file"


def _receive(url: str, part: Path, console: Console) -> None:
    """Append to `part` what it lacks, or write it anew where the server cannot continue."""
    have = part.stat().st_size if part.exists() else 0
    response = _ask(url, have)
    if response is None:
        return
    continues = response.status == 206
    size = int(response.headers.get("Content-Length") or 0)
    with response, part.open("ab" if continues else "wb") as file:
        chunks = _read(response, size)
        total = -(-size // CHUNK) or None
        for chunk in console.progress(chunks, f"downloading {part.stem} (MiB)", total=total):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _ask(url: str, have: int) -> HTTPResponse | None:
    """The answer to a request for everything after `have` bytes; None where there is nothing after them."""
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response: HTTPResponse = build_opener().open(request, timeout=TIMEOUT)
        return response
    except HTTPError as error:
        error.close()
        if have and error.code == RANGE_NOT_SATISFIABLE:
            return None
        raise _BrokenError(f"{error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _BrokenError(_reason(error)) from None


def _read(response: HTTPResponse, size: int) -> Iterator[bytes]:
    """The body in chunks; `size` is 0 where the server did not say it."""
    done = 0
    try:
        while chunk := response.read(CHUNK):
            done += len(chunk)
            yield chunk
    except (OSError, HTTPException) as error:
        raise _BrokenError(_reason(error)) from None
    if done < size:
        raise _BrokenError(f"the connection ended after {done} of {size} bytes")


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    words = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    return " ".join(words.split())


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
