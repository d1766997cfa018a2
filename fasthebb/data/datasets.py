"""Load a data set: `digits`, which scikit-learn carries, `folder:PATH` of any images, or a named set."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from fasthebb.console import Console
from fasthebb.data.cache import SMALL, Cache
from fasthebb.data.decode import RESIZES, lost_class
from fasthebb.data.decoded import decode_items, stream_items
from fasthebb.data.imageset import Dataset, ImageSet
from fasthebb.data.listing import UNLABELLED, Arrays, Listing
from fasthebb.data.resize import fit_pixels
from fasthebb.data.sources import SPECS, check_classes, default_channels, find_source, find_unlabelled

__all__ = ["SPECS", "Dataset", "ImageSet", "load"]


def load(
    spec: str,
    *,
    image_size: int = 32,
    channels: int | None = None,
    resize: str = "crop",
    max_bad: float = 0.1,
    data_dir: str | Path | None = None,
    labels_file: str | Path | None = None,
    unlabeled: str | None = None,
    download: bool = False,
    cache_dir: str | Path | None = None,
    stream: bool = False,
    labelled: bool = True,
    console: Console | None = None,
) -> Dataset:
    """Load a data set: square images of `image_size` pixels a side, 1 (grey) or 3 (RGB) channels, by default its own.

    spec: `digits`, the 1 797 images of `sklearn.datasets.load_digits`, 8x8; `folder:PATH`, see `list_files`; or a named
    set, see docs/data.md. A relative PATH and the files of a named set are below `data_dir`; without it, named sets
    are looked for in ./data and /usr/share/datasets. `download` fetches a named set that is not there. labels_file:
    a CSV file of the classes of folder:PATH, see `list_labelled`. unlabeled: another set whose training images are
    added to those of this one, without labels. resize: "crop", "stretch" or "pad", see `decode_image`.

    Unreadable files are skipped, counted and warned about once. More than 64 MiB of decoded pixels are kept in
    `cache_dir`, see `Cache`, and mapped; fewer, and those of sets that come as arrays, are in memory. `stream`: images
    in files or shards are neither kept nor cached, but decoded each time they are needed, see `Stream`. labelled:
    whether there must be classes; of images without any the test part is empty. `console` shows progress.

    Raises ValueError for an unknown spec, data that is not there or not whole, images without classes where labels are
    wanted, and more unreadable files than the fraction `max_bad`.
    """
    _check(image_size, channels, resize, max_bad)
    console = console or Console(quiet=True)
    source = find_source(spec, data_dir=data_dir, labels_file=labels_file, download=download, console=console)
    if labelled:
        check_classes(spec, source)
    extra: Listing | Arrays | None = None
    if unlabeled is not None:
        extra = find_unlabelled(unlabeled, data_dir=data_dir, download=download, console=console)
    reader = _Reader(
        image_size, channels or default_channels(spec), resize, cache_dir, max_bad if stream else None, console
    )
    if isinstance(source, Listing) and isinstance(extra, Listing):
        source, extra = _joined(source, extra), None  # decoded, and cached, as one
    parts = reader.read(source)
    if extra is not None:
        parts["train"] = parts["train"].extended(reader.read(extra)["train"])
    if bad := reader.failures:
        found = f"{len(bad)} of {reader.files} image files cannot be read, first {bad[0]}"
        if len(bad) > max_bad * reader.files:
            raise ValueError(f"{spec}: {found}: mend or remove them, or allow more than {max_bad} with --max-bad")
        warnings.warn(f"{spec}: {found}: skipped", stacklevel=2)
        for lost in _lost_classes(source, parts):
            warnings.warn(f"{spec}: {lost}", stacklevel=2)
    for part, images in parts.items():
        if len(images) == 0:
            raise ValueError(f"{spec}: no image of the {part} part can be read: mend or replace its files")
    train = parts["train"]
    test = parts.get("test") or ImageSet(torch.empty(0, *train.images.shape[1:], dtype=torch.uint8), train.labels[:0])
    return Dataset(spec, source.classes, train, test, parts.get("val"), len(bad))


class _Reader:
    """From files or arrays to images of one size; counts the files and lists the unreadable ones."""

    def __init__(
        self, size: int, channels: int, resize: str, cache_dir: str | Path | None, streams: float | None,
        console: Console,
    ) -> None:  # fmt: skip
        # streams: what fraction may be bad of images that are streamed; None if they are not.
        self.files = 0
        self.failures: list[str] = []
        self._shape = (size, channels, resize)
        self._console, self._streams = console, streams
        self._cache = Cache(cache_dir, console)

    def read(self, source: Listing | Arrays) -> dict[str, ImageSet]:
        return self._read_files(source) if isinstance(source, Listing) else self._read_arrays(source)

    def _read_arrays(self, source: Arrays) -> dict[str, ImageSet]:
        return {
            part: ImageSet(torch.from_numpy(fit_pixels(pixels, *self._shape)), torch.tensor(labels))
            for part, (pixels, labels) in source.parts.items()
        }

    def _read_files(self, source: Listing) -> dict[str, ImageSet]:
        size, channels, _ = self._shape
        count = sum(map(len, source.parts.values()))
        large = count * channels * size * size > SMALL
        parts = {}
        for part, items in source.parts.items():
            if self._streams is not None:
                parts[part], failures = stream_items(items, *self._shape, self._streams)
            elif large:
                parts[part], failures = self._cache.read(items, *self._shape)
            else:
                parts[part], failures = decode_items(items, *self._shape, self._console)
            self.failures += failures
        self.files += count
        return parts


def _check(image_size: int, channels: int | None, resize: str, max_bad: float) -> None:
    if image_size < 1:
        raise ValueError(f"image size {image_size} must be at least 1 pixel")
    if channels not in (None, 1, 3):
        raise ValueError(f"{channels} channels: images have 1 (grey) or 3 (RGB)")
    if resize not in RESIZES:
        raise ValueError(f"resize {resize!r} is unknown: choose from {', '.join(RESIZES)}")
    if not 0 <= max_bad <= 1:
        raise ValueError(f"max bad {max_bad} is a fraction of the files: it must lie in [0, 1]")


def _lost_classes(source: Listing | Arrays, parts: Mapping[str, ImageSet]) -> Iterator[str]:
    if isinstance(source, Arrays):
        return
    for part, images in parts.items():
        there = {item.label for item in source.parts[part]} - {UNLABELLED}
        for label in sorted(there.difference(images.labels.tolist())):
            yield lost_class(part, source.classes[label])


def _joined(source: Listing, extra: Listing) -> Listing:
    train = [*source.parts["train"], *extra.parts["train"]]
    return Listing(source.classes, {**source.parts, "train": train})
