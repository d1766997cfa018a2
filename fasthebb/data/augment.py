"""Augmentation of a batch of images: none, light, hard, contrast or mirror; the generator given decides.

Pixels are float32 [B, C, H, W] in [0, 1], before normalisation, and stay so. Random numbers are drawn on the CPU, so
that every device gets the same, and for a whole batch, so that a part of it is changed as it would be within the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

CROP_AREA = (0.25, 1.0)  # shares of the image
CROP_RATIO = (3 / 4, 4 / 3)  # width to height, both as shares of the image's
ANGLE = 15.0  # degrees, either way
JITTER = (0.6, 1.4)  # factors of brightness, contrast, saturation
HUE = 0.1  # of a full turn, either way
GREY = 0.1  # share of images that lose their colour
ERASE = 0.25  # share of images that lose a box
ERASE_AREA = (0.02, 0.33)
ERASE_RATIO = (0.3, 3.3)
CONTRAST_AREA = (0.08, 1.0)  # of "contrast", as are the next two
CONTRAST_JITTER = 0.8  # share of images that are jittered
CONTRAST_GREY = 0.2
LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue are (ITU-R BT.601)

Draw = Callable[[float, float], Tensor]  # uniform in [low, high), one for each image: [B]


class Dice:
    """Random numbers for the images of a batch, or for those in some of its rows.

    Args:
        generator: on the CPU.
        size: images of the whole batch, for all of which is drawn.
        rows: those that get a number, int64; all by default.
    """

    def __init__(self, generator: torch.Generator, size: int, rows: Tensor | None = None) -> None:
        self._generator, self._size, self._rows = generator, size, rows

    def share(self) -> Tensor:
        """Uniform in [0, 1), float32, one for each image."""
        return self._of_rows(torch.rand(self._size, generator=self._generator))

    def whole(self, low: int, high: int) -> Tensor:
        """Whole numbers in [low, high), one for each image."""
        return self._of_rows(torch.randint(low, high, (self._size,), generator=self._generator))

    def _of_rows(self, drawn: Tensor) -> Tensor:
        return drawn if self._rows is None else drawn[self._rows]


def augmented(name: str, pixels: Tensor, dice: Dice) -> Tensor:
    """Images [B, C, H, W], changed by chance as `name`, one of `AUGMENTATIONS`, says."""
    return _MOVES[name](pixels, dice) if len(pixels) else pixels


def light(pixels: Tensor, dice: Dice) -> Tensor:
    """A random flip left to right, and a random crop after reflect padding by an eighth of the side (4 pixels of 32).

    One gather of reflected indices: no pixel gets a new value.
    """
    rows, columns = (_shifted(side, dice).to(pixels.device) for side in pixels.shape[-2:])
    flip = dice.share()[:, None].to(pixels.device) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    images, channels = (torch.arange(size, device=pixels.device) for size in pixels.shape[:2])
    return pixels[images[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None]]


def hard(pixels: Tensor, dice: Dice) -> Tensor:
    """A random crop, rotation and flip; jitter of brightness, contrast and colour; a box erased.

    Crop: an area of 0.25 to 1 of the image, stretched by 3/4 to 4/3 (no side longer than the image's), turned by up to
    15 degrees, flipped left to right or not, all resampled bilinearly at once; reflected at the edges. Jitter:
    brightness and contrast by factors of 0.6 to 1.4; of 3 channels also saturation, and hue by up to a tenth of a turn;
    one image in ten becomes grey. Box (Zhong et al. 2020, "Random Erasing Data Augmentation"): in one image in four,
    0.02 to 0.33 of the area take the image's mean.
    """

    draw = _draws(pixels, dice)
    return _erase(_jitter(_move(pixels, draw, CROP_AREA, ANGLE), draw, GREY), draw)


def contrast(pixels: Tensor, dice: Dice) -> Tensor:
    """A random crop and flip, and strong jitter of colour: a view of an image for contrastive learning.

    Crop: an area of 0.08 to 1 of the image, stretched by 3/4 to 4/3, resampled bilinearly, flipped left to right or
    not. Jitter, of four images in five: that of `hard` in brightness, contrast, saturation and hue. Of 3 channels, one
    image in five then becomes grey. Source: Chen et al. 2020, "A simple framework for contrastive learning of visual
    representations", their colour distortion of strength 0.5, without blur, as for CIFAR-10.
    """
    draw = _draws(pixels, dice)
    moved = _move(pixels, draw, CONTRAST_AREA, 0.0)
    jittered = draw(0, 1) < CONTRAST_JITTER
    moved = torch.where(jittered[:, None, None, None], _jitter(moved, draw, 0.0), moved)
    if pixels.shape[1] != 3:
        return moved
    luma = torch.tensor(LUMA, device=pixels.device)[:, None, None]
    grey = (moved * luma).sum(1, keepdim=True).clamp_(0, 1)
    return torch.where((draw(0, 1) < CONTRAST_GREY)[:, None, None, None], grey, moved)


_MOVES: dict[str, Callable[[Tensor, Dice], Tensor]] = {
    "none": lambda pixels, _: pixels,
    "light": light,
    "hard": hard,
    "contrast": contrast,
    "mirror": lambda pixels, _: pixels.flip(3),  # left to right, all of them
}
AUGMENTATIONS = tuple(_MOVES)


def _draws(pixels: Tensor, dice: Dice) -> Draw:
    """Draws one number for each of the images, on their device."""

    def draw(low: float, high: float) -> Tensor:
        return dice.share().mul_(high - low).add_(low).to(pixels.device)

    return draw


def _shifted(side: int, dice: Dice) -> Tensor:
    """Source positions [B, side] of a crop shifted by up to side // 8 either way, reflected at the edges."""
    shift = dice.whole(-(side // 8), side // 8 + 1)[:, None]
    position = (torch.arange(side) + shift).abs()
    return side - 1 - (side - 1 - position).abs()


def _box(draw: Draw, area: tuple[float, float], ratio: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Width and height [B] of a random box, as shares of the image's; their ratio is uniform in its logarithm."""
    share = draw(*area)
    stretch = draw(math.log(ratio[0]), math.log(ratio[1])).exp()
    return (share * stretch).sqrt().clamp(max=1), (share / stretch).sqrt().clamp(max=1)


def _move(pixels: Tensor, draw: Draw, area: tuple[float, float], angle: float) -> Tensor:
    """Crop, turn by up to `angle` degrees and flip: one affine map from new image to old, both with corners at ±1."""
    height, width = pixels.shape[-2:]
    across, down = _box(draw, area, CROP_RATIO)
    x, y = draw(-1, 1) * (1 - across), draw(-1, 1) * (1 - down)  # the centre of the crop
    turn = draw(-math.radians(angle), math.radians(angle))
    cos, sin = turn.cos(), turn.sin()
    across = torch.where(draw(0, 1) < 0.5, -across, across)
    to_x = [across * cos, -down * sin * height / width, x]
    to_y = [across * sin * width / height, down * cos, y]
    grid = F.affine_grid(torch.stack(to_x + to_y, 1).view(-1, 2, 3), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def _jitter(pixels: Tensor, draw: Draw, grey: float) -> Tensor:
    """Brightness, contrast about the image's mean, colour, none for a share `grey`; what leaves [0, 1] is cut off."""
    brightness, contrast = (draw(*JITTER)[:, None, None, None] for _ in range(2))
    pixels = pixels * brightness
    pixels = pixels.mean((1, 2, 3), keepdim=True).lerp(pixels, contrast)
    if pixels.shape[1] == 3:
        pixels = (_colour(pixels, draw, grey) @ pixels.flatten(2)).view_as(pixels)
    return pixels.clamp_(0, 1)


def _colour(pixels: Tensor, draw: Draw, grey: float) -> Tensor:
    """Matrices [B, 3, 3] on red, green, blue: saturation, none of it for a share `grey`, then hue as a turn about the
    grey axis."""
    one = torch.eye(3, device=pixels.device)
    luma = torch.tensor(LUMA, device=pixels.device).expand(3, 3)
    saturation = torch.where(draw(0, 1) < grey, 0, draw(*JITTER))[:, None, None]
    hue = (draw(-HUE, HUE) * 2 * math.pi)[:, None, None]
    axis = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=pixels.device) / math.sqrt(3)
    turn = hue.cos() * one + (1 - hue.cos()) / 3 + hue.sin() * axis
    return turn @ luma.lerp(one, saturation)


def _erase(pixels: Tensor, draw: Draw) -> Tensor:
    """Fill a random box of some images with the mean of their channels."""
    across, down = _box(draw, ERASE_AREA, ERASE_RATIO)
    chosen = draw(0, 1) < ERASE
    rows, columns = (
        _inside(side, share, draw(0, 1) * (1 - share)) for side, share in zip(pixels.shape[-2:], (down, across))
    )
    box = (chosen[:, None, None] & rows[:, :, None] & columns[:, None])[:, None]
    return torch.where(box, pixels.mean((2, 3), keepdim=True), pixels)


def _inside(side: int, share: Tensor, start: Tensor) -> Tensor:
    """Which pixels [B, side] of a line have their centre between `start` and `start + share`, of a line of length 1."""
    centre = (torch.arange(side, device=start.device) + 0.5) / side
    return (centre >= start[:, None]) & (centre < (start + share)[:, None])
