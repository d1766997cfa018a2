"""Supervised training: end to end or of the head alone, on the images of a label budget, and from scratch alike."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fasthebb.diagnostics import broken_layer
from fasthebb.hebbian import Hebbian
from fasthebb.models import head_name
from fasthebb.training.loop import History, Plan, Stateful, Watcher, train


def finetune(
    model: nn.Module,
    loader: Any,
    *,
    epochs: int,
    lr: float,
    head_only: bool = False,
    head: str | None = None,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    max_steps: int | None = None,
    validation: Iterable[tuple[Tensor, Tensor]] | None = None,
    hebb: Hebbian | None = None,
    local: float = 0.0,
    watcher: Watcher | None = None,
) -> History:
    """Train a classifier by backpropagation: SGD with Nesterov momentum, its rate halved ten times in the second half.

    With a handle, attached layers follow their rules as well: their gradient is that of the loss less local·ΔW.

    Args:
        model: on the device to train on.
        loader: gives (x, labels) of the label budget, and of nothing else.
        head_only: train the head on frozen features: everything else stays in eval mode.
        head: name of the classifying layer; the last Linear by default.
        max_steps: end after so many steps.
        validation: batches measured after every epoch, for the curves; nothing is ever selected on them.
        hebb: the model's handle, from `fasthebb.attach`; the labels of a batch are its signal.
        local: how much its rules weigh beside the loss; with 0 they only keep their memory.

    Returns:
        One record an epoch: epoch, step, seconds, lr, loss, accuracy and, with validation, val_accuracy, in percent.

    Raises:
        ValueError: no such head, nothing to train on, or a weight for rules without a handle.
        FloatingPointError: the loss is not finite.
    """
    if local and hebb is None:
        raise ValueError(f"local={local}: there are no rules to weigh; give the handle that attach() returned as hebb")
    device = next(model.parameters()).device
    plan = Plan(len(loader), epochs, max_steps)
    head = head or head_name(model)
    trained = _trained(model, head, head_only)
    optimizer = torch.optim.SGD(trained, lr=lr, momentum=momentum, nesterov=momentum > 0, weight_decay=weight_decay)

    def step(number: int, x: Tensor, labels: Tensor) -> dict[str, float | Tensor]:
        for group in optimizer.param_groups:
            group["lr"] = lr * schedule(number, plan.total)
        x, labels = x.to(device), labels.to(device)
        optimizer.zero_grad()
        if hebb is not None:
            hebb.signal = labels
        with torch.enable_grad():
            scores = model(x)
            loss = F.cross_entropy(scores, labels)
        if not torch.isfinite(loss):
            first = broken_layer(model.state_dict())
            raise FloatingPointError(
                f"The loss is {loss.item()} in step {number + 1}, from layer {head if first is None else first!r} on: "
                f"lower the learning rate {lr}, or check the images"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        if hebb is not None:
            hebb.write_grad(local=local, gradient=1.0)
            hebb.signal = None
        optimizer.step()
        return {"loss": loss.detach(), "accuracy": (scores.argmax(1) == labels).float().mean() * 100}

    def after_epoch(number: int) -> dict[str, float]:
        if hebb is not None:
            hebb.check()
        record = {"lr": lr * schedule(number, plan.total)}
        if validation is not None:
            record["val_accuracy"] = accuracy(model, validation)
            _mode(model, head, head_only)
        return record

    _mode(model, head, head_only)
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer}
    if hebb is not None:
        parts["hebb"] = hebb
    with _frozen([p for p in model.parameters() if p.requires_grad and not any(p is t for t in trained)]):
        return train(
            loader, plan, step, parts=parts, after_epoch=after_epoch, watcher=watcher, description="finetune"
        ).history


def schedule(number: int, total: int) -> float:
    """The factor of the learning rate at a step: 1 in the first half, then halved at each twentieth of the stage.

    PROTOCOL's schedule (20 epochs, halved at each of the last ten), stretched to any length.
    """
    return float(0.5 ** max(0, 20 * number // total - 9))


def accuracy(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], k: int = 1) -> float:
    """Top-k accuracy in percent, in eval mode; the mode is left at eval."""
    return accuracies(model, loader, (k,))[0]


def accuracies(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], ks: tuple[int, ...]) -> list[float]:
    """Top-k accuracies in percent for every k, in eval mode; the mode is left at eval.

    Raises:
        ValueError: there are no images.
        FloatingPointError: a score is not finite.
    """
    device = next(model.parameters()).device
    model.eval()
    hits, images = torch.zeros(len(ks), dtype=torch.float64), 0
    with torch.no_grad():
        for x, labels in loader:
            scores, labels = model(x.to(device)), labels.to(device)
            if not scores.isfinite().all():
                raise FloatingPointError(
                    "The net's scores are not finite: lower the learning rate, or check the images"
                )
            ranked = scores.topk(min(max(ks), scores.shape[1]), dim=1).indices == labels[:, None]
            hits += torch.tensor([float(ranked[:, :k].any(dim=1).sum()) for k in ks], dtype=torch.float64)
            images += len(labels)
    if not images:
        raise ValueError("There are no images to measure accuracy on")
    return (100 * hits / images).tolist()


def _trained(model: nn.Module, head: str, head_only: bool) -> list[nn.Parameter]:
    modules = dict(model.named_modules())
    if head not in modules:
        raise ValueError(f"The model has no layer {head!r} to be its head; it has {', '.join(filter(None, modules))}")
    return list(modules[head].parameters() if head_only else model.parameters())


@contextlib.contextmanager
def _frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    # No gradient is computed for these, so none for the layers that they are of.
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _mode(model: nn.Module, head: str, head_only: bool) -> None:
    model.train(not head_only)
    if head_only:
        model.get_submodule(head).train()
