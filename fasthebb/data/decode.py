"""One image file of any usual kind to a square of uint8 pixels."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff"})


def decode_image(path: str | os.PathLike[str], size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Read an image as uint8 [channels, size, size], 1 channel grey or 3 RGB.

    Turned as EXIF says; transparent parts over white; 16-bit values scaled, floats taken as [0, 1] where none is above
    1; the first frame of an animation. The shorter side is resized to `size` (bilinear, antialiased), the centre is
    kept.

    Raises whatever pillow raises on a file that it cannot read, ValueError for NaN or infinite pixels.
    """
    with Image.open(path) as opened:
        opened.draft(None, (2 * size, 2 * size))  # a large JPEG is decoded at a smaller scale, twice what is needed
        image = _eight_bits(ImageOps.exif_transpose(opened))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB" if channels == 3 else "L")
    square = ImageOps.fit(image, (size, size), method=Image.Resampling.BILINEAR)
    return np.asarray(square, np.uint8).reshape(size, size, channels).transpose(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale what convert() would clip: 16-bit greys (modes I;16 and, of older pillows, I) and floats (F)."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("NaN or infinite pixels")
    if image.mode != "F":
        values = values / 257
    elif values.max() <= 1:
        values = values * 255
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
