"""Arrays of pixels become squares as files do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from painted import paint
from PIL import Image

from fasthebb.data import load
from fasthebb.data.resize import fit_pixels


def test_arrays_look_as_files_of_the_same_pixels_would(tmp_path: Path) -> None:
    """Within a grey level of pillow, whatever the sides, channels and way to a square."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 12, 12), np.uint8)
    for image, number in zip(pixels, "012"):
        paint(tmp_path / "a" / f"{number}.png").unlink()
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "a" / f"{number}.png")
    for size, channels, resize in ((5, 3, "crop"), (12, 1, "stretch"), (20, 1, "pad"), (12, 3, "crop")):
        data = load(f"folder:{tmp_path}", image_size=size, channels=channels, resize=resize)
        fitted = fit_pixels(pixels, size, channels, resize)
        for path, image in zip(data.train.paths + data.test.paths, [*data.train.images, *data.test.images]):
            far = np.abs(image.numpy().astype(int) - fitted[int(Path(path).stem)])
            assert far.max() <= (0 if size == 12 else 2), (size, channels, resize)


def test_arrays_that_are_not_square() -> None:
    pixels = np.zeros((2, 1, 4, 12), np.uint8)
    pixels[..., 4:8] = 255
    assert (fit_pixels(pixels, 4, 1, "crop") == 255).all()
    stretched, padded = (fit_pixels(pixels, 12, 3, resize) for resize in ("stretch", "pad"))
    assert stretched.shape == padded.shape == (2, 3, 12, 12)
    assert (stretched[..., 5:7] == 255).all()
    assert (stretched[..., [0, -1]] == 0).all()
    assert (padded[:, :, 4:8, 4:8] == 255).all()
    assert padded.sum() == 2 * 3 * 16 * 255
