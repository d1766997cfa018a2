"""Image files of every kind become the same square of pixels."""

from pathlib import Path

import numpy as np
from PIL import Image

from fasthebb.data import decode_image


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_every_kind_of_image(tmp_path: Path) -> None:
    """Each file shows (200, 100, 50), or its grey, on the left and white on the right."""
    rgb = np.full((8, 8, 3), 255, np.uint8)
    rgb[:, :4] = (200, 100, 50)
    colour = Image.fromarray(rgb)
    grey = colour.convert("L")
    clear = colour.convert("RGBA")
    clear.putalpha(Image.fromarray(np.repeat(np.array([[255] * 4 + [0] * 4], np.uint8), 8, 0)))
    hidden = np.array(clear)
    hidden[:, 4:, :3] = 0  # black where it does not show
    wide = np.asarray(grey).astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned a quarter to the left: to be turned to the right
    palette = colour.quantize(4)
    coloured = {
        "rgb.png": save(tmp_path / "rgb.png", colour),
        "rgb.bmp": save(tmp_path / "rgb.bmp", colour),
        "rgb.ppm": save(tmp_path / "rgb.ppm", colour),
        "rgb.webp": save(tmp_path / "rgb.webp", colour, lossless=True),
        "palette.png": save(tmp_path / "palette.png", palette),
        "palette.gif": save(tmp_path / "palette.gif", palette),
        "rgba.png": save(tmp_path / "rgba.png", Image.fromarray(hidden)),
        "cmyk.tif": save(tmp_path / "cmyk.tif", colour.convert("CMYK")),
        "turned.png": save(tmp_path / "turned.png", colour.rotate(90), exif=exif),
        "turned.jpg": save(tmp_path / "turned.jpg", colour.rotate(90), exif=exif, quality=100, subsampling=0),
        "cmyk.jpg": save(tmp_path / "cmyk.jpg", colour.convert("CMYK"), quality=100, subsampling=0),
    }
    greys = {
        "grey.png": save(tmp_path / "grey.png", grey),
        "grey16.png": save(tmp_path / "grey16.png", Image.fromarray(wide)),
        "grey16.tiff": save(tmp_path / "grey16.tiff", Image.fromarray(wide)),
        "grey32.tiff": save(tmp_path / "grey32.tiff", Image.fromarray(wide.astype(np.int32))),
        "float.tif": save(tmp_path / "float.tif", Image.fromarray(np.asarray(grey).astype(np.float32) / 255)),
        "float255.tif": save(tmp_path / "float255.tif", Image.fromarray(np.asarray(grey).astype(np.float32))),
        "la.png": save(tmp_path / "la.png", grey.convert("LA")),
    }
    for name, path in coloured.items():
        near = np.abs(decode_image(path, 8, 3).astype(int) - rgb.transpose(2, 0, 1)).max()
        assert near <= (6 if name.endswith("jpg") else 0), name
        assert decode_image(path, 4, 1).shape == (1, 4, 4)
    for name, path in greys.items():
        for channels in (1, 3):
            pixels = decode_image(path, 8, channels)
            assert (pixels == np.asarray(grey)).all(), name
            assert pixels.shape == (channels, 8, 8)
    binary = save(tmp_path / "binary.png", Image.fromarray(np.asarray(grey) > 150))
    assert np.unique(decode_image(binary, 8, 3)).tolist() == [0, 255]


def test_the_centre_of_a_wide_or_large_image(tmp_path: Path) -> None:
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 200
    assert (decode_image(save(tmp_path / "wide.png", Image.fromarray(wide)), 10, 3)[:, :, 1:-1] == 200).all()
    large = save(tmp_path / "large.jpg", Image.fromarray(np.tile(wide, (10, 1, 1))))
    pixels = decode_image(large, 15, 3)
    assert abs(int(pixels[0, 7, 7]) - 200) <= 3
    assert pixels[0, 7, 0] <= 3
