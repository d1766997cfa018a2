"""The net of a run folder: what builds it again and feeds it, written to model.json and every checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fasthebb.data import ImageSet, Loader
from fasthebb.data.whitening import Whitening
from fasthebb.distributed import rank, world_size
from fasthebb.files import atomic_write
from fasthebb.models import call_order, head_name, trainable_layers
from fasthebb.models.cut import HEAD
from fasthebb.models.ready import WHITENING, build_as, cut_as


@dataclass(frozen=True)
class Net:
    """Everything that builds a net again and feeds it.

    source: the options that its images came from. mean, std: one a channel. whitening: of whitened nets, kept in a file
    of its own. cut, depth: the layer that a net is cut before, if it is, and the depth of the features there. From
    `classifier` on the fields are those of its fine-tuning.
    """

    dataset: str
    source: Mapping[str, Any]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    resize: str
    model: str
    width: float
    forward: str
    twin: str
    head: str
    rule: str
    validation: float
    seed: int
    whitened: bool = False
    cut: str | None = None
    depth: int | None = None
    pretrain_seconds: float | None = None
    classifier: str | None = None
    labels: str | None = None
    balanced: bool | None = None
    label_seed: int | None = None
    label_count: int | None = None
    whitening: Whitening | None = field(default=None, compare=False)

    def build(self) -> nn.Module:
        """The net, with initial weights from torch's random state."""
        return build_as(vars(self))

    def cut_off(self, model: nn.Module) -> nn.Module:
        """The part of a model of this net before the layer that it is cut at, under a classifier of its own."""
        assert self.cut is not None
        return cut_as(vars(self), model)

    def plain(self) -> dict[str, Any]:
        """As JSON values; without the whitening."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return {key: value for key, value in values.items() if key != "whitening"}

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

    def loader_of_rank(
        self, images: ImageSet, batch_size: int, device: torch.device, *, together: bool, **more: Any
    ) -> Loader:
        """This rank's share of batches of `batch_size` images.

        together: whether batch norms see the images of all ranks; otherwise each rank needs two of every batch.

        Raises:
            ValueError: a rank has too few images of a batch.
        """
        loader = self.loader(images, batch_size, device, part=(rank(), world_size()), **more)
        first, last = loader.images_in(0), loader.images_in(len(loader) - 1)
        if len(loader.indices) < world_size():
            raise ValueError(f"{len(loader.indices)} images for {world_size()} ranks: start fewer ranks")
        if first < world_size():
            raise ValueError(f"A batch of {first} images for {world_size()} ranks: give a larger --batch-size")
        if not together and min(first, last) < 2 * world_size() > 2:
            raise ValueError(
                f"A batch of {min(first, last)} images for {world_size()} ranks, whose batch norms need two on each: "
                "leave --sync-bn on, or give another --batch-size"
            )
        return loader

    def loader(self, images: ImageSet, batch_size: int, device: torch.device, **more: Any) -> Loader:
        """Batches of images as the net takes them: normalised, and whitened if it is of whitened images."""
        return Loader(images, batch_size, mean=self.mean, std=self.std, device=device, whiten=self.whitening, **more)


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


def layer_at(net: Net, model: nn.Module, depth: int) -> str:
    """The layer that the features of a depth enter.

    Raises:
        ValueError: the model has no such depth.
    """
    x = torch.zeros(2, len(net.mean), net.image_size, net.image_size, device=next(model.parameters()).device)
    found = depths(model, [name for name in trainable_layers(model) if name != net.head], net.head, x)
    if depth not in found:
        raise ValueError(f"depth {depth}: {net.model} has depths 1 to {max(found)}")
    return found[depth]


def cut_at(net: Net, model: nn.Module, depth: int) -> tuple[Net, nn.Module]:
    """A net and its model, cut off where the features of a depth enter the next layer; raises as `layer_at`."""
    net = replace(net, cut=layer_at(net, model, depth), depth=depth, head=HEAD)
    return net, net.cut_off(model)


def check_images(net: Net, model: nn.Module) -> None:
    """See whether a net takes its images, of a size that a command was given.

    Raises:
        ValueError: it does not.
    """
    side = net.image_size
    images = torch.zeros(2, len(net.mean), side, side, device=next(model.parameters()).device)
    try:
        call_order(model, [], images)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{net.model} does not take images of {side} px ({reason}): give another --image-size"
        ) from None


def depths(model: nn.Module, hidden: Sequence[str], head: str, x: Tensor) -> dict[int, str]:
    """By depth l, the module whose input are the features of depth l: hidden layer l + 1, at last the head."""
    order = call_order(model, [*hidden, head], x)
    return dict(enumerate(order[1:], start=1))


class Spot(NamedTuple):
    """Where features are taken and how: what enters a module, its maps averaged to pool × pool cells; size, how many
    features that is; shape, what of one image enters the module."""

    module: str
    pool: int | None
    size: int
    shape: torch.Size


def spot_of(model: nn.Module, layer: str, x: Tensor, pool: int | None = None, *, limit: int = 4096) -> Spot:
    """Where the features that enter a layer are taken: before they are flattened, so that maps can be pooled.

    pool: cells a side; by default the finest pooling that leaves at most `limit` features, and none if they are fewer.
    """
    module, shape = _before_flattening(model, layer, x)
    if len(shape) != 3 or (pool is None and shape.numel() <= limit):
        return Spot(module, None, shape.numel(), shape)
    pool = pool or max(1, int((limit / shape[0]) ** 0.5))
    return Spot(module, pool, shape[0] * min(pool, shape[1]) * min(pool, shape[2]), shape)


def _before_flattening(model: nn.Module, layer: str, x: Tensor) -> tuple[str, torch.Size]:
    # The module, and what of one image enters it: the layer, or the flattening right before it.
    entered: list[tuple[str, torch.Size]] = []

    def note(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            first = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), x[:, 0, 0, 0])
            entered.append((name, first.shape[1:]))

        return hook

    leaves = {name: module for name, module in model.named_modules() if not any(module.children())}
    hooks = [module.register_forward_pre_hook(note(name), with_kwargs=True) for name, module in leaves.items()]
    try:
        call_order(model, [], x)
    finally:
        for hook in hooks:
            hook.remove()
    names = [name for name, _ in entered]
    first = at = names.index(layer)
    while at and isinstance(leaves[names[at - 1]], nn.Flatten | nn.Dropout):
        at -= 1
        first = at if isinstance(leaves[names[at]], nn.Flatten) else first
    return entered[first]


def write_net(path: Path, net: Net) -> None:
    """Write a run folder's model.json and, of a net of whitened images, its whitening; the first rank does."""
    if rank() > 0:
        return
    if net.whitening is not None:
        net.whitening.save(path / WHITENING)
    atomic_write(path / "model.json", json.dumps(net.plain(), indent=1, ensure_ascii=False) + "\n")
