"""`fasthebb embed`: features of images, what enters a layer of a trained net, with their paths and labels."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fasthebb.console import Console
from fasthebb.data import ImageSet
from fasthebb.evaluation.features import extract
from fasthebb.files import atomic_save
from fasthebb.jobs.checks import check_file
from fasthebb.jobs.images import Images
from fasthebb.jobs.net import Net, depths
from fasthebb.jobs.options import RunDataOptions
from fasthebb.jobs.setup import load_for, with_data_of
from fasthebb.jobs.trained import place_of, read_net, trained_folder
from fasthebb.models import trainable_layers
from fasthebb.training.loop import device_of, place
from fasthebb.training.precision import Precision

PARTS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(RunDataOptions):
    """Write the features of images, what enters a layer of a trained net, to a file.

    Args:
        run: the run folder, of pre-training or of fine-tuning, an exported net, or the name of ready weights.
        images: a folder of images without classes, or one image file, in place of a data set.
        part: which part of the data set.
        depth: depth l is what enters the layer after the l-th hidden one; by default the last, what enters the head.
        layer: the name of a module, in place of a depth; what enters it counts.
        pool: average maps to at most so many cells a side.
        out: a file .npz, or .parquet where pyarrow is installed; RUN/features.npz by default.
        device: cpu, cuda, or auto.
        precision: fp32, or bf16 for products in bfloat16: faster on machines with instructions for them.
        batch_size: images a step.
    """

    images: Path | None = None
    part: Literal["train", "val", "test", "all"] = "all"
    depth: int | None = None
    layer: str | None = None
    pool: int | None = None
    out: Path | None = None
    device: str = "auto"
    precision: Precision = "fp32"
    batch_size: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images is not None and self.data is not None:
            raise ValueError(f"--images {self.images} and --data {self.data}: give one of them")
        if self.depth is not None and self.layer is not None:
            raise ValueError(f"--depth {self.depth} and --layer {self.layer}: give one of them")
        for name, value in (("depth", self.depth), ("pool", self.pool)):
            if value is not None and value < 1:
                raise ValueError(f"--{name} {value}: give 1 or more")
        check_file(self.out, (".npz", ".parquet"))

    def idle(self) -> dict[str, str]:
        """Options that nothing reads beside the others, and why."""
        of_data = ("part", "data_dir", "download", "labels_file", "unlabeled", "cache_dir", "stream", "max_bad")
        return dict.fromkeys(of_data, "with --images") if self.images is not None else {}


class Embedding(NamedTuple):
    """Features float32 [M, F], labels int64 [M] (-1 is unlabelled), and the path and part of every image."""

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    paths: list[str]
    parts: list[str]


def run(options: EmbedOptions, console: Console) -> dict[str, Any]:
    """Write the features, and return where they are and of what shape.

    Raises:
        ValueError: there is no such layer or part, an option does not fit, or pyarrow is missing.
    """
    options = replace(options, run=trained_folder(options.run))
    out = place_of(options.out, options.run, "features.npz")
    if out.suffix == ".parquet":
        _pyarrow("pyarrow")
    net, model = read_net(options.run, console, trust=options.trust)
    layer, depth = _layer(net, model, options)
    device = device_of(options.device)
    place(model, device, options.precision)
    classes: tuple[str, ...] = ()
    source: Iterator[tuple[str, ImageSet]]
    if options.images is not None:
        source = (("", images) for images in Images(options.images, net, console).chunks("embedding"))
    else:
        dataset = load_for(net, with_data_of(net, options), console, labelled=False)
        classes = dataset.classes
        source = _parts({"train": dataset.train, "val": dataset.val, "test": dataset.test}, options.part)
    found = _gather(net, model, layer, source, options, device, console)
    about = {"depth": depth, "layer": layer}
    if out.suffix == ".parquet":
        _write_parquet(out, found, classes, about)
    else:
        _write_npz(out, found, classes, about)
    images, size = found.features.shape
    console.say(f"{images} images, {size} features each, of what enters {layer}: {out}")
    return {"run": options.run, "out": out, **about, "images": images, "features": size, "classes": classes}


def _layer(net: Net, model: nn.Module, options: EmbedOptions) -> tuple[str, int | None]:
    """The module that features enter, and its depth if it has one."""
    hidden = [name for name in trainable_layers(model) if name != net.head]
    by_depth = depths(model, hidden, net.head, torch.zeros(2, len(net.mean), net.image_size, net.image_size))
    if options.layer is not None:
        return options.layer, {name: depth for depth, name in by_depth.items()}.get(options.layer)
    depth = max(by_depth) if options.depth is None else options.depth
    if depth not in by_depth:
        raise ValueError(f"--depth {depth}: {net.model} has depths 1 to {max(by_depth)}")
    return by_depth[depth], depth


def _parts(there: dict[str, ImageSet | None], wished: str) -> Iterator[tuple[str, ImageSet]]:
    parts = {name: images for name, images in there.items() if images}
    if wished != "all" and wished not in parts:
        raise ValueError(f"--part {wished}: the data have no such part; choose from {', '.join([*parts, 'all'])}")
    return ((name, images) for name, images in parts.items() if wished in ("all", name))


def _gather(
    net: Net,
    model: nn.Module,
    layer: str,
    source: Iterator[tuple[str, ImageSet]],
    options: EmbedOptions,
    device: torch.device,
    console: Console,
) -> Embedding:
    features, labels = [], []
    paths: list[str] = []
    parts: list[str] = []
    for part, images in source:
        loader = net.loader(images, options.batch_size, device, shuffle=False)
        batches = console.progress(loader, f"embedding {part}") if part else loader
        x, y = extract(model, layer, batches, pool=options.pool)
        features.append(x.cpu().numpy())
        labels.append(y.cpu().numpy())
        paths += images.paths or [f"{part}[{number}]" for number in range(len(images))]
        parts += [part] * len(images)
    return Embedding(np.concatenate(features), np.concatenate(labels), paths, parts)


def _write_npz(out: Path, found: Embedding, classes: tuple[str, ...], about: dict[str, Any]) -> None:
    arrays = {name: np.asarray(value) for name, value in found._asdict().items()}
    arrays |= {"classes": np.asarray(classes, np.str_), "layer": np.asarray(about["layer"])}
    arrays["depth"] = np.asarray(about["depth"] or -1)
    atomic_save(out, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def _write_parquet(out: Path, found: Embedding, classes: tuple[str, ...], about: dict[str, Any]) -> None:
    pa, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    images, size = found.features.shape
    ends = pa.array(np.arange(images + 1) * size, pa.int64())
    table = pa.table(
        {
            "path": found.paths,
            "part": found.parts,
            "label": found.labels,
            "class": [classes[label] if label >= 0 else None for label in found.labels.tolist()],
            "features": pa.LargeListArray.from_arrays(ends, found.features.ravel()),
        }
    )
    table = table.replace_schema_metadata({name: str(value) for name, value in about.items()})
    atomic_save(out, lambda file: parquet.write_table(table, file))


def _pyarrow(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError("a .parquet file needs pyarrow: pip install 'fasthebb[parquet]', or write .npz") from None
