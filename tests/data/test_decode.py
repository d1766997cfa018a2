"""Image files of every kind become the same square of pixels."""

import io
import os
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from painted import paint
from PIL import EpsImagePlugin, Image, UnidentifiedImageError
from tiny import QUIET

from fasthebb.data import decode_image
from fasthebb.data.check import check
from fasthebb.data.decode import RESIZES, decode_each, in_threads, read_item
from fasthebb.data.decoded import decode_items
from fasthebb.data.listing import Item
from fasthebb.study.glance import _shorter

ORANGE = (200, 100, 50)


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
        "grey32 of 8.tiff": save(tmp_path / "grey32 of 8.tiff", Image.fromarray(np.asarray(grey).astype(np.int32))),
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


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file of any bit depth and colour type, which pillow reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def wide(*values: int) -> bytes:
    """One row of a PNG file with 16 bits a value."""
    return b"\0" + (np.array(values) * 257).astype(">u2").tobytes()


def test_sixteen_bits_whatever_the_channels() -> None:
    files = {
        "grey": (png(1, 1, 16, 0, wide(120)), [120] * 3),
        "colour": (png(1, 1, 16, 2, wide(*ORANGE)), list(ORANGE)),
        "grey over white": (png(1, 1, 16, 4, wide(7, 0)), [255] * 3),
        "colour over white": (png(1, 1, 16, 6, wide(*ORANGE, 255)), list(ORANGE)),
        "big-endian": (encoded(Image.fromarray(np.full((2, 2), 120 * 257, ">u2")), "TIFF"), [120] * 3),
    }
    for name, (data, want) in files.items():
        assert decode_image(data, 1, 3).ravel().tolist() == want, name


def test_transparency_of_a_palette_is_white() -> None:
    palette = Image.new("RGB", (4, 4), ORANGE).quantize(4)
    index = palette.getpixel((0, 0))
    for kind in ("PNG", "GIF"):
        assert (decode_image(encoded(palette, kind, transparency=index), 4, 3) == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), ORANGE), Image.new("RGB", (4, 4))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode_image(data, 1, 3).ravel().tolist() == list(ORANGE)


def test_a_malformed_exif_block_does_not_matter() -> None:
    data = encoded(Image.new("RGB", (8, 8), "white"), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (decode_image(data, 4, 3) == 255).all()


def test_three_ways_to_a_square() -> None:
    """A wide image, black, white and black thirds, at a third of its width."""
    pixels = np.zeros((40, 120), np.uint8)
    pixels[:, 40:80] = 255
    data = encoded(Image.fromarray(pixels), "PNG")
    crop, stretch, pad = (decode_image(data, 40, 1, resize)[0] for resize in RESIZES)
    assert (crop[:, 1:-1] == 255).all()
    assert (stretch[:, 15:25] == 255).all()
    assert (stretch[:, :12] == 0).all()
    assert (pad[14:26, 15:25] == 255).all()
    assert (pad[:13] == 0).all()
    assert (pad[27:] == 0).all()
    for resize in RESIZES:
        assert decode_image(encoded(Image.new("L", (1, 900), 255), "PNG"), 8, 1, resize).max() == 255


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_truncated_file_is_unreadable(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    data = encoded(noise, kind)
    with pytest.raises((OSError, SyntaxError)):
        decode_image(data[: len(data) // 2], 8, 3)


@pytest.mark.parametrize("kind", ["EPS", "ICO", "TGA", "PCX", "JPEG2000"])
def test_no_other_format_is_opened(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow has Ghostscript read an EPS: a program that a picture of a data set must not start."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **more: pytest.fail("Ghostscript was started"))
    file = tmp_path / "a" / "disguised.jpg"
    file.parent.mkdir()
    save(file, Image.new("RGB", (16, 16), ORANGE), format=kind)
    with pytest.raises(UnidentifiedImageError):
        decode_image(file, 8, 3)
    paint(tmp_path / "a" / "good.png")
    (train,) = (part for part in check(f"folder:{tmp_path}").parts if part.unreadable)
    assert train.unreadable == ("a/disguised.jpg (no image of a known kind)",)
    assert _shorter(Item("disguised.jpg", 0, str(file))) is None


def test_unreadable_items_say_why_in_one_line(tmp_path: Path) -> None:
    bomb = png(20_000, 20_000, 1, 0, bytes((20_000 // 8 + 1) * 20_000))
    files = {"good.png": encoded(Image.new("L", (2, 2), 9), "PNG"), "bomb.png": bomb, "two\nlines.png": b"no image"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    items = [Item(name, 1, str(tmp_path / name)) for name in ("gone.png", *files)]
    images, failures = decode_items(items, 2, 1, "crop", QUIET)
    assert (images.paths, images.labels.tolist(), images.images.tolist()) == (("good.png",), [1], [[[[9, 9], [9, 9]]]])
    assert [failure.partition(" (")[0] for failure in failures] == ["gone.png", "bomb.png", "two lines.png"]
    assert "No such file" in failures[0]
    assert "decompression bomb" in failures[1]
    assert failures[2].endswith("(no image of a known kind)")


def test_items_of_an_archive(tmp_path: Path) -> None:
    grey = [encoded(Image.new("L", (2, 2), value), "PNG") for value in (10, 20)]
    archive = tmp_path / "images.tar"
    archive.write_bytes(b"head" + grey[0] + b"between" + grey[1])
    second = 4 + len(grey[0]) + 7
    items = [
        Item("a", 0, str(archive), 4, len(grey[0])),
        Item("b", 1, str(archive), second),
        Item("c", 1, str(archive), second, len(grey[1]) + 1),
    ]
    assert [read_item(item) for item in items[:2]] == grey
    images, failures = decode_items(items, 1, 1, "crop", QUIET)
    assert images.images.flatten().tolist() == [10, 20]
    assert failures == ["c (its archive is cut short)"]


def test_order_is_kept_over_many_blocks(tmp_path: Path) -> None:
    """Every seventh of 300 is unreadable; blocks arrive in order, a few images each."""
    for number in range(300):
        data = encoded(Image.new("L", (1, 1), number % 256), "PNG") if number % 7 else b""
        (tmp_path / str(number)).write_bytes(data)
    items = [Item(str(number), number, str(tmp_path / str(number))) for number in range(300)]
    blocks: list[np.ndarray] = []
    reasons = decode_each(items, 1, 1, "crop", blocks.append, QUIET)
    good = [number for number in range(300) if number % 7]
    assert np.concatenate(blocks).ravel().tolist() == [number % 256 for number in good]
    assert list(reasons) == sorted(set(range(300)) - set(good))
    assert max(map(len, blocks)) <= 64
    images, failures = decode_items(items, 1, 1, "crop", QUIET)
    assert images.labels.tolist() == good
    assert len(failures) == len(reasons)


def test_calls_that_have_not_begun_are_never_made() -> None:
    begun = []
    results = in_threads(lambda number: begun.append(number) or time.sleep(0.05), range(10_000))
    next(results)
    results.close()
    assert len(begun) <= 2 * min(16, os.cpu_count() or 1) + 1


def test_few_calls_are_under_way_at_a_time() -> None:
    begun = []
    results = in_threads(lambda number: begun.append(number) or number, range(10_000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(begun) < 200
    assert list(results) == list(range(3, 10_000))
