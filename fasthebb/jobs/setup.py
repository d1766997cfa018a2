"""What every command begins with: the data, how a net sees them, and which of their labels may be seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from fasthebb.console import Console
from fasthebb.data import Dataset, Loader, channel_statistics, few_labels, load
from fasthebb.data.cache import cache_folder
from fasthebb.data.labels import holdout
from fasthebb.data.sources import single_class
from fasthebb.data.whitening import Whitening, fit_whitening
from fasthebb.jobs.net import Net
from fasthebb.jobs.options import DataOptions, ImageOptions, LoadOptions, RunDataOptions
from fasthebb.training.run import changed

SOURCE = ("data", "data_dir", "labels_file", "unlabeled")  # the options that say where images come from
R = TypeVar("R", bound=RunDataOptions)


def load_data(
    options: LoadOptions, console: Console, *, image_size: int, channels: int | None, resize: str, labelled: bool = True
) -> Dataset:
    """The data set that a command's options name, its images of a given kind; see `load` for `labelled`."""
    return load(
        options.data,
        image_size=image_size,
        channels=channels,
        resize=resize,
        max_bad=options.max_bad,
        data_dir=options.data_dir,
        labels_file=options.labels_file,
        unlabeled=options.unlabeled,
        download=options.download,
        cache_dir=options.cache_dir,
        stream=options.stream,
        labelled=labelled,
        console=console,
    )


def load_as_given(options: ImageOptions, console: Console, *, labelled: bool = True) -> Dataset:
    """The data set of a command that says itself of what kind its images are."""
    kind = {name: getattr(options, name) for name in ("image_size", "channels", "resize")}
    return _several(load_data(options, console, **kind, labelled=labelled), labelled=labelled)


def load_for(net: Net, options: RunDataOptions, console: Console, *, labelled: bool = True) -> Dataset:
    """The data set of a command, its images as a trained net takes them; warns if they changed since the run."""
    dataset = load_data(
        options, console, image_size=net.image_size, channels=len(net.mean), resize=net.resize, labelled=labelled
    )
    _several(dataset, labelled=labelled)
    if source_of(options) == net.source and changed(options.run, dataset, stream=options.stream):
        console.warn(
            f"The images of {dataset.name} are not those that {options.run} saw: what it learned from may be among the "
            "test images now; restore them, or train again"
        )
    return dataset


def _several(dataset: Dataset, *, labelled: bool) -> Dataset:
    """A data set, with two classes or more if labels are wanted; ValueError for a single one."""
    if labelled and (single := single_class(dataset.name, dataset.classes)):
        raise ValueError(single)
    return dataset


def source_of(options: DataOptions) -> dict[str, Any]:
    """Where a command's images come from, as JSON values."""
    values = {name: getattr(options, name) for name in SOURCE}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def with_data_of(net: Net, options: R) -> R:
    """The options, with the data of a net where they name none; ValueError where the net names none either."""
    if options.data is not None:
        return options
    source: Mapping[str, Any] = {
        name: Path(value) if name in ("data_dir", "labels_file") and value else value
        for name, value in net.source.items()
        if getattr(options, name) is None
    }
    if source.get("data") is None:
        raise ValueError(f"{options.run} does not say where its images are: give them with --data")
    return replace(options, **source)


def new_net(
    options: ImageOptions, dataset: Dataset, spread: tuple[tuple[float, ...], tuple[float, ...]], seed: int, **own: Any
) -> Net:
    """A net as options of pretrain or study describe it, for the images of a data set; its head is not known yet.

    spread: their mean and deviation, as of `statistics`. own: other fields of `Net`.
    """
    mean, std = spread
    taken = {name: getattr(options, name) for name in ("image_size", "resize", "model", "width", "validation")}
    more = {"forward": "relu", "twin": "hebbian", "head": "", "rule": "", **own}
    return Net(
        dataset=dataset.name, source=source_of(options), classes=dataset.classes, mean=mean, std=std, seed=seed,
        **taken, **more,
    )  # fmt: skip


def statistics(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel of the training images; no label is read."""
    return channel_statistics(dataset.train)


def whitening_of(net: Net, dataset: Dataset, images: Tensor, options: DataOptions, console: Console) -> Whitening:
    """The whitening of the training images at `images`, as the net normalises them: fitted once, then cached."""
    key = hashlib.blake2b(repr((dataset.fingerprint, net.mean, net.std)).encode(), digest_size=16)
    key.update(images.numpy().tobytes())
    file = cache_folder(options.cache_dir) / f"whitening-{key.hexdigest()}.safetensors"
    if file.exists():
        try:
            return Whitening.load(file)
        except ValueError:
            console.say(f"{file} is damaged: fitting the whitening again")
    loader = Loader(dataset.train, 1024, indices=images, shuffle=False, mean=net.mean, std=net.std)
    whitening = fit_whitening(console.progress(loader, "whitening"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        whitening.save(file)
    except OSError as error:
        console.warn(f"{file.parent}: the whitening is not cached ({error.strerror}); name another --cache-dir")
    return whitening


def set_aside(dataset: Dataset, fraction: float, seed: int) -> Tensor:
    """Indices of the training images that no stage trains on; none if the data has a validation part of its own."""
    if dataset.val is not None:
        return torch.empty(0, dtype=torch.int64)
    return holdout(dataset.train.labels, torch.empty(0, dtype=torch.int64), fraction=fraction, seed=seed)


def all_but(indices: Tensor, size: int) -> Tensor:
    """The numbers below `size` that are not among the indices, in order."""
    keep = torch.ones(size, dtype=torch.bool)
    keep[indices] = False
    return keep.nonzero().flatten()


def budget(dataset: Dataset, labels: int | float, aside: Tensor, *, seed: int, balanced: bool) -> tuple[Tensor, Tensor]:
    """The images of a label budget, and the validation images that it leaves.

    A fraction is of all labelled training images. The images set aside are touched last: only a budget that needs them
    takes from them, and then they no longer validate.

    Raises:
        ValueError: the budget is larger than the data, or under one a class.
    """
    whole = dataset.train.labels
    wanted = len(few_labels(whole, labels, seed=seed, balanced=balanced))  # checks the budget against all labels
    free, kept = whole.clone(), torch.full_like(whole, -1)
    free[aside] = -1
    kept[aside] = whole[aside]
    open_ = int((free >= 0).sum())
    chosen = few_labels(free, min(wanted, open_), seed=seed, balanced=balanced)
    if wanted > open_:
        chosen = torch.cat([chosen, few_labels(kept, wanted - open_, seed=seed, balanced=False)])
    return chosen, aside[~torch.isin(aside, chosen)]


def labelled(dataset: Dataset) -> int:
    """How many training images have a label: what a fractional budget is a fraction of."""
    return int((dataset.train.labels >= 0).sum())
