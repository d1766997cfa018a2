"""Batches that are augmented, and shared among ranks: every image and number where it would be in one whole batch."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from test_loader import noise, numbered

from fasthebb.data import ImageSet, Loader
from fasthebb.data.augment import Dice, augmented


def test_augmented_images_are_flipped_crops_of_their_own_image() -> None:
    images = noise(64)
    ((x, labels),) = Loader(images, 64, augment="light", seed=1)
    padded = torch.nn.functional.pad(images.images.float(), (2, 2, 2, 2), mode="reflect")
    seen = set()
    for image, label in zip((x * 255).round(), labels.tolist()):
        source = padded[label]
        views = {
            (top, left, flip): (source.flip(-1) if flip else source)[:, top : top + 16, left : left + 16]
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
        }
        matches = [key for key, view in views.items() if torch.equal(view, image)]
        assert matches
        seen.add(matches[0])
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(5))
    assert {flip for _, _, flip in seen} == {False, True}


def test_augmentation_changes_with_epoch_batch_and_seed() -> None:
    images = ImageSet(noise(1).images.expand(8, -1, -1, -1), torch.arange(8))
    draws = [
        x
        for seed in (0, 1)
        for epoch in (0, 1)
        for x, _ in Loader(images, 4, seed=seed, augment="light").batches(epoch)
    ]
    assert len(draws) == 8
    assert all(not torch.equal(a, b) for a, b in pairwise(draws))


def test_seed_epoch_and_number_alone_seed_the_augmentation_of_a_batch() -> None:
    images = noise(10)
    batches = Loader(images, 4, seed=7, shuffle=False, augment="light").batches(2)
    for number, (x, labels) in enumerate(batches):
        seed = np.random.SeedSequence((7, 2, number + 1)).generate_state(1, np.uint64)[0]
        pixels = images.images[labels].float() / 255
        assert torch.equal(x, augmented("light", pixels, Dice(torch.Generator().manual_seed(int(seed)), len(x))))


@pytest.mark.parametrize(("images", "size", "of"), [(10, 4, 2), (10, 4, 3), (9, 4, 2), (9, 4, 6), (3, 8, 5)])
@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("augment", ["light", "hard"])
def test_parts_are_together_the_batch(images: int, size: int, of: int, views: int, augment: str) -> None:
    def loader(**more: Any) -> Loader:
        return Loader(noise(images), size, seed=3, augment=augment, views=views, **more)

    parts = [loader(part=(number, of)) for number in range(of)]
    assert {len(part) for part in parts} == {len(loader())}
    for number, (whole, *shares) in enumerate(zip(loader().batches(1), *(part.batches(1) for part in parts))):
        for view in range(views):
            pieces = [(x.chunk(views)[view], y.chunk(views)[view]) if len(x) else (x, y) for x, y in shares]
            for every, piece in zip(whole, zip(*pieces)):
                assert (every.chunk(views)[view] - torch.cat(piece)).abs().max() < 1e-6
        counts = [len(x) // views for x, _ in shares]
        assert max(counts) - min(counts) <= 1
        assert loader().images_in(number) == sum(counts)


@pytest.mark.parametrize("part", [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_is_none_is_refused(part: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is no share of a batch: give"):
        Loader(noise(4), 2, part=part)


def test_single_pixels_survive_augmentation() -> None:
    ((x, labels),) = Loader(numbered(5, side=1), 5, augment="light")
    assert torch.equal((x[:, 0, 0, 0] * 255).round().long(), labels)
