"""Small nets, images and folders, so that a test of a whole command takes a second; and what it left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fasthebb.cli import main
from fasthebb.console import Console
from fasthebb.data import ImageSet, Loader

QUIET = Console(quiet=True)
COLOURS = ("red", "green", "blue")
SIDE = 12  # pixels
NET = ("--model", "tiny:net", "--image-size", str(SIDE))


def net(classes: int = 3, image_size: int = SIDE, width: float = 1.0, channels: int = 3) -> nn.Sequential:
    """conv, bn, fc, bn, dropout, head: two layers to train, running statistics and random numbers."""
    side = (image_size - 5) // 3 + 1
    units = round(6 * width)
    return nn.Sequential(
        nn.Conv2d(channels, units, 5, stride=3, bias=False), nn.ReLU(), nn.BatchNorm2d(units), nn.Flatten(),
        nn.Linear(units * side * side, 8, bias=False), nn.ReLU(), nn.BatchNorm1d(8),
        nn.Dropout(0.5), nn.Linear(8, classes),
    )  # fmt: skip


LAYERS, HEAD = ("0", "4"), "8"


def fixed(classes: int = 3, channels: int = 3) -> nn.Sequential:
    """A net that takes images of one size."""
    return net(classes, channels=channels)


def three(channels: int = 3) -> nn.Sequential:
    """A net of three outputs, whatever the classes."""
    return net(channels=channels)


class _Nan(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float("nan")


def nan_net(classes: int = 3, image_size: int = SIDE, channels: int = 3) -> nn.Sequential:
    """A net whose images are NaN by the time its first layer sees them."""
    return nn.Sequential(_Nan(), *net(classes, image_size, channels=channels))


class _FailsOnRankOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if self.training and os.environ.get("RANK") == "1":
            raise ValueError("this rank alone cannot go on")
        return x


def failing_net(classes: int = 3, image_size: int = SIDE, channels: int = 3) -> nn.Sequential:
    """A net that fails in training on rank 1."""
    return nn.Sequential(_FailsOnRankOne(), *net(classes, image_size, channels=channels))


class _NanOnRankOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float("nan") if self.training and os.environ.get("RANK") == "1" else x


def nan_on_rank_1(classes: int = 3, image_size: int = SIDE, channels: int = 3) -> nn.Sequential:
    """A net whose images are NaN on rank 1, in training."""
    return nn.Sequential(_NanOnRankOne(), *net(classes, image_size, channels=channels))


def images(count: int = 23, classes: int = 3, side: int = SIDE, seed: int = 0) -> ImageSet:
    """Coloured noise: the channel of an image's class is brighter."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 120, (count, 3, side, side), generator=generator)
    labels = torch.arange(count) % classes
    pixels[torch.arange(count), labels % 3] += 100
    return ImageSet(pixels.to(torch.uint8), labels)


def loader(count: int = 23, batch_size: int = 5, **more: Any) -> Loader:
    return Loader(images(count), batch_size, mean=[0.4] * 3, std=[0.2] * 3, **more)


def write_images(root: Path, each: int = 12) -> Path:
    """A folder of three classes of PNG files."""
    whole = images(3 * each)
    for number, (pixels, label) in enumerate(zip(whole.images, whole.labels.tolist())):
        folder = root / COLOURS[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy().astype(np.uint8)).save(folder / f"{number:03}.png")
    return root


def weights(run: Path) -> dict[str, Tensor]:
    """The model in a run's checkpoint."""
    state: dict[str, Tensor] = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["parts"]["model"]
    return state


def equal(a: Any, b: Any) -> bool:
    """Whether nested dicts, lists and tensors are the same, bit for bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))
    return bool(a == b)


def timeless(rows: Any) -> Any:
    """The same records without times and memory."""
    return [{k: v for k, v in row.items() if "seconds" not in k and "memory" not in k} for row in rows]


def metrics(run: Path) -> Any:
    """A run's metrics, but for the seconds."""
    return timeless(json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())


def state(run: Path) -> dict[str, Any]:
    """Everything in a run's checkpoint, but for the seconds."""
    found: dict[str, Any] = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    found["progress"] |= {"seconds": 0.0, "history": timeless(found["progress"]["history"])}
    return found


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each file below a folder was written, and what it holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def fails(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    """What a command says on stderr when it fails: one line."""
    capsys.readouterr()
    found = main([str(word) for word in words])
    err = capsys.readouterr().err
    assert found == code, err
    assert err.startswith("error: "), err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err
