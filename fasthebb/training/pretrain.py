"""Unsupervised pre-training: rules write the gradients, any torch optimizer takes the steps, no label is read."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fasthebb.distributed import TRAFFIC, from_first, world_size
from fasthebb.hebbian import Hebbian
from fasthebb.models import call_order
from fasthebb.training.activations import Activations, ImageNumbers
from fasthebb.training.captured import Captured
from fasthebb.training.forward import Forward, Tail, modules_before
from fasthebb.training.loop import History, Plan, Stateful, Watcher, train
from fasthebb.training.passes import batches_of, images_and_labels
from fasthebb.training.sync_norms import own_statistics

Order = Literal["joint", "layerwise"]


def pretrain(
    model: nn.Module,
    hebb: Hebbian,
    loader: Any,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    order: Order = "joint",
    max_steps: int | None = None,
    activations: Path | None = None,
    capture: bool = False,
    watcher: Watcher | None = None,
) -> History:
    """Train the attached layers of a model on images alone.

    A forward ends where nothing is left that learns or keeps statistics, so a classifier costs nothing. In a process
    group all ranks call it, each with a loader of images of its own.

    Args:
        model: on the device to train on; left in training mode.
        hebb: its handle, from `fasthebb.attach`.
        loader: gives (x, labels) or x alone, and has a length; the labels are never read.
        optimizer: over `hebb.parameters()`.
        epochs: passes over the images; with order="layerwise" for each layer.
        order: "joint" trains all layers from one forward; "layerwise" one after the other, in the order of the
            forward, on what the trained ones before it make of the images. All that is before a layer is in eval mode
            then, its statistics those that earlier phases kept; before the first layer they are kept in its own phase.
        max_steps: end after so many steps (of each layer, with "layerwise").
        activations: with "layerwise", a folder in which to keep what enters the layer that learns, computed once for
            all its epochs; the files are removed at the end. Results are the same to rounding.
        capture: on a GPU, replay each step as one CUDA graph; the optimizer must be one for which torch can do so.
        watcher: what looks on and writes checkpoints.

    Returns:
        One record an epoch: epoch, step, seconds, and for each layer that learned in it the last update relative to the
        weights, `update/NAME`, and dead units, `dead/NAME`; of several ranks also `reduce_mb` and `reduce_ms`, the
        megabytes summed over ranks and the time it took, a step.

    Raises:
        ValueError: an unknown order, nothing to train on; a handle of another model, or an optimizer without a weight
            that learns; with "layerwise" a layer that no forward in eval mode calls; with `activations`, an order, a
            loader or a model that they cannot be kept for; `capture` without a GPU, of several ranks, or with
            `activations`.
        FloatingPointError: an update is not finite; the layer is named.
    """
    if order not in ("joint", "layerwise"):
        raise ValueError(f"order {order!r} is unknown: choose joint or layerwise")
    if activations is not None and order == "joint":
        raise ValueError(
            f"order {order!r} changes every layer's input: choose layerwise, or leave --cache-activations out"
        )
    _check_belong(model, hebb, optimizer)
    hebb.discard()  # what was heard before, of a forward that only tried the model
    model.train()
    if activations is not None and world_size() > 1:
        raise ValueError(f"{world_size()} ranks keep no activations on disk: leave --cache-activations out")
    device = next(model.parameters()).device
    if capture:
        check_capture(device, keeps=activations is not None)
    watcher = watcher or Watcher()
    kept = None if activations is None else Activations(activations, model, loader, watcher.steps)
    batches = batches_of(loader)
    sample = images_and_labels(next(iter(loader)))[0][:2].to(device)
    phases = _Phases(model, hebb, sample, order, kept)
    plan = Plan(batches, epochs, max_steps, phases=len(phases.layers) or 1)

    TRAFFIC.take(1)  # what was before is not of this stage
    counted = 0  # steps since the last record
    apart = own_statistics(model)

    def update(x: Tensor) -> None:
        phases.forward(x)
        hebb.write_grad()
        optimizer.step()
        from_first(apart)  # all ranks go on as they would from the first one's checkpoint

    def replayed() -> None:
        hebb.steps += 1

    captured = Captured(update, replayed)

    def step(number: int, x: Tensor, labels: Tensor) -> dict[str, float]:  # noqa: ARG001
        nonlocal counted
        counted += 1
        phase = plan.place(number)[0]
        phases.enter(phase)
        captured(x.to(device), of=phase) if capture else update(x)
        return {}

    def after_epoch(number: int) -> dict[str, float]:  # noqa: ARG001
        nonlocal counted
        traffic = TRAFFIC.take(counted) if world_size() > 1 else {}
        counted = 0
        learning = hebb.focused  # what the others did last is not of this epoch
        rows = [row for row in hebb.summary().rows if learning in (None, row.name)]
        moved = {
            f"update/{r.name}": r.update_norm / (r.weight_norm or math.inf) for r in rows if r.update_norm is not None
        }
        return moved | {f"dead/{r.name}": float(r.dead) for r in rows if r.dead is not None} | traffic

    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "hebb": hebb}
    source = loader if kept is None else ImageNumbers(loader, epochs)
    try:
        progress = train(
            source, plan, step, parts=parts, after_epoch=after_epoch, watcher=watcher, description="pretrain"
        )
    finally:
        phases.close()
    if kept is not None:
        kept.remove()
    return progress.history


def check_capture(device: torch.device, *, keeps: bool) -> None:
    """See whether steps can be captured; keeps: whether activations are kept on disk.

    Raises:
        ValueError: they cannot.
    """
    if device.type != "cuda":
        raise ValueError(f"--capture is for a GPU, and this is {device.type}: leave it out")
    if world_size() > 1:
        raise ValueError(f"--capture is for one process, and there are {world_size()}: leave it out")
    if keeps:
        raise ValueError("--capture and --cache-activations exclude each other: leave one out")


def _check_belong(model: nn.Module, hebb: Hebbian, optimizer: torch.optim.Optimizer) -> None:
    # Whether a step of the optimizer moves the weights that the model's rules write to.
    owned = set(model.parameters())
    stepped = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    for name, weight in hebb.named_parameters():
        if weight not in owned:
            raise ValueError(f"{name} of the handle is of another model: give the one that attach() returned for this")
        if weight not in stepped:
            raise ValueError(f"{name} learns by a rule, but the optimizer lacks it: make it of hebb.parameters()")


class _Phases:
    # What learns in which phase, and from which forward: all layers in the one phase of joint order, else one in each.

    def __init__(
        self, model: nn.Module, hebb: Hebbian, sample: Tensor, order: Order, activations: Activations | None
    ) -> None:
        self._model, self._hebb, self._sample, self._activations = model, hebb, sample, activations
        self.layers = call_order(model, hebb.layers, sample) if order == "layerwise" else ()
        if order == "layerwise" and (missed := sorted(set(hebb.layers) - set(self.layers))):
            raise ValueError(
                f"{', '.join(missed)} took no part in a forward in eval mode, which layerwise order goes by: map it to "
                "None in attach(), or choose joint"
            )
        self._tails = {} if activations is None else {n: Tail(model, n, self.layers, sample) for n in self.layers[1:]}
        self._exits = contextlib.ExitStack()
        self._now: int | None = None

    def enter(self, phase: int) -> None:
        """Begin a phase, if it is not under way."""
        if phase != self._now:
            self._exits.close()
            from_first(list(self._model.buffers()))  # what is in eval mode from now on is the same everywhere
            self._forward = self._joint() if not self.layers else self._layerwise(self.layers[phase])
            self._now = phase

    def forward(self, x: Tensor) -> None:
        """Show x to what learns in the phase: images, or which images where the activations of a phase are kept."""
        self._forward(x)

    def close(self) -> None:
        """Let all layers learn again, and leave the model in training mode."""
        self._exits.close()
        self._hebb.focus(None)
        self._model.train()

    def _joint(self) -> Callable[[Tensor], None]:
        return self._from_images(self._hebb.layers, self._hebb.layers)

    def _layerwise(self, layer: str) -> Callable[[Tensor], None]:
        self._hebb.focus(layer)
        if layer != self.layers[0]:
            for module in modules_before(self._model, layer, self._sample):
                module.training = False
        if layer in self._tails:
            return self._from_activations(layer)
        return self._from_images((layer,), self.layers)

    def _from_images(self, learns: Collection[str], attached: Collection[str]) -> Callable[[Tensor], None]:
        forward = Forward(self._model, learns, attached, self._sample)
        self._exits.callback(forward.close)
        return lambda x: forward(x.to(self._sample.device))

    def _from_activations(self, layer: str) -> Callable[[Tensor], None]:
        tail, kept = self._tails[layer], self._activations
        assert kept is not None
        kept.open(layer, tail.example)
        return lambda images: tail(kept(images).to(self._sample.device))
