"""Supervised training: end to end or of the head alone, on the images of a label budget, and from scratch alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fasthebb.diagnostics import broken_layer
from fasthebb.distributed import all_reduce, from_first, rank, world_size
from fasthebb.evaluation.knn import right_places
from fasthebb.hebbian import Hebbian
from fasthebb.models import head_name
from fasthebb.training.loop import History, Plan, Stateful, Watcher, train
from fasthebb.training.passes import batches_of
from fasthebb.training.sgd import behind, nesterov, rate_groups
from fasthebb.training.spread import Spread


def finetune(
    model: nn.Module,
    loader: Any,
    *,
    epochs: int,
    lr: float,
    head_only: bool = False,
    head: str | None = None,
    head_steps: int = 0,
    hidden_rate: float = 1.0,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    max_steps: int | None = None,
    validation: Iterable[tuple[Tensor, Tensor]] | None = None,
    hebb: Hebbian | None = None,
    local: float = 0.0,
    watcher: Watcher | None = None,
) -> History:
    """Train a classifier by backpropagation: SGD with Nesterov momentum, its rate halved ten times in the second half.

    With a handle, attached layers follow their rules as well: their gradient is that of the loss less local·ΔW. In a
    process group all ranks call it, each with a loader of its own images, see `Spread`; gradients are means over all.

    Args:
        model: on the device to train on.
        loader: gives (x, labels) of the label budget, and of nothing else; labels are int64 [B], or each image's
            shares of the classes, [B, classes].
        head_only: train the head on frozen features: everything else stays in eval mode.
        head: name of the classifying layer; the last Linear by default.
        head_steps: the first steps, in which the head is trained alone, as with head_only.
        hidden_rate: the learning rate of everything but the head, relative to `lr`.
        max_steps: end after so many steps.
        validation: batches measured after every epoch, for the curves; nothing is ever selected on them.
        hebb: the model's handle, from `fasthebb.attach`; the labels of a batch are its signal.
        local: how much its rules weigh beside the loss; with 0 they only keep their memory.

    Returns:
        One record an epoch: epoch, step, seconds, lr, loss, accuracy and, with validation, val_accuracy, in percent.

    Raises:
        ValueError: no such head, nothing to train on, labels that the model has no class for, a negative number, a
            weight for rules without a handle, or rules that could not listen in the first steps.
        FloatingPointError: the loss is not finite.
    """
    _check(head_steps, hebb, local)
    device = next(model.parameters()).device
    plan = Plan(batches_of(loader), epochs, max_steps)
    parts = _Parts(model, head or head_name(model), plan.total if head_only else head_steps)
    groups = parts.groups(head_only, hidden_rate)
    spread = Spread(model, loader)
    optimizer = nesterov(
        [{"params": parameters} for parameters, _ in groups],
        lr=lr, momentum=momentum, weight_decay=weight_decay,
    )  # fmt: skip

    def step(number: int, x: Tensor, labels: Tensor) -> dict[str, float | Tensor]:
        parts.turn(number)
        for group, (_, rate) in zip(optimizer.param_groups, groups):
            group["lr"] = lr * rate * schedule(number, plan.total)
        x, labels = x.to(device), labels.to(device)
        optimizer.zero_grad()
        if hebb is not None:
            hebb.signal = labels
        with torch.enable_grad():
            scores = spread(x)
            loss = _loss(scores, labels) if len(x) else scores.sum() * 0
        broken = spread.broken(loss)
        if broken is not None:
            raise diverged(model, loss, number, lr, parts.head, broken)
        spread.backward(loss, len(x), plan.place(number)[2])
        if hebb is not None:
            hebb.write_grad(local=local, gradient=1.0)
            hebb.signal = None
        optimizer.step()
        known = labels if labels.ndim == 1 else labels.argmax(1)
        return {"loss": loss.detach(), "accuracy": (scores.argmax(1) == known).float().mean() * 100}

    def after_epoch(number: int) -> dict[str, float]:
        if hebb is not None:
            hebb.check()
        record = {"lr": lr * schedule(number, plan.total)}
        if validation is not None:
            record["val_accuracy"] = accuracy(model, validation)
            parts.turn(number)
        return record

    kept: dict[str, Stateful] = {"model": model, "optimizer": optimizer}
    if hebb is not None:
        kept["hebb"] = hebb
    with parts:
        return train(
            loader, plan, step, parts=kept, after_epoch=after_epoch, watcher=watcher, description="finetune"
        ).history


def _loss(scores: Tensor, labels: Tensor) -> Tensor:
    try:
        return F.cross_entropy(scores, labels)
    except IndexError:  # on a CPU; a GPU says it later, and ends the process
        raise ValueError(
            f"Labels from {int(labels.min())} to {int(labels.max())} for a model of {scores.shape[1]} classes: they "
            "count from 0; leave unlabelled images (-1) out, or give the model as many classes"
        ) from None


def diverged(model: nn.Module, loss: Tensor, number: int, lr: float, head: str, where: int = 0) -> FloatingPointError:
    """What to tell a user of a loss that is not finite in a step counted from 0, on rank `where`."""
    first = broken_layer(model.state_dict())
    found = str(loss.item()) if where == rank() else "not finite"
    place = f" on rank {where}" if world_size() > 1 else ""
    return FloatingPointError(
        f"The loss is {found}{place} in step {number + 1}, from layer {head if first is None else first!r} on: "
        f"lower the learning rate {lr}, or check the images"
    )


def schedule(number: int, total: int) -> float:
    """The factor of the learning rate at a step: 1 in the first half, then halved at each twentieth of the stage.

    PROTOCOL's schedule (20 epochs, halved at each of the last ten), stretched to any length.
    """
    return float(0.5 ** max(0, 20 * number // total - 9))


def accuracy(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], k: int = 1) -> float:
    """Top-k accuracy in percent, in eval mode; the mode is left at eval. Of several ranks, see `accuracies`."""
    return accuracies(model, loader, (k,))[0]


def accuracies(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], ks: tuple[int, ...]) -> list[float]:
    """Top-k accuracies in percent for every k, in eval mode; the mode is left at eval.

    In a process group all ranks call it, each with a loader of its own images: over those of all, by the first rank's
    running statistics. Of equal scores the lowest class ranks first, as in `fasthebb.evaluation.topk_accuracy`.

    Raises:
        ValueError: there are no images, or unlabelled (-1) ones.
        FloatingPointError: a score is not finite.
    """
    device = next(model.parameters()).device
    model.eval()
    from_first(list(model.buffers()))
    hits, unlabelled, images = torch.zeros(len(ks), dtype=torch.float64), 0, 0
    with torch.no_grad():
        for x, labels in loader:
            scores, labels = model(x.to(device)), labels.to(device)
            if not scores.isfinite().all():
                raise FloatingPointError(
                    "The net's scores are not finite: lower the learning rate, or check the images"
                )
            places = right_places(scores.float(), labels)
            hits += torch.tensor([float(places[:, :k].sum()) for k in ks], dtype=torch.float64)
            unlabelled += int((labels < 0).sum())
            images += len(labels)
    total = torch.cat([hits, hits.new_tensor([unlabelled, images])])
    all_reduce(total)  # before anything is refused, so that all ranks refuse it
    if not total[-1]:
        raise ValueError("There are no images to measure accuracy on")
    if total[-2]:
        raise ValueError(f"{total[-2]:.0f} of {total[-1]:.0f} labels are negative (unlabelled): leave these images out")
    return (100 * total[:-2] / total[-1]).tolist()


def _check(head_steps: int, hebb: Hebbian | None, local: float) -> None:
    if local and hebb is None:
        raise ValueError(f"local={local}: there are no rules to weigh; give the handle that attach() returned as hebb")
    if head_steps < 0:
        raise ValueError(f"head_steps={head_steps}: give a number of 0 or more")
    if head_steps and hebb is not None:
        raise ValueError(f"head_steps={head_steps}: rules listen from the first step on; leave head_steps or hebb out")


class _Parts:
    """The head of a model and the rest, which is frozen in the first steps, while the context lasts.

    Nothing is computed for what is frozen: it has no gradient, and is in eval mode.
    """

    def __init__(self, model: nn.Module, head: str, alone: int) -> None:
        modules = dict(model.named_modules())
        if head not in modules:
            there = ", ".join(filter(None, modules))
            raise ValueError(f"The model has no layer {head!r} to be its head; it has {there}")
        self.head = head
        self._model, self._head, self._alone = model, modules[head], alone
        hidden = behind(model, list(modules[head].parameters()))
        self._frozen = [p for p in hidden if p.requires_grad]  # in the first steps

    def groups(self, head_only: bool, hidden_rate: float) -> list[tuple[list[nn.Parameter], float]]:
        """Parameters to train, and their learning rates relative to the head's."""
        groups = rate_groups(self._model, self.head, hidden_rate)
        return [(list(self._head.parameters()), 1.0)] if head_only else groups

    def turn(self, number: int) -> None:
        """Be as a step, counted from 0, needs it."""
        alone = number < self._alone
        self._model.train(not alone)
        self._head.train()
        for parameter in self._frozen:
            parameter.requires_grad_(not alone)

    def __enter__(self) -> None:
        self.turn(0)

    def __exit__(self, *_: object) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_(True)
