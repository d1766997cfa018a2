"""`fasthebb predict`: for which class a fine-tuned net takes each image of a folder; its run folder is all it needs."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TextIO

from torch import nn

from fasthebb.console import Console
from fasthebb.evaluation.confusion import predictions
from fasthebb.files import atomic_save
from fasthebb.jobs.checks import check_file, check_numbers
from fasthebb.jobs.images import Images
from fasthebb.jobs.net import Net
from fasthebb.jobs.trained import read_net, trained_folder
from fasthebb.training.loop import device_of, place
from fasthebb.training.precision import Precision

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Write the class of every image below a folder as CSV: path, class, confidence.

    Args:
        run: the run folder of a fine-tuned net, or what export made of it.
        trust: let an exported net run the code that builds it, where that is a module:function of its author's.
        images: a folder of images, or one image file; the option's name may be left out.
        top: how many classes of each image, the likeliest first; above 1 with a column rank.
        out: the CSV file; standard output by default.
        device: cpu, cuda, or auto.
        precision: fp32, or bf16 for products in bfloat16: faster on machines with instructions for them.
        batch_size: images a step.
    """

    by_place: ClassVar[tuple[str, ...]] = ("images",)

    run: Path
    images: Path
    trust: bool = False
    top: int = 1
    out: Path | None = None
    device: str = "auto"
    precision: Precision = "fp32"
    batch_size: int = 256

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.top < 1:
            raise ValueError(f"--top {self.top}: give 1 or more")
        check_file(self.out)


def run(options: PredictOptions, console: Console) -> dict[str, Any]:
    """Predict and write; returns counts and, unless they went to a file, the rows.

    Raises:
        ValueError: the run has no classifier, or there is no image that can be read.
        FloatingPointError: the net's scores are not finite.
    """
    net, model = read_net(trained_folder(options.run), console, trust=options.trust)
    if not net.classifier:
        raise ValueError(f"{options.run} holds no classifier: give the run of a finetune")
    source = Images(options.images, net, console)
    rows: list[Row] = []
    count = 0

    def told() -> Iterator[Row]:
        nonlocal count
        for row in _rows(net, model, source, options):
            count += row["rank"] == 1
            if options.out is None:
                rows.append(row)
            yield row

    if options.out is None:
        _write(told(), options.top, sys.stdout)
    else:
        atomic_save(options.out, lambda file: _encode(told(), options.top, file))
        console.say(f"{count} images: {options.out}")
    found: dict[str, Any] = {"run": options.run, "images": count, "unreadable": source.failures}
    return {**found, **({"out": options.out} if options.out else {"predictions": rows})}


def _rows(net: Net, model: nn.Module, source: Images, options: PredictOptions) -> Iterator[Row]:
    device = device_of(options.device)
    place(model, device, options.precision)
    for images in source.chunks("predicting"):
        scores, _ = predictions(model, net.loader(images, options.batch_size, device, shuffle=False))
        best = scores.softmax(1).topk(min(options.top, len(net.classes)))
        for path, confidences, classes in zip(images.paths, best.values.tolist(), best.indices.tolist()):
            for rank, (confidence, number) in enumerate(zip(confidences, classes), start=1):
                yield {"path": path, "rank": rank, "class": net.classes[number], "confidence": round(confidence, 6)}


def _write(rows: Iterator[Row], top: int, file: TextIO) -> None:
    columns = ["path", "rank", "class", "confidence"] if top > 1 else ["path", "class", "confidence"]
    first = next(rows, None)  # before anything is written, for it may fail
    writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows([first] if first else [])
    writer.writerows(rows)


def _encode(rows: Iterator[Row], top: int, file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
    _write(rows, top, text)
    text.detach()
