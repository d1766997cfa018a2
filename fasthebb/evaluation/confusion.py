"""What a net says of every image, and which class it takes for which."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fasthebb.models.order import eval_mode


def predictions(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Scores float32 [M, classes] and labels int64 [M] of all (x, labels) batches, both on the model's device.

    Runs in eval mode (each module's mode is restored) without gradients. Labels may be -1, unlabelled.

    Raises ValueError for an empty loader, FloatingPointError for scores that are not finite.
    """
    device = next((t.device for group in (model.parameters(), model.buffers()) for t in group), None)
    scores: list[Tensor] = []
    labels: list[Tensor] = []
    with torch.no_grad(), eval_mode(model):
        for x, y in loader:
            scores.append(model(x.to(device)).float())
            labels.append(y.to(device, torch.int64))
    if not scores:
        raise ValueError("the loader gave no batch: nothing to predict")
    every_score = torch.cat(scores)
    if not every_score.isfinite().all():
        raise FloatingPointError("The net's scores are not finite: lower the learning rate, or check the images")
    return every_score, torch.cat(labels)


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Count how often each class (rows) is taken for each class (columns): int64 [classes, classes].

    predicted, labels: int64 [M] in 0 .. classes - 1. The diagonal is what is right, a row sums to the class's images.

    Raises ValueError for lengths that differ and numbers outside the classes, an unlabelled (-1) image's among them.
    """
    if predicted.ndim != 1 or predicted.shape != labels.shape:
        raise ValueError(f"predictions are {list(predicted.shape)}, labels {list(labels.shape)}: give [M] and [M]")
    for name, numbers in (("predictions", predicted), ("labels", labels)):
        if outside := int(((numbers < 0) | (numbers >= classes)).sum()):
            raise ValueError(f"{outside} of {len(numbers)} {name} lie outside 0 to {classes - 1}: leave these out")
    pairs = labels.to(predicted.device, torch.int64) * classes + predicted
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)
