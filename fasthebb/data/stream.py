"""Images that are decoded when they are needed: of sets too large to be kept decoded, in memory or on a disk."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from fasthebb.data.decode import decode_image, one_line, read_item, reason
from fasthebb.data.listing import Item

WINDOW = 8192  # images that change places with each other, of shards that follow one another


class UnreadableWarning(UserWarning):
    """An image could not be read, which of several ranks the one alone knows whose share it is in."""


class Stream:
    """uint8 images [M, C, H, W] in files or shards, read and decoded anew each time.

    It stands for the tensor of an `ImageSet`: with its shape, and some of it by an index, which reads nothing.

    Args:
        items: where the images lie.
        size, channels, resize: as of `decode_image`.
        max_bad: the fraction of images that may turn out unreadable.

    Attributes:
        names: of the images.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(self, items: Sequence[Item], size: int, channels: int, resize: str, max_bad: float) -> None:
        paths = {path: number for number, path in enumerate(dict.fromkeys(item.path for item in items))}
        self._paths = list(paths)
        self.names = tuple(item.name for item in items)
        places = [(paths[item.path], item.offset, item.size) for item in items]
        self._places = torch.tensor(places, dtype=torch.int64).view(-1, 3)
        self._kind = size, channels, resize
        self._most = max_bad * len(items)
        self._bad: dict[str, str] = {}  # shared with all that are part of it
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd files that it reads all the same, in threads

    @property
    def shape(self) -> torch.Size:
        """[M, C, H, W]."""
        size, channels, _ = self._kind
        return torch.Size((len(self._places), channels, size, size))

    @property
    def nbytes(self) -> int:
        """What they would fill, decoded."""
        return self.shape.numel()

    def __len__(self) -> int:
        return len(self._places)

    def numel(self) -> int:
        """Pixels, of all channels."""
        return self.shape.numel()

    def __getitem__(self, rows: Tensor | slice) -> Stream:
        some: Stream = object.__new__(Stream)
        some.__dict__.update(self.__dict__)
        some._places = self._places[rows]
        some.names = tuple(self.names[number] for number in torch.arange(len(self))[rows].tolist())
        return some

    def read(self, rows: Tensor) -> Tensor:
        """The images at rows (int64 [B]), on the CPU; one that cannot be read is black, and is warned of.

        Raises:
            ValueError: more than the fraction `max_bad` have turned out so.
        """
        size, channels, resize = self._kind
        pixels = np.zeros((len(rows), channels, size, size), np.uint8)
        for number, row in enumerate(rows.tolist()):
            item = self.item(row)
            try:
                pixels[number] = decode_image(read_item(item), size, channels, resize)
            except Exception as error:  # pillow's readers raise anything on a malformed file
                self._note(item, reason(error))
        return torch.from_numpy(pixels)

    def item(self, row: int) -> Item:
        """Where an image lies; its label is not known here."""
        path, offset, size = self._places[row].tolist()
        return Item(self.names[row], -1, self._paths[path], offset, size)

    def key(self) -> bytes:
        """What tells these images from others, without reading them: where they are in their files, and their kind."""
        return repr(self._kind).encode() + self._places[:, 1:].numpy().tobytes()

    def order(self, rows: Tensor, generator: Generator) -> Tensor:
        """The rows in an order that the generator decides, in which a file's images stay near each other.

        Files in a random order, then windows of `WINDOW` images, each shuffled; of files of one image, any order.
        """
        files = self._places[rows, 0]
        place = torch.randperm(len(self._paths), generator=generator)[files]
        in_files = rows[place.argsort(stable=True)]
        if int(files.bincount().max()) == 1:
            return in_files
        phase = int(torch.randint(WINDOW, (), generator=generator))
        window = (torch.arange(len(rows)) + phase) // WINDOW
        mixed = torch.randperm(len(rows), generator=generator)
        return in_files[mixed[window[mixed].argsort(stable=True)]]

    def _note(self, item: Item, why: str) -> None:
        line = one_line(item, why)
        if line in self._bad:
            return
        self._bad[line] = why
        if len(self._bad) > self._most:
            raise ValueError(
                f"{len(self._bad)} images cannot be read, the last one {line}: mend or remove them, or allow more by "
                "--max-bad"
            )
        why = f"{line}: it cannot be read, and a black image stands in for it"
        warnings.warn(why, UnreadableWarning, stacklevel=2)


def missing(items: Sequence[Item]) -> dict[int, str]:
    """Why images are not there, by their place: their file is missing, or ends before them. No file is read."""
    sizes: dict[str, int] = {}
    absent: dict[int, str] = {}
    for number, item in enumerate(items):
        if item.path not in sizes:
            sizes[item.path] = Path(item.path).stat().st_size if Path(item.path).is_file() else -1
        there = sizes[item.path]
        if there < 0 or item.offset + max(item.size, 0) > there:
            absent[number] = "its file is missing" if there < 0 else "its file is cut short"
    return absent
