"""What a reader finds of a data set: files that are still to be decoded, or pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

UNLABELLED = -1


class Item(NamedTuple):
    """One image file, or one member of an uncompressed archive.

    name: what a user knows it by, below the set's folder, with `/`. label: number of its class, -1 is unlabelled.
    path: the file that holds it; offset, size: where its bytes are in that file, size -1 meaning to the end.
    """

    name: str
    label: int
    path: str
    offset: int = 0
    size: int = -1


class Listing(NamedTuple):
    """Class names in label order, and for each part ("train", "test" and perhaps "val") its image files."""

    classes: tuple[str, ...]
    parts: Mapping[str, Sequence[Item]]


class Arrays(NamedTuple):
    """Class names in label order, and for each part its pixels, uint8 [M, C, H, W], and labels, int64 [M].

    The pixels may be memory-mapped; an unlabelled image of the train part has label -1.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]
