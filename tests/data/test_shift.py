"""Images moved by whole pixels: against padding and cutting, and as a loader gives them."""

from __future__ import annotations

import pytest
import torch

from fasthebb.data import ImageSet, Loader
from fasthebb.data.shift import Shift, shifted
from fasthebb.data.whitening import fit_whitening


def pixels(count: int = 9, height: int = 6, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("by", [(0, 0), (2, 0), (-2, 0), (0, 3), (0, -3), (1, -5), (5, 7), (-5, -7)])
def test_reflected_at_the_edges(by: Shift) -> None:
    x = pixels()
    down, right = by
    padded = torch.nn.functional.pad(x.float(), (7, 7, 5, 5), mode="reflect")
    want = padded[:, :, 5 - down : 11 - down, 7 - right : 15 - right]
    assert torch.equal(shifted(x, by).float(), want)


def test_down_and_to_the_right() -> None:
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 1
    assert shifted(image, (1, 0))[0, 0].nonzero().tolist() == [[3, 2]]
    assert shifted(image, (0, -2))[0, 0].nonzero().tolist() == [
        [2, 0],
        [2, 4],
    ]  # reflected: what is as far beyond the edge


def test_a_loader_moves_first() -> None:
    """Before it mirrors, normalises and whitens."""
    images = ImageSet(pixels(20, 8, 8), torch.arange(20))
    moved = ImageSet(shifted(images.images, (2, -1)), images.labels)
    whiten = fit_whitening(Loader(images, 4))
    for augment in ("none", "mirror", "hard"):
        more = {"mean": [0.4] * 3, "std": [0.2] * 3, "augment": augment, "whiten": whiten}
        pairs = zip(Loader(images, 6, shift=(2, -1), **more), Loader(moved, 6, **more))  # type: ignore[arg-type]
        for (x, labels), (y, same) in pairs:
            assert torch.equal(x, y)
            assert torch.equal(labels, same)


@pytest.mark.parametrize("by", [(6, 0), (0, 8), (-6, 0), (0, -9)])
def test_a_shift_as_long_as_the_images(by: Shift) -> None:
    images = ImageSet(pixels(), torch.arange(9))
    with pytest.raises(
        ValueError, match=f"shift {max(map(abs, by))}: images of 6 × 8 pixels can be moved by less alone"
    ):
        Loader(images, 4, shift=by)
