"""Pre-training by SimCLR: backpropagation without labels that tells two views of an image from those of others.

Chen, Kornblith, Norouzi, Hinton 2020, "A simple framework for contrastive learning of visual representations" (arXiv
2002.05709). The loss (NT-Xent) and the projection head are those of the package lightly, the extra `simclr`.
"""

from __future__ import annotations

import copy
import importlib
import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from fasthebb.data.loader import Loader
from fasthebb.diagnostics import broken_layer
from fasthebb.models import head_name
from fasthebb.models.cut import Cut
from fasthebb.training.loop import History, Plan, Progress, Stateful, Watcher, train
from fasthebb.training.passes import batches_of, images_and_labels
from fasthebb.training.sgd import nesterov

EMBEDDING = 128  # features that the loss compares
HIDDEN = 2048  # units of the projection head's hidden layer, at most


def pretrain_simclr(
    model: nn.Module,
    loader: Any,
    *,
    epochs: int,
    lr: float = 0.06,
    head: str | None = None,
    temperature: float = 0.5,
    weight_decay: float = 5e-4,
    momentum: float = 0.9,
    max_steps: int | None = None,
    max_seconds: float | None = None,
    watcher: Watcher | None = None,
) -> History:
    """Train the layers before the head on images alone: SGD with Nesterov momentum, its rate on a cosine to 0.

    What enters the head goes through a projection head, two layers with batch norm, that is thrown away in the end; a
    dropout right before the head is off. Both views go through the net as one batch. With `max_seconds` the rate
    follows the time, and the result depends on the machine: neither the same seed nor a resumed run gives it again.

    Args:
        model: on the device to train on; its head stays as it is.
        loader: gives (x, labels), in x the first views of all images, then the second: `Loader(..., views=2,
            augment="contrast")`, batches of 256 images; the labels are never read.
        head: name of the classifying layer; the last Linear by default.
        temperature: divides the cosine of two embeddings.
        weight_decay: L2 penalty.
        max_steps: end after so many steps.
        max_seconds: end with the step in which so many seconds are used up; loading images does not count.
        watcher: what looks on and writes checkpoints.

    Returns:
        One record an epoch: epoch, step, seconds and loss.

    Raises:
        ValueError: lightly is not installed, nothing to train on, no time, no two views, or no such head.
        FloatingPointError: the loss is not finite.
    """
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(f"max_seconds={max_seconds}: give a time above 0")
    if isinstance(loader, Loader) and loader.views != 2:
        raise ValueError(f"The loader gives {loader.views} views of an image; SimCLR takes views=2")
    losses, heads = _lightly("loss.ntx_ent_loss"), _lightly("models.modules.heads")
    device = next(model.parameters()).device
    plan = Plan(batches_of(loader), epochs, max_steps)
    sample = images_and_labels(next(iter(loader)))[0][:2].to(device)
    net = _embedding(model, head or head_name(model), sample, heads.SimCLRProjectionHead)
    contrast = losses.NTXentLoss(temperature)
    optimizer = nesterov(net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    spent = 0.0

    def over(progress: Progress) -> bool:
        nonlocal spent
        spent = 0.0 if max_seconds is None else progress.seconds / max_seconds
        return spent >= 1

    def step(number: int, x: Tensor, labels: Tensor) -> dict[str, float | Tensor]:  # noqa: ARG001
        for group in optimizer.param_groups:
            group["lr"] = lr * cosine(max(number / plan.total, spent))
        optimizer.zero_grad()
        with torch.enable_grad():
            first, second = net(x.to(device)).unflatten(0, (2, -1))
            loss = contrast(first, second)
        if not torch.isfinite(loss):
            broken = broken_layer(net.state_dict())
            where = "" if broken is None else f", from layer {broken!r} on"
            raise FloatingPointError(
                f"The loss is {loss.item()} in step {number + 1}{where}: lower the learning rate {lr}, "
                "or check the images"
            )
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}

    net.train()
    parts: dict[str, Stateful] = {"model": net, "optimizer": optimizer}
    history = train(loader, plan, step, parts=parts, over=over, watcher=watcher, description="pretrain simclr").history
    model.load_state_dict(net.body.state_dict(), strict=False)
    return history


def cosine(share: float) -> float:
    """The factor of the learning rate when a share of the stage is over: from 1 down to 0 on half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * share))


def _embedding(model: nn.Module, head: str, x: Tensor, projection: Any) -> Cut:
    # A copy of the model whose classifier is a projection head: images to embeddings.
    net = Cut(copy.deepcopy(model), head, EMBEDDING, x, dropout=0.0)
    features = net.head.in_features
    net.head = projection(features, min(features, HIDDEN), EMBEDDING).to(next(model.parameters()))
    return net


def _lightly(name: str) -> ModuleType:
    # A module of the package; it stands on torchvision, of which it calls nothing here.
    try:
        try:
            return importlib.import_module(f"lightly.{name}")
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
        # beside a torch of another build torchvision's compiled part does not load, and importing it misses these two
        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        return importlib.import_module(f"lightly.{name}")
    except ModuleNotFoundError as error:
        raise ValueError(f"SimCLR needs {str(error.name).partition('.')[0]}: pip install 'fasthebb[simclr]'") from None
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"SimCLR needs lightly, but importing it failed with {reason}") from error
