"""Batches from images in memory or on disk, in an order that (seed, epoch) alone decides, so that a run resumes
mid-epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fasthebb.data.augment import AUGMENTATIONS, augmented
from fasthebb.data.imageset import ImageSet
from fasthebb.data.shift import Shift, check_shift, shifted
from fasthebb.data.whitening import Whitening

RESIDENT = 4 << 30  # bytes: images up to this size move to the device whole
CHUNK = 16 << 20  # bytes of images counted at a time


def channel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels, in units of the full scale (pixel / 255); no label
    read.

    One pass in small pieces: memory-mapped images of any size will do. The deviation of a constant channel is given as
    1. Raises ValueError if there are no images.
    """
    if len(images) == 0:
        raise ValueError("0 images have no channel statistics: give at least one")
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for counts in _histograms(images.images):
        share = counts.double() / counts.sum()
        mean = (share @ values).item()
        deviation = (share @ (values - mean).square()).sqrt().item()
        means.append(mean)
        deviations.append(deviation if deviation > 1e-9 else 1.0)
    return tuple(means), tuple(deviations)


def _histograms(images: Tensor) -> Tensor:
    """How often each channel of uint8 [M, C, H, W] has each value: int64 [C, 256], on the CPU."""
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64, device=images.device)
    step = max(1, CHUNK // images[0].numel())
    for start in range(0, len(images), step):
        channels = images[start : start + step].unbind(1)
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in channels])
    return counts.cpu()


class Loader:
    """Iterate over (x float32 [B, C, H, W], labels int64 [B]) batches of an `ImageSet`, normalised per channel.

    x = (pixel / 255 - mean) / std. No image is dropped; a last batch of one image joins the batch before. A set of up
    to 4 GiB is moved to `device` whole, as uint8: move it there yourself to share it among loaders. A larger one stays
    where it is, memory-mapped for example, and each batch is picked there, then moved.

    batch_size: images a batch. indices: the images to go through, all by default. seed: with the epoch it decides the
    order, with epoch and batch the augmentation; not negative. shuffle: whether to shuffle. mean, std: one per
    channel, see `channel_statistics`. augment: one of `fasthebb.data.augment.AUGMENTATIONS`. views: how often a batch
    holds each of its images, augmented anew each time: first all of them once, then all again. shift: pixels down and
    to the right by which all images are moved first, reflected at the edges. whiten: applied last.

    Raises ValueError for no images, a batch size or views under 1, indices outside the set, statistics that do not
    fit, an unknown `augment`, a shift as long as the images.
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
    ) -> None:
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
        self.device = torch.device(device)
        self.whiten = None if whiten is None else whiten.to(self.device)
        self.epoch = 0
        self._pixels = images.images if images.images.nbytes > RESIDENT else images.images.to(self.device)
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
        return self.indices[torch.randperm(len(self.indices), generator=_generator(self.seed, epoch))]

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the batches of `epoch` from number `start` on, equal to those of an uninterrupted epoch bit for
        bit.

        Raises ValueError for a start outside [0, len(self)].
        """
        if not 0 <= start <= len(self):
            raise ValueError(f"start {start} is not a batch: an epoch has {len(self)}")
        order = self.order(epoch)
        return (self._batch(order, epoch, number) for number in range(start, len(self)))

    def _batch(self, order: Tensor, epoch: int, number: int) -> tuple[Tensor, Tensor]:
        stop = len(order) if number == len(self) - 1 else (number + 1) * self.batch_size
        chosen = order[number * self.batch_size : stop].repeat(self.views)
        x = shifted(self._pixels[chosen.to(self._pixels.device)].to(self.device), self.shift).float().div_(255)
        # number + 1: a trailing 0 would give the generator of the order
        x = augmented(self.augment, x, _generator(self.seed, epoch, number + 1)).sub_(self._mean).div_(self._std)
        return x if self.whiten is None else self.whiten(x), self._labels[chosen.to(self.device)]


def _generator(*key: int) -> torch.Generator:
    """A generator of its own for each key of whole numbers."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


def _check_indices(indices: Tensor | Sequence[int] | None, size: int) -> Tensor:
    chosen = torch.arange(size) if indices is None else torch.as_tensor(indices, dtype=torch.int64).cpu()
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
