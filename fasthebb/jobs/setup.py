"""What every command begins with: the data, which of its labels may be seen, and the net."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fasthebb.console import Console
from fasthebb.data import Dataset, ImageSet, Loader, channel_statistics, few_labels, load
from fasthebb.data.labels import holdout
from fasthebb.files import atomic_write
from fasthebb.models import build, call_order, head_name, trainable_layers
from fasthebb.training import checkpoint
from fasthebb.training.run import finished

T = TypeVar("T")


@dataclass(frozen=True)
class Net:
    """Everything that builds a net again and feeds it: what a run folder's model.json holds."""

    dataset: str
    data: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    model: str
    width: float
    forward: str
    twin: str
    head: str
    rule: str
    validation: float
    seed: int
    data_dir: str | None = None
    pretrain_seconds: float | None = None
    classifier: str | None = None  # the following are those of its fine-tuning
    labels: str | None = None
    balanced: bool | None = None
    label_seed: int | None = None

    def build(self) -> nn.Module:
        """The net, with initial weights from torch's random state."""
        return build(
            self.model,
            classes=len(self.classes),
            image_size=self.image_size,
            width=self.width,
            forward=self.forward,
            twin=self.twin,
        )

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    @classmethod
    def of(cls, values: Mapping[str, Any], where: object) -> Net:
        """Read back `plain()`.

        Raises:
            ValueError: it is not that; `where` says whose it is.
        """
        try:
            known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**known)
        except (TypeError, AttributeError):
            raise ValueError(f"{where} does not describe a net of this version of fasthebb; train it again") from None

    def loader(self, images: ImageSet, batch_size: int, device: torch.device, **more: Any) -> Loader:
        """Normalised batches of a part of the data."""
        return Loader(images, batch_size, mean=self.mean, std=self.std, device=device, **more)


def load_data(options: Any, image_size: int, console: Console) -> Dataset:
    """The data set that a command's options name."""
    return load(
        options.data, image_size=image_size, max_bad=options.max_bad, data_dir=options.data_dir, console=console
    )


def with_data_of(net: Net, options: T) -> T:
    """The options, with the data of a net where they name none."""
    if options.data is not None:  # type: ignore[attr-defined]
        return options
    return replace(options, data=net.data, data_dir=Path(net.data_dir) if net.data_dir else None)  # type: ignore[type-var]


def statistics(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel of the training images; no label is read."""
    return channel_statistics(dataset.train)


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

    A fraction is of the whole training set. The images set aside are touched last: only a budget that needs them
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


def head_of(model: nn.Module, wished: str | None) -> str:
    """The classifying layer: the one wished for, or the last Linear.

    Raises:
        ValueError: the model has no such layer.
    """
    if wished is None:
        return head_name(model)
    if wished not in trainable_layers(model):
        names = ", ".join(trainable_layers(model))
        raise ValueError(f"head {wished!r}: the model has no such layer; its Linear and Conv layers are {names}")
    return wished


def check_images(net: Net, model: nn.Module) -> None:
    """See whether a net takes its images, of a size that a command was given.

    Raises:
        ValueError: it does not.
    """
    side = net.image_size
    images = torch.zeros(2, len(net.mean), side, side, device=next(model.parameters()).device)
    try:
        call_order(model, [], images)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{net.model} does not take images of {side} px ({reason}): give another --image-size"
        ) from None


def depths(model: nn.Module, hidden: Sequence[str], head: str, x: Tensor) -> dict[int, str]:
    """By depth l, the module whose input are the features of depth l: hidden layer l + 1, at last the head."""
    order = call_order(model, [*hidden, head], x)
    return dict(enumerate(order[1:], start=1))


def pool_of(model: nn.Module, layer: str, x: Tensor, limit: int = 4096) -> int | None:
    """The finest pooling of the maps entering a layer that leaves at most `limit` features; None if they are fewer."""
    shapes: list[torch.Size] = []
    hook = model.get_submodule(layer).register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
    try:
        call_order(model, [], x)
    finally:
        hook.remove()
    size = shapes[0][1:]
    if size.numel() <= limit or len(size) < 3:
        return None
    return max(1, int((limit / size[0]) ** 0.5))


def write_net(path: Path, net: Net) -> None:
    """Write a run folder's model.json."""
    atomic_write(path / "model.json", json.dumps(net.plain(), indent=1, ensure_ascii=False) + "\n")


def read_net(run: Path, console: Console) -> tuple[Net, nn.Module]:
    """The trained net of a run folder, from its checkpoint alone; warns if the run is not finished.

    Raises:
        ValueError: there is no run, or its checkpoint is not sound.
    """
    if not run.is_dir():
        raise ValueError(f"{run}: there is no such run folder; give the --out of an earlier pretrain or finetune")
    state = checkpoint.load(run / "checkpoints" / "last.pt")
    net = Net.of(state["about"], run)
    model = net.build()
    try:
        model.load_state_dict(state["parts"]["model"])
    except (RuntimeError, KeyError):
        raise ValueError(f"{run}: its checkpoint does not fit the net {net.model!r}; train it again") from None
    if (run / "config.yaml").exists() and not finished(run):
        console.warn(f"{run} is not finished: its net is as of step {state['progress']['step']}")
    return net, model
