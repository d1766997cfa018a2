"""Images and their labels in memory or in a mapped file, and the data set that they are parts of."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fasthebb.data.stream import Stream

HASHED = 256 * 2**20  # bytes of pixels of a part that a fingerprint looks at
_BLOCK = 16 * 2**20  # bytes it looks at in one go


def whole_numbers(indices: Tensor | Sequence[int]) -> Tensor:
    """Indices as int64, on the CPU.

    Raises:
        ValueError: they are a mask, or fractions.
    """
    given = torch.as_tensor(indices)
    if given.dtype == torch.bool:
        raise ValueError("indices are a mask: give mask.nonzero().flatten()")
    if given.is_floating_point() and len(given):
        raise ValueError(f"indices are {str(given.dtype).removeprefix('torch.')}: give whole numbers")
    return given.to("cpu", torch.int64)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and what is known of them.

    images: uint8 [M, C, H, W], or a stream of them. labels: int64 [M], -1 is unlabelled. paths: the M files they come
    from, or ().

    Raises ValueError if these do not fit each other.
    """

    images: Tensor | Stream
    labels: Tensor
    paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(f"images are {self.images.dtype} {list(self.images.shape)}: give uint8 [M, C, H, W]")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels are {self.labels.dtype} {list(self.labels.shape)}: give int64 [{len(self)}], -1 for unlabelled"
            )
        if self.paths and len(self.paths) != len(self):
            raise ValueError(f"{len(self.paths)} paths for {len(self)} images: give one for each, or none")

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, rows: Tensor) -> Tensor:
        """The images at `rows` (int64 [B]), uint8 [B, C, H, W]; those of a stream are read, on the CPU."""
        if isinstance(self.images, Stream):
            return self.images.read(rows)
        return self.images[rows.to(self.images.device)]

    def subset(self, indices: Tensor | Sequence[int]) -> ImageSet:
        """The images at `indices` (int [B]), in that order, copied."""
        chosen = whole_numbers(indices)
        paths = tuple(self.paths[i] for i in chosen.tolist()) if self.paths else ()
        return ImageSet(self.images[chosen], self.labels[chosen], paths)

    def extended(self, other: ImageSet) -> ImageSet:
        """These images and then the others, copied into memory; the path of an image that came from no file is ""."""
        if isinstance(self.images, Stream) or isinstance(other.images, Stream):
            raise ValueError(
                "a stream of images has no others added to it: give both as files or shards, or leave out --stream"
            )
        paths = tuple(path for part in (self, other) for path in part.paths or ("",) * len(part))
        return ImageSet(
            torch.cat([self.images, other.images]),
            torch.cat([self.labels, other.labels]),
            paths if self.paths or other.paths else (),
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set: class names in label order, its parts, and how many unreadable files were skipped."""

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    val: ImageSet | None
    skipped: int

    def of_classes(self, number: int) -> Dataset:
        """The images of the first so many classes, and those without a label, copied.

        Raises ValueError if there are fewer classes.
        """
        if not 1 <= number <= len(self.classes):
            raise ValueError(f"{number} classes of {self.name}: it has {len(self.classes)}; give 1 to as many")

        def some(part: ImageSet) -> ImageSet:
            return part.subset((part.labels < number).nonzero().flatten())

        val = None if self.val is None else some(self.val)
        return replace(self, classes=self.classes[:number], train=some(self.train), test=some(self.test), val=val)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash, in hexadecimal, of class names and of every part's labels, paths and pixels.

        Of a part with more than `HASHED` bytes of pixels it sees every n-th image, n as small as that allows; of a
        stream where the images lie in their files.
        """
        digest = hashlib.blake2b(repr(self.classes).encode(), digest_size=16)
        for name, part in (("train", self.train), ("val", self.val), ("test", self.test)):
            if part is not None:
                digest.update(f"{name} {list(part.images.shape)}".encode())
                digest.update(part.labels.cpu().numpy().tobytes())
                digest.update("\0".join(part.paths).encode("utf-8", "backslashreplace"))
                _hash_pixels(digest, part.images)
        return digest.hexdigest()


def _hash_pixels(digest: hashlib.blake2b, images: Tensor | Stream) -> None:
    if isinstance(images, Stream):
        digest.update(images.key())
        return
    sample = images[:: max(1, -(-images.numel() // HASHED))]
    for block in torch.split(sample, max(1, _BLOCK // max(1, images[:1].numel()))):
        digest.update(block.cpu().contiguous().numpy().data)
