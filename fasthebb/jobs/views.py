"""Frozen features of labelled training images and of test images, each image seen in one or several views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from fasthebb.data import Loader
from fasthebb.data.shift import Shift
from fasthebb.jobs.readouts import ReadOutOptions


class View(NamedTuple):
    """How an image is seen: moved by so many pixels, then mirrored or not."""

    shift: Shift = (0, 0)
    augment: str = "none"


def views_of(wanted: ReadOutOptions) -> list[View]:
    """The views that probes learn from and are tested on; the image as it is comes first."""
    if not (wanted.probe or wanted.together):
        return [View()]
    by = wanted.shifts
    shifts = [(0, 0), (by, 0), (-by, 0), (0, by), (0, -by)] if by else [(0, 0)]
    return [View(shift, side) for shift in shifts for side in (("none", "mirror") if wanted.mirror else ("none",))]


@dataclass(frozen=True)
class Features:
    """Features [copies·M, F] and labels [copies·M] of labelled training images, and of test images.

    One view of all images after the other, the images as they are first.
    """

    few: Tensor
    known: Tensor
    tested: Tensor
    truth: Tensor
    copies: int = 1

    def of(self, rows: Tensor) -> Features:
        """With the labelled images of some rows alone."""
        images = len(self.few) // self.copies
        if len(rows) == images:  # all of them: in place, since they may fill the memory
            return self
        rows = torch.cat([rows + images * copy for copy in range(self.copies)])
        return replace(self, few=self.few[rows.to(self.few.device)], known=self.known[rows.to(self.known.device)])

    def once(self) -> Features:
        """The images as they are."""
        parts = (self.few, self.known, self.tested, self.truth)
        few, known, tested, truth = (part[: len(part) // self.copies] for part in parts)
        return Features(few, known, tested, truth)

    def mean(self, scores: Tensor) -> Tensor:
        """Scores [T, classes] of the test images: those [copies·T, classes] of their views, averaged."""
        return scores.view(self.copies, -1, scores.shape[1]).mean(0)


def side_by_side(depths: list[Features]) -> Features:
    """The features of several depths of the same images as those of one; the list is emptied, for memory's sake."""
    first = depths[0]
    few, tested = ([getattr(at, name) for at in depths] for name in ("few", "tested"))
    depths.clear()
    return replace(first, few=torch.cat(few, 1), tested=torch.cat(tested, 1))


class InTurn:
    """The batches of one loader after those of another."""

    def __init__(self, loaders: Sequence[Loader]) -> None:
        self._loaders = loaders

    def __len__(self) -> int:
        return sum(map(len, self._loaders))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return chain.from_iterable(self._loaders)
