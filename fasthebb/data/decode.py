"""Image files of any usual kind to squares of uint8 pixels, one or many."""

from __future__ import annotations

import io
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from fasthebb.console import Console
from fasthebb.data.listing import Item

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff"})
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # of pillow, whose JPEG is MPO too; EPS runs a program
RESIZES = ("crop", "stretch", "pad")
_BLOCK = 2 * 2**20  # bytes of pixels that a thread decodes in one go
Pixels = npt.NDArray[np.uint8]
A = TypeVar("A")
B = TypeVar("B")


def decode_image(source: str | os.PathLike[str] | bytes, size: int, channels: int, resize: str = "crop") -> Pixels:
    """Read an image, a file or its bytes, as uint8 [channels, size, size], 1 channel grey or 3 RGB.

    Turned as EXIF says; transparent parts over white; 16-bit values scaled, floats taken as [0, 1] where none is above
    1; the first frame of an animation. Resized bilinearly, antialiased: "crop" brings the shorter side to `size` and
    keeps the centre, "stretch" brings both sides there, "pad" the longer one, with black around.

    Raises whatever pillow raises on a file that it cannot read, ValueError for NaN or infinite pixels.
    """
    square = _RESIZE[resize](open_image(source, size).convert("RGB" if channels == 3 else "L"), size)
    return np.asarray(square, np.uint8).reshape(size, size, channels).transpose(2, 0, 1)


def open_image(source: str | os.PathLike[str] | bytes, size: int) -> Image.Image:
    """Read an image, a file or its bytes, opaque and of 8 bits, its sides at least `size` if they are so in the file.

    See `decode_image`, also for what is raised.
    """
    with opened_image(source) as opened:
        opened.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at a smaller scale, twice what is needed
        opened.load()
        image = _eight_bits(_turned(opened), opened.format)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def opened_image(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """An image, a file or its bytes, of which no more than the head is read; of no other format than `FORMATS`.

    Raises PIL.UnidentifiedImageError for a file that is of none of these, whatever its name.
    """
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)


def decode_each(
    items: Sequence[Item], size: int, channels: int, resize: str, keep: Callable[[Pixels], object], console: Console
) -> dict[int, str]:
    """Decode in threads, as pillow frees the interpreter; returns why an item is unreadable, by its number.

    `keep` receives the readable images in order, uint8 [B, channels, size, size], and may raise to end it all.
    """
    step = max(1, min(64, _BLOCK // (channels * size * size)))
    reasons: dict[int, str] = {}

    def decode(start: int) -> tuple[Pixels, dict[int, str]]:
        block, filled = np.empty((step, channels, size, size), np.uint8), 0
        failures: dict[int, str] = {}
        for number in range(start, min(start + step, len(items))):
            try:
                block[filled] = decode_image(read_item(items[number]), size, channels, resize)
                filled += 1
            except Exception as error:  # pillow's readers raise anything on a malformed file
                failures[number] = reason(error)
        return block[:filled], failures

    def done() -> Iterator[None]:
        for images, failures in in_threads(decode, range(0, len(items), step)):
            keep(images)
            reasons.update(failures)
            yield from [None] * (len(images) + len(failures))

    with warnings.catch_warnings():  # pillow's, of odd files that it reads all the same
        warnings.simplefilter("ignore")
        for _ in console.progress(done(), "reading images", total=len(items)):
            pass
    return reasons


def read_item(item: Item) -> bytes:
    """The bytes of an image file or of a member of an archive.

    Raises OSError if the file cannot be read, ValueError if it ends before they do.
    """
    with Path(item.path).open("rb", buffering=0) as file:
        size = item.size if item.size >= 0 else os.fstat(file.fileno()).st_size - item.offset
        data = os.pread(file.fileno(), size, item.offset)
    if len(data) < size:
        raise ValueError("its archive is cut short")
    return data


def reason(error: Exception) -> str:
    """Why an image cannot be read, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "no image of a known kind"
    return " ".join(str(error).split()) or type(error).__name__


def one_line(item: Item, why: str) -> str:
    """An unreadable image as "name (reason)"."""
    return f"{' '.join(item.name.split())} ({why})"


def lost_class(part: str, name: str) -> str:
    """What to tell of a class that has images, of which none can be read."""
    return f"no image of class {name!r} of {part} can be read: mend or replace its files, or leave the class out"


def in_threads(function: Callable[[A], B], arguments: Iterable[A], ahead: int | None = None) -> Iterator[B]:
    """map() in threads, in order, with `ahead` calls under way, however many the arguments are; 3 a thread by default.

    Calls that have not begun when it is left or closed are never made.
    """
    threads = min(16, os.cpu_count() or 1)
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for argument in arguments:
                waiting.append(pool.submit(function, argument))
                if len(waiting) > (3 * threads if ahead is None else ahead):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _turned(image: Image.Image) -> Image.Image:
    """As EXIF says, where it says anything that can be read."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are there, whatever a malformed EXIF block raises
        return image.copy()


def _eight_bits(image: Image.Image, kind: str | None) -> Image.Image:
    """Scale what convert() would clip: greys of 16 bits (modes I;16 and I), of 32 (I, of a TIFF) and floats (F)."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("NaN or infinite pixels")
    if image.mode == "F":
        values = values * 255 if values.max() <= 1 else values
    elif (image.mode, kind) != ("I", "TIFF") or values.max() > 255:  # 32 bits do not say what white is
        values = values / 257
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def _crop(image: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(image, (size, size), method=Image.Resampling.BILINEAR)


def _stretch(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _pad(image: Image.Image, size: int) -> Image.Image:
    width, height = (max(1, round(side * size / max(image.size))) for side in image.size)
    square = Image.new(image.mode, (size, size))
    square.paste(image.resize((width, height), Image.Resampling.BILINEAR), ((size - width) // 2, (size - height) // 2))
    return square


_RESIZE = {"crop": _crop, "stretch": _stretch, "pad": _pad}
