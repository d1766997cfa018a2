"""Trained nets, ready to use: from images in [0, 1] to scores or features, by name or from a folder.

What a net is stands in a few plain values, those of a run's model.json and of an export's config.json.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fasthebb.data.decode import decode_image, reason
from fasthebb.data.whitening import Whitening
from fasthebb.models.cut import Cut
from fasthebb.models.registry import build, is_own

CONFIG, WEIGHTS, WHITENING = "config.json", "model.safetensors", "whitening.safetensors"  # of an exported net
RUN = ("model.json", "checkpoints/last.safetensors")  # the first two, in a run folder
CELL = "checkpoints/last.pt"  # the weights of a study's net
DAMAGED = (
    OSError, SafetensorError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, RuntimeError,
    AttributeError, UnpicklingError,
)  # fmt: skip
PLACES = "FASTHEBB_WEIGHTS"  # the folder of ready weights


class Program(nn.Module):
    """A net and all that its images go through before it: from floats [N, C, H, W] in [0, 1] to scores [N, classes].

    A net without a classifier ends where its head begins, so that it gives features [N, F]. `about` holds what the net
    is: its classes, image_size, rule and so on. Calling it raises ValueError for images of another type or number of
    channels.
    """

    image_mean: Tensor  # names that no operator has, for ONNX names what it computes by operators
    image_std: Tensor
    image_whitening: Tensor

    def __init__(self, model: nn.Module, about: Mapping[str, Any], whitening: Whitening | None = None) -> None:
        super().__init__()
        self.model, self.about = model, dict(about)
        if isinstance(model, Cut):
            model.run_through()
        if not about["classifier"]:
            self.model.set_submodule(about["head"], nn.Identity())
        self._whitening = whitening
        self.register_buffer("image_mean", torch.tensor(about["mean"])[:, None, None])
        self.register_buffer("image_std", torch.tensor(about["std"])[:, None, None])
        self.register_buffer("image_whitening", torch.empty(0) if whitening is None else whitening.matrix)

    def read(self, *files: str | os.PathLike[str]) -> Tensor:
        """Image files as the net takes them, float32 [N, C, H, W] in [0, 1], on the CPU.

        Raises ValueError for a file that cannot be read.
        """
        side, channels, resize = self.about["image_size"], len(self.about["mean"]), self.about["resize"]
        found = torch.empty(len(files), channels, side, side)
        for image, file in zip(found, files):
            try:
                image.copy_(torch.tensor(decode_image(file, side, channels, resize)) / 255)
            except Exception as error:  # pillow's readers raise anything on a malformed file
                raise ValueError(f"{os.fspath(file)} cannot be read ({reason(error)}): check the file") from None
        return found

    def forward(self, images: Tensor) -> Tensor:
        channels = len(self.image_mean)
        if images.ndim != 4 or images.shape[1] != channels or not images.is_floating_point():
            raise ValueError(
                f"images {images.dtype} {list(images.shape)}: the net takes floats [N, {channels}, H, W] in [0, 1], as "
                "its read(files) gives them"
            )
        x = (images.to(self.image_mean.dtype) - self.image_mean) / self.image_std
        if self._whitening is not None:
            x = replace(self._whitening, matrix=self.image_whitening)(x)
        try:
            scores: Tensor = self.model(x)
        except RuntimeError:
            side = self.about["image_size"]
            if tuple(images.shape[2:]) == (side, side):
                raise
            raise ValueError(f"images {list(images.shape)}: the net takes {side} × {side} pixels") from None
        return scores


def load(name_or_path: str | Path, *, trust: bool = False) -> Program:
    """A trained net in eval mode, on the CPU: from images float32 [N, C, H, W] in [0, 1] to scores or features.

    A folder that `fasthebb export` wrote, the run folder of a finished pretrain or finetune, the cell of a study's net,
    or the name of ready weights: a folder in $FASTHEBB_WEIGHTS, in ./weights, or in the weights/ of the repository.
    Weights of 16 bits become float32. A net that has a classifier gives scores [N, classes], another the features
    [N, F] that enter its head; `.about` holds its classes, image_size and what else is known of it.

    trust: let an exported net run the code that builds it, where that is a "module:function" of its author's.

    Raises ValueError where there is no such net, its files are damaged or do not fit each other, or it is not trusted.
    """
    folder = _folder(name_or_path)
    names = RUN if (folder / RUN[0]).is_file() else (CONFIG, WEIGHTS)
    if names == RUN and not (folder / "config.yaml").is_file():
        names = (RUN[0], CELL)
    if not (folder / names[1]).is_file():
        raise ValueError(f"{folder} has no {names[1]}: finish the run by --resume, or export it by `fasthebb export`")
    about, model, whitening = read_net_files(folder, *names, trust=trust or names[0] == RUN[0])
    return Program(model, about, whitening).eval()


def read_net_files(
    folder: Path, config: str = CONFIG, weights: str = WEIGHTS, *, trust: bool
) -> tuple[dict[str, Any], nn.Module, Whitening | None]:
    """What a net is, its model with the weights, and its whitening if it has one, from the files of a folder.

    trust: whether the net may be built by a function of its author's.

    Raises ValueError where they are damaged or do not fit each other, or the net is not trusted.
    """
    try:
        about = json.loads((folder / config).read_bytes())
        if not trust and is_own(about["model"]):
            raise ValueError(
                f"{folder} is built by {about['model']}, code of its author's: if you trust it, say --trust, "
                "or load(..., trust=True)"
            )
        state = load_file(folder / weights) if weights != CELL else _of_checkpoint(folder / weights)
        whitening = Whitening.load(folder / WHITENING) if about["whitened"] else None
        model = build_as(about)
        model.load_state_dict(state)
        _check(about, model)
    except DAMAGED as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(f"{folder} holds no net of this version of fasthebb ({reason}): export it again") from None
    return about, model, whitening


def _of_checkpoint(file: Path) -> dict[str, Tensor]:
    # The weights that a checkpoint holds.
    weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)["parts"]["model"]
    return weights


def _check(about: Mapping[str, Any], model: nn.Module) -> None:
    # Whether the values that no building of the net has looked at are there, and fit it.
    missing = {"classifier", "head", "image_size", "resize", "std"} - about.keys()
    if missing:
        raise KeyError(min(missing))
    model.get_submodule(about["head"])
    mean, std = about["mean"], about["std"]
    numbers = all(isinstance(value, int | float) for value in (*mean, *std))
    if not numbers or len(std) != len(mean) or min(std) <= 0:
        raise TypeError(f"mean {mean} and std {std} are no numbers for each channel")


def build_as(about: Mapping[str, Any]) -> nn.Module:
    """The net that plain values describe, with initial weights from torch's random state."""
    own = {name: about[name] for name in ("image_size", "width", "forward", "twin")}
    classes = max(1, len(about["classes"]))  # images without a class still have a net with a head
    model = build(about["model"], classes=classes, channels=len(about["mean"]), **own)
    return model if about.get("cut") is None else cut_as(about, model)


def cut_as(about: Mapping[str, Any], model: nn.Module) -> Cut:
    """The part of a model before the layer that the values cut it at, under a classifier of its own."""
    side, device = about["image_size"], next(model.parameters()).device
    return Cut(
        model, about["cut"], len(about["classes"]), torch.zeros(2, len(about["mean"]), side, side, device=device)
    )


def _folder(name_or_path: str | Path) -> Path:
    """Where a net lies, given its folder or the name of ready weights."""
    path = Path(name_or_path).expanduser()
    if (path / CONFIG).is_file() or (path / RUN[0]).is_file():
        return path
    if path.is_dir():
        raise ValueError(f"{path} holds no net: name a folder that `fasthebb export`, pretrain or finetune wrote")
    if ready := ready_folder(path):
        return ready
    raise ValueError(f"{str(name_or_path)!r} is neither a folder nor the name of ready weights: {ready_names()}")


def ready_folder(name: Path) -> Path | None:
    """The folder of ready weights of a name, if there are such."""
    found = (place / name for place in _places() if len(name.parts) == 1 and (place / name / CONFIG).is_file())
    return next(found, None)


def ready_names() -> str:
    """Which ready weights there are, or what to do where there are none, in words."""
    known = sorted({config.parent.name for place in _places() for config in place.glob(f"*/{CONFIG}")})
    return f"there are {', '.join(known)}" if known else f"set {PLACES} to the weights/ folder of the repository"


def _places() -> Iterator[Path]:
    """Folders of ready weights, in the order in which they are looked into."""
    if given := os.environ.get(PLACES):
        yield Path(given).expanduser()
    yield Path("weights")
    yield Path(__file__).parents[2] / "weights"
