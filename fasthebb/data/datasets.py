"""Image data sets held in memory as uint8: `digits`, which scikit-learn carries, and `folder:PATH` of any images."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fasthebb.console import Console
from fasthebb.data.decode import decode_image
from fasthebb.data.folders import TEST_SHARE, list_files

SPECS = ("digits", "folder:PATH")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and what is known of them.

    images: uint8 [M, C, H, W]. labels: int64 [M], -1 is unlabelled. paths: the M files they come from, or ().

    Raises ValueError if these do not fit each other.
    """

    images: Tensor
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

    def subset(self, indices: Tensor | Sequence[int]) -> ImageSet:
        """The images at `indices` (int [B]), in that order, copied."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        paths = tuple(self.paths[i] for i in chosen.tolist()) if self.paths else ()
        return ImageSet(self.images[chosen], self.labels[chosen], paths)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set: class names in label order, its parts, and how many unreadable files were skipped."""

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    val: ImageSet | None
    skipped: int


def load(
    spec: str,
    *,
    image_size: int = 32,
    channels: int = 3,
    max_bad: float = 0.1,
    data_dir: str | Path | None = None,
    console: Console | None = None,
) -> Dataset:
    """Load a data set whole into memory: square images of `image_size` pixels a side, 1 (grey) or 3 (RGB) channels.

    `digits`: the 1 797 images of `sklearn.datasets.load_digits`, 8x8, enlarged bilinearly; a fixed stratified fifth is
    test. `folder:PATH`: class sub-folders of image files, with train/ and, if wanted, val/ and test/ above them; see
    `decode_image` for how a file is read. Without test/ a fixed fifth of every class is held out. A relative PATH is
    below `data_dir` if that is given. Unreadable files are skipped, counted and warned about once. `console` shows
    progress.

    Raises ValueError for an unknown spec, a folder that does not hold this, and more unreadable files than the fraction
    `max_bad`.
    """
    if image_size < 1:
        raise ValueError(f"image size {image_size} must be at least 1 pixel")
    if channels not in (1, 3):
        raise ValueError(f"{channels} channels: images have 1 (grey) or 3 (RGB)")
    if not 0 <= max_bad <= 1:
        raise ValueError(f"max bad {max_bad} is a fraction of the files: it must lie in [0, 1]")
    if spec == "digits":
        return _load_digits(image_size, channels)
    kind, _, path = spec.partition(":")
    if kind == "folder" and path:
        root = Path(data_dir or "") / Path(path).expanduser()
        return _load_folder(spec, root, image_size, channels, max_bad, console or Console(quiet=True))
    raise ValueError(_unknown(spec))


def _unknown(spec: str) -> str:
    names = {name.partition(":")[0]: name for name in SPECS}
    close = difflib.get_close_matches(spec.partition(":")[0].lower(), names, n=1)
    guess = f"folder:{spec}" if spec and Path(spec).is_dir() else names[close[0]] if close else None
    return f"data set {spec!r} is unknown: there is {', '.join(SPECS)}" + (f"; did you mean {guess}?" if guess else "")


def _load_digits(size: int, channels: int) -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    grey = torch.from_numpy(digits.images).float().mul_(255 / 16)[:, None]
    enlarged = torch.nn.functional.interpolate(
        grey, size=(size, size), mode="bilinear", align_corners=False, antialias=size < grey.shape[-1]
    )
    images = enlarged.round_().clamp_(0, 255).to(torch.uint8).repeat(1, channels, 1, 1)
    whole = ImageSet(images, torch.from_numpy(digits.target).long())
    train, test = train_test_split(
        np.arange(len(whole)), test_size=TEST_SHARE, stratify=digits.target, random_state=0, shuffle=True
    )
    return Dataset("digits", tuple("0123456789"), whole.subset(train), whole.subset(test), None, 0)


def _load_folder(spec: str, root: Path, size: int, channels: int, max_bad: float, console: Console) -> Dataset:
    classes, files = list_files(spec, root)
    total = sum(map(len, files.values()))
    parts: dict[str, ImageSet] = {}
    bad: list[str] = []
    for part, labelled in files.items():
        parts[part], failures = _decode_all(root, labelled, size, channels, console)
        bad += failures
    if bad:
        found = f"{len(bad)} of {total} image files cannot be read, first {bad[0]}"
        if len(bad) > max_bad * total:
            raise ValueError(f"{spec}: {found}: mend or remove them, or allow more than {max_bad} with --max-bad")
        warnings.warn(f"{spec}: {found}: skipped", stacklevel=3)
    for part, images in parts.items():
        if len(images) == 0:
            raise ValueError(f"{spec}: no image of the {part} part can be read: mend or replace its files")
    return Dataset(spec, classes, parts["train"], parts["test"], parts.get("val"), len(bad))


def _decode_all(
    root: Path, labelled: Sequence[tuple[Path, int]], size: int, channels: int, console: Console
) -> tuple[ImageSet, list[str]]:
    """The readable images, and "path (reason)" of each other file; in threads, as pillow frees the interpreter."""
    names = [path.relative_to(root).as_posix() for path, _ in labelled]
    pixels = np.empty((len(labelled), channels, size, size), np.uint8)

    def decode(number: int) -> str:
        try:
            pixels[number] = decode_image(labelled[number][0], size, channels)
        except Exception as error:  # pillow's readers raise anything on a malformed file
            return f"{names[number]} ({' '.join(str(error).split()) or type(error).__name__})"
        return ""

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        outcomes = pool.map(decode, range(len(labelled)))
        failures = list(console.progress(outcomes, "reading images", total=len(labelled)))
    kept = [number for number, failure in enumerate(failures) if not failure]
    readable = pixels if len(kept) == len(labelled) else pixels[kept]
    labels = torch.tensor([labelled[number][1] for number in kept], dtype=torch.int64)
    images = ImageSet(torch.from_numpy(readable), labels, tuple(names[number] for number in kept))
    return images, [failure for failure in failures if failure]
