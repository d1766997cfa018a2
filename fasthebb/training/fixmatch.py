"""FixMatch: what a net is sure of in a weakly augmented image, it has to say of the strongly augmented one as well.

With p(x) = softmax(scores of x), over a labelled batch x, y and an unlabelled batch u, weak(u) and strong(u):

L = mean −ln p(x)_y + weight · mean 1[max p(weak(u)) ≥ threshold] · −ln p(strong(u))_c,  c = argmax p(weak(u))

No gradient flows through p(weak(u)). Source: Sohn et al., "FixMatch: simplifying semi-supervised learning with
consistency and confidence", NeurIPS 2020 (arXiv 2001.07685), equations 3 and 4. What it ends with is, as there, a
moving average of the weights, of a decay of 0.999; here it is shorter in the first steps: of so few nothing is left.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fasthebb.data import Loader
from fasthebb.models import head_name
from fasthebb.training.finetune import diverged
from fasthebb.training.loop import History, Plan, Stateful, Watcher, train
from fasthebb.training.passes import batches_of
from fasthebb.training.sgd import nesterov, rate_groups


class Loss(NamedTuple):
    """The loss, and which share of the unlabelled images the net is sure of; both []."""

    value: Tensor
    sure: Tensor


def fixmatch_loss(
    scores: Tensor, labels: Tensor, weak: Tensor, strong: Tensor, *, threshold: float = 0.95, weight: float = 1.0
) -> Loss:
    """FixMatch's loss of one batch: scores [B, classes] and labels int64 [B], scores of two views [U, classes] each."""
    confidence, said = weak.detach().softmax(1).max(1)
    sure = (confidence >= threshold).to(strong.dtype)
    consistency = (F.cross_entropy(strong, said, reduction="none") * sure).mean()
    return Loss(F.cross_entropy(scores, labels) + weight * consistency, sure.mean())


def fixmatch(
    model: nn.Module,
    labelled: Loader,
    weak: Loader,
    strong: Loader,
    *,
    steps: int,
    lr: float = 0.03,
    threshold: float = 0.95,
    weight: float = 1.0,
    hidden_rate: float = 1.0,
    weight_decay: float = 5e-4,
    momentum: float = 0.9,
    decay: float = 0.999,
    watcher: Watcher | None = None,
) -> History:
    """Train a classifier on few labels and many images, from whatever weights it has.

    SGD with Nesterov momentum, its rate lr·cos(7πk/16K) in step k of K. All images of a step go through the net in one
    batch, so that batch norms see them together. The model ends with the moving average of its states.

    Args:
        model: on the device to train on; left in training mode.
        labelled: gives (x, labels) of the label budget, weakly augmented, and nothing else.
        weak: gives unlabelled images, weakly augmented ("light"); its labels are never read. The paper's batches are
            seven times those of `labelled`.
        strong: gives the same images in the same batches, strongly augmented ("hard").
        steps: how many.
        threshold: how sure the net must be of an image to learn from it.
        weight: of the unlabelled images' part.
        hidden_rate: the learning rate of everything but the head, relative to `lr`.
        decay: of the moving average a step; the average is of no more than a ninth of the steps so far.

    Returns:
        One record for each pass over the labelled images: epoch, step, seconds, lr, loss, sure and accuracy, the share
        of unlabelled images that count and of labelled ones that are right, in percent.

    Raises:
        ValueError: the two unlabelled loaders do not give the same images, there are no steps, or a rate is negative.
        FloatingPointError: the loss is not finite.
    """
    _check_views(weak, strong)
    device = next(model.parameters()).device
    batches = batches_of(labelled)
    plan = Plan(batches, max(1, -(-steps // batches)), steps)
    groups = rate_groups(model, head_name(model), hidden_rate)
    optimizer = nesterov(
        [{"params": parameters} for parameters, _ in groups], lr=lr, momentum=momentum, weight_decay=weight_decay
    )
    average = copy.deepcopy(model)
    views: list[Iterator[tuple[Tensor, Tensor]]] = []

    def step(number: int, x: Tensor, labels: Tensor) -> dict[str, float | Tensor]:
        if not views:  # the first step, or where a run goes on
            views.extend(_stream(loader, number) for loader in (weak, strong))
        u, v = (next(view)[0] for view in views)
        for group, (_, rate) in zip(optimizer.param_groups, groups):
            group["lr"] = lr * rate * cosine(number, plan.total)
        labels = labels.to(device)
        optimizer.zero_grad()
        with torch.enable_grad():
            scores, *said = model(torch.cat([part.to(device) for part in (x, u, v)])).split([len(x), len(u), len(v)])
            loss = fixmatch_loss(scores, labels, *said, threshold=threshold, weight=weight)
        if not torch.isfinite(loss.value):
            raise diverged(model, loss.value, number, lr, head_name(model))
        loss.value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        _average(average, model, max(1 - decay, 9 / (number + 9)))
        if number + 1 == plan.total:
            model.load_state_dict(average.state_dict())
        right = (scores.argmax(1) == labels).float().mean()
        return {"loss": loss.value.detach(), "sure": loss.sure * 100, "accuracy": right * 100}

    model.train()
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "average": average}
    return train(
        labelled, plan, step, parts=parts, after_epoch=lambda number: {"lr": lr * cosine(number, plan.total)},
        watcher=watcher, description="fixmatch",
    ).history  # fmt: skip


def cosine(number: int, total: int) -> float:
    """The factor of the learning rate at a step counted from 0: cos(7πk/16K), from 1 down to 0.195."""
    return math.cos(7 * math.pi * number / (16 * total))


def _average(average: nn.Module, model: nn.Module, weight: float) -> None:
    # Moves the average towards the model's state by a share of the way; what are no real numbers are the model's.
    with torch.no_grad():
        for mean, now in zip(average.state_dict().values(), model.state_dict().values()):
            if mean.is_floating_point():
                mean.lerp_(now, weight)
            else:
                mean.copy_(now)


def _check_views(weak: Loader, strong: Loader) -> None:
    same = weak.batch_size == strong.batch_size and torch.equal(weak.order(0), strong.order(0))
    if not same or weak.views + strong.views > 2:
        raise ValueError("weak and strong give other images: make both loaders of one set, seed and batch size")


def _stream(loader: Loader, step: int) -> Iterator[tuple[Tensor, Tensor]]:
    # Batches from a step on, one epoch after the other.
    while True:
        for batch in loader.batches(*divmod(step, len(loader))):
            yield batch
            step += 1
