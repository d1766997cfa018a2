"""Pictures pixel by pixel: filter grids, confusion matrices and real images."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fasthebb.study import pictures


def pixels(uri: str) -> NDArray[np.uint8]:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_filters_are_stretched_one_by_one_and_enlarged_without_blur() -> None:
    weights = np.zeros((3, 3, 2, 2))
    weights[0, :, 0, 0], weights[1, 2] = -4.0, [[0.0, 1.0], [1.0, 2.0]]
    grid = pixels(pictures.filter_grid(weights, scale=2))
    assert grid.shape == (4, 16, 4)
    assert grid[0:2, 0:2, :3].max() == 0
    assert grid[0:2, 2:4, :3].min() == 255
    assert np.array_equal(grid[0:4:2, 6:10:2, 2], [[0, 128], [128, 255]])
    assert grid[0, 12].tolist() == [128, 128, 128, 255]
    assert grid[:, 4:6, 3].max() == 0


def test_grey_filters_and_broken_ones() -> None:
    weights = np.arange(9.0).reshape(1, 1, 3, 3)
    grey = pixels(pictures.filter_grid(weights, scale=1))
    assert np.array_equal(grey[..., 0], grey[..., 2])
    weights[0, 0, 1, 1] = np.inf
    assert np.all(pixels(pictures.filter_grid(weights, scale=1))[..., :3] == 128)


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (4, 75), (0, 3, 5, 5)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"not {list(shape)}")):
        pictures.filter_grid(np.zeros(shape))


def test_a_confusion_matrix_shows_every_number_and_shades_by_root_of_share() -> None:
    svg = pictures.heat_map(np.array([[9, 3], [0, 4]]), ["<cat> & dog", "a name that is far too long"], "said <so>")
    root = ET.fromstring(svg)
    assert root.get("aria-label") == "said <so>"
    rects = [node for node in root.iter("rect") if node.get("fill-opacity")]
    assert [(node.get("x"), node.get("y"), node.get("fill-opacity")) for node in rects] == [
        ("0", "0", "0.87"),
        ("30", "0", "0.50"),
        ("30", "30", "1.00"),
    ]
    assert [node.get("fill") for node in rects] == [pictures.RIGHT, pictures.WRONG, pictures.RIGHT]
    assert {"9", "3", "4", "<cat> & dog", "a name that is …"} == {node.text for node in root.iter("text")}


def test_a_large_confusion_matrix_is_an_image_with_the_same_shades() -> None:
    counts = np.diag(np.arange(25))
    counts[3, 20] = 1
    image = pictures.heat_map(counts, [str(n) for n in range(25)], "large")
    assert 'alt="large"' in image
    grid = pixels(re.findall('src="([^"]+)"', image)[0])
    assert grid.shape == (400, 400, 4)
    assert grid[8, 8, 3] == 0
    assert grid[24, 24].tolist() == [0, 0x5A, 0x94, 255]
    assert grid[3 * 16, 3 * 16].tolist() == [0, 0x5A, 0x94, round(255 * 0.75**0.5)]
    assert grid[3 * 16, 20 * 16].tolist() == [0xA8, 0x43, 0, round(255 * 0.25**0.5)]


def test_thumbnails_keep_small_images_and_shrink_large_ones() -> None:
    small = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert np.array_equal(pixels(pictures.thumbnail(small)), small.transpose(1, 2, 0))
    assert np.array_equal(pixels(pictures.thumbnail(small[:1])), small[0])
    assert pixels(pictures.thumbnail(np.full((3, 224, 112), 7, dtype=np.uint8))).shape == (64, 32, 3)
