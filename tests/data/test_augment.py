"""Augmentation: each part of "hard" and "contrast" alone, on images that tell what happened to them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from fasthebb.data import augment
from fasthebb.data.augment import AUGMENTATIONS, LUMA, Dice, augmented

NEUTRAL = {
    "CROP_AREA": (1.0, 1.0), "CROP_RATIO": (1.0, 1.0), "ANGLE": 0.0, "JITTER": (1.0, 1.0),
    "HUE": 0.0, "GREY": 0.0, "ERASE": 0.0, "CONTRAST_AREA": (1.0, 1.0), "CONTRAST_GREY": 0.0,
}  # fmt: skip


def only(monkeypatch: pytest.MonkeyPatch, *parts: str) -> None:
    """Switch every part off but these and the flip."""
    for name in NEUTRAL.keys() - set(parts):
        monkeypatch.setattr(augment, name, NEUTRAL[name])


def dice(pixels: Tensor, seed: int) -> Dice:
    return Dice(Generator().manual_seed(seed), len(pixels))


def hard(pixels: Tensor, seed: int = 0) -> Tensor:
    return augmented("hard", pixels, dice(pixels, seed))


def contrast(pixels: Tensor, seed: int = 0) -> Tensor:
    return augmented("contrast", pixels, dice(pixels, seed))


def noise(count: int, channels: int, height: int, width: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    generator = Generator().manual_seed(1)
    return torch.rand(count, channels, height, width, generator=generator) * (high - low) + low


def places(count: int, height: int, width: int) -> Tensor:
    """Every pixel says where it is: its column and its row, from 0 to 1 over the image."""
    x, y = ((torch.arange(side) + 0.5) / side for side in (width, height))
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)]).expand(count, -1, -1, -1)


def maps(
    monkeypatch: pytest.MonkeyPatch,
    *parts: str,
    height: int = 33,
    width: int = 33,
    change: Callable[[Tensor], Tensor] = hard,
) -> tuple[Tensor, Tensor]:
    """Of 600 moved images, how far one pixel right and one down take in the old image, in pixels, [600, 2, 2] with
    columns for the two steps, and the centre [600, 2], in shares of the image."""
    only(monkeypatch, *parts)
    moved = change(places(600, height, width))
    i, j = height // 2, width // 2
    right = (moved[:, :, i, j + 1] - moved[:, :, i, j - 1]) / 2
    below = (moved[:, :, i + 1, j] - moved[:, :, i - 1, j]) / 2
    return torch.stack([right, below], 2) * torch.tensor([[width], [height]]), moved[:, :, i, j]


def spans(values: Tensor, low: float, high: float, slack: float = 0.1) -> bool:
    """Whether they lie between low and high, and come close to both."""
    near = slack * (high - low)
    least, most = values.min().item(), values.max().item()
    return low - 1e-3 <= least <= low + near and high - near <= most <= high + 1e-3


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(6, 3, 32, 32), (5, 1, 28, 28), (4, 4, 9, 16), (3, 2, 1, 1), (1, 3, 2, 3)])
def test_the_generator_alone_decides_and_values_stay_in_range(name: str, shape: tuple[int, ...]) -> None:
    pixels = noise(*shape)
    before = pixels.clone()
    first = augmented(name, pixels, dice(pixels, 3))
    torch.manual_seed(9)
    assert torch.equal(first, augmented(name, pixels, dice(pixels, 3)))
    assert torch.equal(pixels, before)
    assert (first.shape, first.dtype) == (pixels.shape, torch.float32)
    assert 0 <= first.min() <= first.max() <= 1
    if name == "none":
        assert torch.equal(first, pixels)
    elif name == "mirror":
        assert torch.equal(first, pixels.flip(3))
    elif shape[2] > 8:
        assert not torch.equal(first, augmented(name, pixels, dice(pixels, 4)))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_some_rows_of_a_batch_are_changed_as_within_the_whole(name: str) -> None:
    pixels, rows = noise(7, 3, 16, 16), torch.tensor([5, 0, 3])
    part = augmented(name, pixels[rows], Dice(Generator().manual_seed(3), 7, rows))
    assert (part - augmented(name, pixels, dice(pixels, 3))[rows]).abs().max() < 1e-6


def test_images_of_a_batch_differ() -> None:
    moved = hard(noise(1, 3, 16, 16).expand(20, -1, -1, -1))
    assert len({image.numpy().tobytes() for image in moved}) == 20


@pytest.mark.parametrize("change", [hard, contrast])
def test_without_its_parts_it_is_a_flip(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
    only(monkeypatch)
    pixels = noise(400, 3, 8, 6)
    moved = change(pixels)
    same, flipped = ((moved - other).abs().amax((1, 2, 3)) < 1e-5 for other in (pixels, pixels.flip(3)))
    assert (same ^ flipped).all()
    assert 150 < flipped.sum() < 250


@pytest.mark.parametrize(("height", "width"), [(33, 33), (25, 41)])
def test_rotation_is_rigid_and_at_most_15_degrees(monkeypatch: pytest.MonkeyPatch, height: int, width: int) -> None:
    steps, centre = maps(monkeypatch, "ANGLE", height=height, width=width)
    torch.testing.assert_close(steps.mT @ steps, torch.eye(2).expand(600, 2, 2), rtol=0, atol=1e-4)
    torch.testing.assert_close(centre, torch.full((600, 2), 0.5))
    assert spans(torch.atan2(-steps[:, 0, 1], steps[:, 1, 1]).rad2deg(), -15, 15)


@pytest.mark.parametrize(
    ("change", "part", "least", "height", "width"),
    [(hard, "CROP_AREA", 0.25, 33, 33), (hard, "CROP_AREA", 0.25, 25, 41), (contrast, "CONTRAST_AREA", 0.08, 25, 41)],
)
def test_crops_have_the_area_and_ratio_and_lie_inside(
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Tensor], Tensor],
    part: str,
    least: float,
    height: int,
    width: int,
) -> None:
    steps, centre = maps(monkeypatch, part, "CROP_RATIO", height=height, width=width, change=change)
    assert steps[:, 0, 1].abs().max() < 1e-4
    assert steps[:, 1, 0].abs().max() < 1e-4
    share = torch.stack([steps[:, 0, 0].abs(), steps[:, 1, 1]], 1)  # of width and height
    assert spans(share.prod(1), least, 1)
    assert (share <= 1 + 1e-4).all()
    ratio = share[:, 0] / share[:, 1]
    assert spans(ratio[(share < 0.999).all(1)].log(), math.log(3 / 4), math.log(4 / 3))
    assert ((centre - share / 2 > -1e-3) & (centre + share / 2 < 1 + 1e-3)).all()
    assert spans((centre - share / 2)[:, 0] / (1 - share)[:, 0].clamp(min=1e-2), 0, 1)


def test_a_resized_crop_is_bilinear(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "CROP_AREA", "CROP_RATIO", "ANGLE")
    image = noise(1, 1, 12, 12)
    carrier = torch.cat([image, places(1, 12, 12)], 1).expand(50, -1, -1, -1)
    monkeypatch.setattr(augment, "_jitter", lambda pixels, draw, grey: pixels)
    checked = 0
    for moved in hard(carrier):
        for value, x, y in moved.flatten(1).T.tolist():
            column, row = x * 12 - 0.5, y * 12 - 0.5
            left, top = int(column), int(row)
            if not (0.01 < column < 10.99 and 0.01 < row < 10.99):
                continue
            right_share, low_share = column - left, row - top
            (a, b), (c, d) = image[0, 0, top : top + 2, left : left + 2].tolist()
            upper, lower = a + (b - a) * right_share, c + (d - c) * right_share
            assert abs(upper + (lower - upper) * low_share - value) < 1e-4
            checked += 1
    assert checked > 5000


def test_brightness_and_contrast_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "JITTER")
    pixels = noise(300, 1, 4, 4, 0.3, 0.5)
    moved = hard(torch.cat([pixels, pixels.flip(3)], 3))
    before, after = (x.flatten(1).sort(1).values for x in (torch.cat([pixels, pixels], 3), moved))  # flips forgotten
    brightness = after.mean(1) / before.mean(1)
    slope = (after[:, -1] - after[:, 0]) / (before[:, -1] - before[:, 0])
    line = before.mean(1, keepdim=True) * brightness[:, None] + (before - before.mean(1, keepdim=True)) * slope[:, None]
    torch.testing.assert_close(after, line, rtol=0, atol=1e-5)
    assert spans(brightness, 0.6, 1.4)
    assert spans(slope / brightness, 0.6, 1.4)


def one_colour(count: int) -> Tensor:
    """Mild colours, one an image, so that nothing is clamped and a flip is nothing."""
    return noise(count, 3, 1, 1, 0.4, 0.6).expand(-1, -1, 2, 2).contiguous()


def test_saturation_moves_a_colour_along_its_line_to_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "JITTER")
    pixels = one_colour(300)
    before, after = pixels[..., 0, 0], hard(pixels)[..., 0, 0]
    luma = torch.tensor(LUMA)
    away, now = (x - (x @ luma)[:, None] for x in (before, after))
    torch.testing.assert_close(torch.cosine_similarity(away, now), torch.ones(300), rtol=0, atol=1e-3)


def test_hue_turns_about_the_grey_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "HUE")
    pixels = one_colour(300)
    before, after = pixels[..., 0, 0], hard(pixels)[..., 0, 0]
    torch.testing.assert_close(after.mean(1), before.mean(1))
    away, now = (x - x.mean(1, keepdim=True) for x in (before, after))
    torch.testing.assert_close(now.norm(dim=1), away.norm(dim=1), rtol=0, atol=1e-5)
    cos, sin = (away * now).sum(1), torch.linalg.cross(away, now).sum(1) / math.sqrt(3)
    assert spans(torch.atan2(sin, cos).rad2deg(), -36, 36)


def test_some_images_become_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "GREY", "HUE")
    pixels = one_colour(2000)
    moved = hard(pixels)
    grey = (moved.amax(1) - moved.amin(1)).amax((1, 2)) < 1e-5
    assert 140 < grey.sum() < 260
    luma = torch.einsum("c,nchw->nhw", torch.tensor(LUMA), pixels)
    torch.testing.assert_close(moved[grey], luma[grey][:, None].expand(-1, 3, -1, -1))


@pytest.mark.parametrize(("height", "width"), [(40, 40), (24, 60)])
def test_a_box_of_some_images_takes_their_mean(monkeypatch: pytest.MonkeyPatch, height: int, width: int) -> None:
    only(monkeypatch, "ERASE")
    half = noise(1200, 2, height, width // 2)
    pixels = torch.cat([half, half.flip(3)], 3)  # a flip is nothing
    moved = hard(pixels)
    erased = ((moved - pixels).abs() > 1e-3).any(1)
    hit = erased.any((1, 2))
    assert 240 < hit.sum() < 360
    boxes = erased[hit]
    rows, columns = boxes.any(2), boxes.any(1)
    full = rows[:, :, None] & columns[:, None]
    mean = pixels[hit].mean((2, 3), keepdim=True).expand_as(pixels[hit])
    torch.testing.assert_close(torch.where(full[:, None], mean, pixels[hit]), moved[hit], rtol=0, atol=1e-5)
    share = full.float().mean((1, 2))
    assert 0.01 < share.min() < 0.06  # whole pixels only
    assert 0.27 < share.max() < 0.36
    for line in (rows, columns):
        assert (line.int().diff(dim=1).abs().sum(1) <= 2).all()  # one piece


def test_most_views_are_jittered_and_some_become_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "JITTER")
    pixels = one_colour(2000)[:, :1]
    factor = (contrast(pixels) / pixels)[:, 0, 0, 0]
    same = (factor - 1).abs() < 1e-5
    assert 320 < same.sum() < 480
    assert spans(factor, 0.6, 1.4)
    only(monkeypatch)
    monkeypatch.setattr(augment, "CONTRAST_GREY", 0.2)
    pixels = one_colour(2000)
    moved = contrast(pixels)
    grey = (moved.amax(1) - moved.amin(1)).amax((1, 2)) < 1e-6
    assert 320 < grey.sum() < 480
    luma = torch.einsum("c,nchw->nhw", torch.tensor(LUMA), pixels)
    torch.testing.assert_close(moved[grey], luma[grey][:, None].expand(-1, 3, -1, -1))
    torch.testing.assert_close(moved[~grey], pixels[~grey])
