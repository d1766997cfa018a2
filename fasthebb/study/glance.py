"""What a study's images are, at a glance: how many, how large, how many with labels; and how fast the machine is."""

from __future__ import annotations

import time
import warnings
from typing import NamedTuple

import numpy as np
import torch

from fasthebb.console import Console
from fasthebb.data.decode import opened_image, read_item
from fasthebb.data.listing import UNLABELLED, Arrays, Item, Listing
from fasthebb.data.sources import check_classes, default_channels, find_source, find_unlabelled, single_class
from fasthebb.hebbian import attach
from fasthebb.jobs.layer_rules import attachable
from fasthebb.jobs.options import DataOptions
from fasthebb.models import build, head_name
from fasthebb.study.softhebb import softhebb
from fasthebb.training.loop import place

LOOKED_AT = 200  # image files of which the size is read
STEPS = 3  # of which the fastest counts
WIDTH, BATCH = 0.5, 10  # of the net and the step that are timed


class Glance(NamedTuple):
    """images: for training, with a label or without; labels: how many of them have one; tests: test images; side: the
    median of the shorter sides, in pixels."""

    images: int
    labels: int
    tests: int
    classes: int
    side: int
    channels: int


def glance(options: DataOptions, channels: int | None, console: Console) -> Glance:
    """What the images are that a command's options name, from the headers of some of the files.

    Raises:
        ValueError: there are none, they cannot be read, or they are all of one class.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is odd the study warns, which finds it again
        found = find_source(
            options.data, data_dir=options.data_dir, labels_file=options.labels_file, download=options.download,
            console=console,
        )  # fmt: skip
    check_classes(options.data, found)
    if single := single_class(options.data, found.classes):
        raise ValueError(single)
    labels = _labels(found)
    images = len(labels)
    if options.unlabeled is not None:
        more = find_unlabelled(options.unlabeled, data_dir=options.data_dir, download=options.download, console=console)
        images += len(_labels(more))
    tests = found.parts["test"]
    return Glance(
        images, int((labels != UNLABELLED).sum()), len(tests if isinstance(found, Listing) else tests[1]),
        len(found.classes), _side(options.data, found), channels or default_channels(options.data),
    )  # fmt: skip


def seconds_an_image(side: int, channels: int, device: torch.device) -> float:
    """Seconds that a step of pre-training takes for an image of some side, at half the net's width, on this machine."""
    model = place(build("deephebb", classes=2, channels=channels, image_size=side, width=WIDTH), device)
    hebb = attach(model, attachable(softhebb(), head_name(model)))
    optimizer = torch.optim.SGD(hebb.parameters(), lr=1e-6)
    x = torch.randn(BATCH, channels, side, side, device=device).to(memory_format=torch.channels_last)
    times = []
    for _ in range(1 + STEPS):
        began = time.perf_counter()
        with torch.no_grad():
            model(x)
        hebb.write_grad()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times[1:]) / BATCH


def _labels(found: Listing | Arrays) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if isinstance(found, Listing):
        return np.array([item.label for item in found.parts["train"]])
    return found.parts["train"][1]


def _side(spec: str, found: Listing | Arrays) -> int:
    if isinstance(found, Arrays):
        return int(min(found.parts["train"][0].shape[2:]))
    items = found.parts["train"]
    sides = [side for item in items[:: -(-len(items) // LOOKED_AT)] if (side := _shorter(item))]
    if not sides:
        raise ValueError(f"{spec}: the first images cannot be read; `fasthebb data check` says why")
    return int(np.median(sides))


def _shorter(item: Item) -> int | None:
    try:
        with opened_image(read_item(item)) as opened:
            return min(opened.size)
    except Exception:  # pillow's readers raise anything on a malformed file; loading counts these
        return None
