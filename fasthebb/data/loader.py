"""Batches from images in memory or on disk, in an order that (seed, epoch) alone decides, so that a run resumes
mid-epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fasthebb.data.augment import AUGMENTATIONS, Dice, augmented
from fasthebb.data.decode import in_threads
from fasthebb.data.imageset import ImageSet, whole_numbers
from fasthebb.data.shift import Shift, check_shift, shifted
from fasthebb.data.stream import Stream
from fasthebb.data.whitening import Whitening

RESIDENT = 4 << 30  # bytes: images up to this size move to the device whole
CHUNK = 16 << 20  # bytes of images counted at a time
AHEAD = 64 << 20  # bytes of a stream's pixels decoded ahead, of two batches at least
SAMPLE = 10_000  # images of a stream whose statistics stand for all


def channel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels, in units of the full scale (pixel / 255); no label
    read.

    One pass in small pieces: memory-mapped images of any size will do; of a stream, `SAMPLE` images at even distances
    stand for all. The deviation of a constant channel is given as 1. Raises ValueError if there are no images.
    """
    if len(images) == 0:
        raise ValueError("0 images have no channel statistics: give at least one")
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for counts in _histograms(images):
        share = counts.double() / counts.sum()
        mean = (share @ values).item()
        deviation = (share @ (values - mean).square()).sqrt().item()
        means.append(mean)
        deviations.append(deviation if deviation > 1e-9 else 1.0)
    return tuple(means), tuple(deviations)


def _histograms(images: ImageSet) -> Tensor:
    """How often each channel of uint8 [M, C, H, W] has each value: int64 [C, 256], on the CPU."""
    streams = isinstance(images.images, Stream)
    rows = torch.arange(0, len(images), max(1, len(images) // SAMPLE) if streams else 1)
    counts = torch.zeros(images.images.shape[1], 256, dtype=torch.int64)
    step = max(1, CHUNK // images.images.shape[1:].numel())
    parts = torch.split(rows, step)
    for pixels in in_threads(images.pixels, parts) if streams else map(images.pixels, parts):
        channels = pixels.cpu().unbind(1)
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in channels])
    return counts


class Loader:
    """Iterate over (x float32 [B, C, H, W], labels int64 [B]) batches of an `ImageSet`, normalised per channel.

    x = (pixel / 255 - mean) / std. No image is dropped; a last batch of one image joins the batch before. A set of up
    to 4 GiB is moved to `device` whole, as uint8: move it there yourself to share it among loaders. A larger one stays
    where it is, memory-mapped for example, and each batch is picked there, then moved. Batches of a stream are decoded
    ahead, in threads; its order keeps images of one shard near each other.

    batch_size: images a batch. indices: the images to go through, all by default. seed: with the epoch it decides the
    order, with epoch and batch the augmentation; not negative. shuffle: whether to shuffle. mean, std: one per
    channel, see `channel_statistics`. augment: one of `fasthebb.data.augment.AUGMENTATIONS`. views: how often a batch
    holds each of its images, augmented anew each time: first all of them once, then all again. shift: pixels down and
    to the right by which all images are moved first, reflected at the edges. whiten: applied last. part: (r, n) gives
    the r-th of n even shares of each batch, as that batch has them: of ranks that share one batch of `batch_size`; it
    may be empty.

    Raises ValueError for no images, a batch size or views under 1, indices outside the set, statistics that do not
    fit, an unknown `augment`, a shift as long as the images, a part outside its number.
    """

    def __init__(
        self,
        images: ImageSet,
        batch_size: int,
        *,
        indices: Tensor | Sequence[int] | None = None,
        seed: int = 0,
        shuffle: bool = True,
        mean: Tensor | Sequence[float] | None = None,
        std: Tensor | Sequence[float] | None = None,
        device: str | torch.device = "cpu",
        augment: str = "none",
        views: int = 1,
        shift: Shift = (0, 0),
        whiten: Whitening | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        if not 0 <= part[0] < part[1]:
            raise ValueError(f"part {part} is no share of a batch: give (r, n) with r from 0 to n - 1")
        if batch_size < 1:
            raise ValueError(f"batch size {batch_size} must be at least 1")
        if views < 1:
            raise ValueError(f"views {views} must be at least 1")
        if augment not in AUGMENTATIONS:
            raise ValueError(f"augment {augment!r} is unknown: choose from {', '.join(AUGMENTATIONS)}")
        check_shift(shift, *images.images.shape[2:])
        if seed < 0:
            raise ValueError(f"seed {seed} must not be negative")
        self.indices = _check_indices(indices, len(images))
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.augment = augment
        self.views = views
        self.shift = shift
        self.part = part
        self.device = torch.device(device)
        self.whiten = None if whiten is None else whiten.to(self.device)
        self.epoch = 0
        stays = isinstance(images.images, Stream) or images.images.nbytes > RESIDENT
        self._images = images if stays else replace(images, images=images.images.to(self.device))  # type: ignore[union-attr]
        self._labels = images.labels.to(self.device)
        self._mean = _per_channel("mean", mean, 0.0, images.images.shape[1]).to(self.device)
        self._std = _per_channel("std", std, 1.0, images.images.shape[1]).to(self.device)

    def __len__(self) -> int:
        """Batches an epoch."""
        full, rest = divmod(len(self.indices), self.batch_size)
        merged = rest == 1 and full > 0
        return full + (rest > 0 and not merged)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.batches(self.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through, counted from 0."""
        self.epoch = epoch

    def order(self, epoch: int) -> Tensor:
        """The images of `epoch` as indices into the set, int64, in the order in which its batches give them."""
        if not self.shuffle:
            return self.indices
        generator = _generator(self.seed, epoch)
        if isinstance(self._images.images, Stream):
            return self._images.images.order(self.indices, generator)
        return self.indices[torch.randperm(len(self.indices), generator=generator)]

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the batches of `epoch` from number `start` on, equal to those of an uninterrupted epoch bit for
        bit.

        Raises ValueError for a start outside [0, len(self)].
        """
        if not 0 <= start <= len(self):
            raise ValueError(f"start {start} is not a batch: an epoch has {len(self)}")
        return self._batches(self.order(epoch), epoch, range(start, len(self)))

    def images_in(self, batch: int) -> int:
        """How many images a batch of this number has, of all parts together and in one view."""
        last = len(self) - 1
        return self.batch_size if batch < last else len(self.indices) - last * self.batch_size

    def _batches(self, order: Tensor, epoch: int, numbers: range) -> Iterator[tuple[Tensor, Tensor]]:
        def pixels(number: int) -> Tensor:
            found = self._images.pixels(self._mine(order, number)[1])
            return found.pin_memory() if self.device.type == "cuda" and found.device.type == "cpu" else found

        streams = isinstance(self._images.images, Stream)
        image = self._images.images.shape[1:].numel()
        ahead = max(2, AHEAD // (self.batch_size * image))
        for number, found in zip(numbers, in_threads(pixels, numbers, ahead) if streams else map(pixels, numbers)):
            yield self._batch(found, order, epoch, number)

    def _mine(self, order: Tensor, number: int) -> tuple[Tensor, Tensor]:
        # Of this part, places within the batch and images.
        size = self.images_in(number)
        places = torch.arange(size).tensor_split(self.part[1])[self.part[0]]
        return places, order[number * self.batch_size :][:size][places]

    def _batch(self, pixels: Tensor, order: Tensor, epoch: int, number: int) -> tuple[Tensor, Tensor]:
        size, (mine, chosen) = self.images_in(number), self._mine(order, number)
        pixels = pixels.to(self.device, non_blocking=True)
        x = shifted(pixels, self.shift).float().div_(255)
        x = x if self.views == 1 else x.repeat(self.views, 1, 1, 1)
        rows = torch.cat([mine + view * size for view in range(self.views)])
        # number + 1: a trailing 0 would give the generator of the order
        dice = Dice(_generator(self.seed, epoch, number + 1), size * self.views, rows)
        x = augmented(self.augment, x, dice).sub_(self._mean).div_(self._std)
        return x if self.whiten is None else self.whiten(x), self._labels[chosen.to(self.device)].repeat(self.views)


def _generator(*key: int) -> torch.Generator:
    """A generator of its own for each key of whole numbers."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


def _check_indices(indices: Tensor | Sequence[int] | None, size: int) -> Tensor:
    chosen = torch.arange(size) if indices is None else whole_numbers(indices)
    if len(chosen) == 0:
        raise ValueError("0 images to go through: give at least one")
    if chosen.min() < 0 or chosen.max() >= size:
        raise ValueError(f"indices from {chosen.min()} to {chosen.max()} do not fit {size} images")
    return chosen


def _per_channel(name: str, given: Tensor | Sequence[float] | None, default: float, channels: int) -> Tensor:
    """[C, 1, 1] float32."""
    values = torch.as_tensor([default] * channels if given is None else given, dtype=torch.float32)
    if values.shape != (channels,):
        raise ValueError(f"{name} {values.tolist()} does not fit images of {channels} channels: give one for each")
    if not values.isfinite().all() or (name == "std" and not (values > 0).all()):
        raise ValueError(f"{name} {values.tolist()} must be finite" + (" and positive" if name == "std" else ""))
    return values[:, None, None]
