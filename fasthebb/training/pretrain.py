"""Unsupervised pre-training: rules write the gradients, any torch optimizer takes the steps, no label is read."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fasthebb.hebbian import Hebbian
from fasthebb.models import call_order
from fasthebb.training.forward import Forward
from fasthebb.training.loop import History, Plan, Stateful, Watcher, train

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
    watcher: Watcher | None = None,
) -> History:
    """Train the attached layers of a model on images alone.

    A forward ends where nothing is left that learns or keeps statistics, so a classifier costs nothing.

    Args:
        model: on the device to train on; left in training mode.
        hebb: its handle, from `fasthebb.attach`.
        loader: gives (x, labels); the labels are never read.
        optimizer: over `hebb.parameters()`.
        epochs: passes over the images; with order="layerwise" for each layer.
        order: "joint" trains all layers from one forward; "layerwise" one after the other, in the order of the
            forward, on what the trained ones before it make of the images.
        max_steps: end after so many steps (of each layer, with "layerwise").
        watcher: what looks on and writes checkpoints.

    Returns:
        One record an epoch: epoch, step, seconds, and for each layer that learned in it the last update relative to the
        weights, `update/NAME`, and dead units, `dead/NAME`.

    Raises:
        ValueError: an unknown order, nothing to train on.
        FloatingPointError: an update is not finite; the layer is named.
    """
    if order not in ("joint", "layerwise"):
        raise ValueError(f"order {order!r} is unknown: choose joint or layerwise")
    model.train()
    device = next(model.parameters()).device
    sample = next(iter(loader))[0][:2].to(device)
    layers = call_order(model, hebb.layers, sample) if order == "layerwise" else ()
    forward = Forward(model, hebb.layers, hebb.layers, sample)
    plan = Plan(len(loader), epochs, max_steps, phases=max(1, len(layers)))

    def focus(layer: str) -> None:
        nonlocal forward
        hebb.focus(layer)
        forward.close()
        forward = Forward(model, (layer,), layers, sample)

    def step(number: int, x: Tensor, labels: Tensor) -> dict[str, float]:  # noqa: ARG001
        if layers and hebb.focused != layers[plan.place(number)[0]]:
            focus(layers[plan.place(number)[0]])
        forward(x.to(device))
        hebb.write_grad()
        optimizer.step()
        return {}

    def after_epoch(number: int) -> dict[str, float]:
        learning = layers[plan.place(number)[0]] if layers else None  # what the others did last is not of this epoch
        rows = [row for row in hebb.summary().rows if learning in (None, row.name)]
        moved = {
            f"update/{r.name}": r.update_norm / (r.weight_norm or math.inf) for r in rows if r.update_norm is not None
        }
        return moved | {f"dead/{r.name}": float(r.dead) for r in rows if r.dead is not None}

    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "hebb": hebb}
    try:
        progress = train(
            loader, plan, step, parts=parts, after_epoch=after_epoch, watcher=watcher, description="pretrain"
        )
    finally:
        forward.close()
        hebb.focus(None)
    return progress.history
