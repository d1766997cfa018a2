"""Linear probes on frozen features: ridge in closed form, and softmax regression by SGD or Adam."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot, softmax

from fasthebb.evaluation.knn import check_labelled, topk_accuracy
from fasthebb.evaluation.ridge import CHUNK, ridge, standardised

METHODS = ("ridge", "sgd", "adam")
EPOCHS = {"sgd": 20, "adam": 50}
RATES = {"sgd": 5e-4, "adam": 1e-3}
HALVED = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9)  # parts of its epochs at which Adam's rate is halved
DROPOUT = 0.5  # of the features that Adam sees


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier on standardised features: scores = (features - mean) / scale @ weight.T + bias.

    weight: [classes, F]; bias: [classes]; mean, scale: [F]; all float64. strength: of the ridge, None for the others;
    left_out: its mean squared leave-one-out error, by which depths can be compared without a label more.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor
    strength: float | None = None
    left_out: float | None = None

    def scores(self, features: Tensor) -> Tensor:
        """Scores float64 [M, classes] of features [M, F]."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"features are {list(features.shape)}: this probe reads [M, {len(self.mean)}]")
        weight = self.weight / self.scale
        chunks = [(rows.double() - self.mean) @ weight.T + self.bias for rows in torch.split(features, CHUNK)]
        return torch.cat(chunks)

    def predict(self, features: Tensor) -> Tensor:
        """The class int64 [M] of highest score for features [M, F]."""
        return self.scores(features).argmax(1)

    def score(self, features: Tensor, labels: Tensor, k: int = 1) -> float:
        """Top-k accuracy in percent on features [M, F] and labels [M]."""
        return topk_accuracy(self.scores(features), labels, k)


def linear_probe(
    features: Tensor,
    labels: Tensor,
    *,
    method: str = "ridge",
    seed: int = 0,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int = 64,
    copies: int = 1,
) -> Probe:
    """Train a linear classifier on features [M, F] and labels int64 [M] in 0 .. classes - 1, on the features' device.

    "ridge": least squares to +1 (the class) and -1 on standardised features, the intercept free, the strength of least
    leave-one-out error over a log grid; nothing else matters to it. O(min(M, F)³) in float64: pool large maps first.
    "sgd": softmax regression from zero on standardised features, 20 epochs at `lr` 5e-4, Nesterov 0.9, halved at each
    of the last ten (of fewer than twenty: of the second half). "adam": softmax regression behind a dropout of a half on
    the features as they are, 50 epochs by Adam at `lr` 1e-3, halved at 20, 35, 50, 60, 70, 80 and 90 % of them: the
    read-out of SoftHebb (Journé et al., arXiv 2209.11883); it takes no second copy of the features. `seed` decides the
    order, initial weights and dropout.
    copies: the rows are so many views of M/copies images, one view of all after the other, such as the images and the
    images mirrored; the leave-one-out error of the ridge leaves the views of an image out together.

    Raises ValueError for an unknown method, features that are not finite or do not fit the labels or the copies,
    unlabelled (-1) rows, fewer than two rows.
    """
    if method not in METHODS:
        raise ValueError(f"probe method {method!r} is unknown: choose from {', '.join(METHODS)}")
    if features.ndim != 2 or labels.shape != features.shape[:1] or len(features) < 2:
        raise ValueError(
            f"features are {list(features.shape)}, labels {list(labels.shape)}: give [M, F] and [M], M at least 2"
        )
    if copies < 1 or len(features) % copies:
        raise ValueError(f"copies={copies}: {len(features)} rows are not so many views of the same images")
    check_labelled(labels)
    if not all(part.isfinite().all() for part in torch.split(features, CHUNK)):
        raise ValueError("features hold NaN or infinity: the net that gave them has diverged")
    labels = labels.to(features.device, torch.int64)
    if method == "ridge":
        return _ridge(features, labels, copies)
    learn = _sgd if method == "sgd" else _adam
    return learn(
        features, labels, seed, EPOCHS[method] if epochs is None else epochs, RATES[method] if lr is None else lr,
        batch_size,
    )  # fmt: skip


def _ridge(features: Tensor, labels: Tensor, copies: int) -> Probe:
    target = one_hot(labels).double() * 2 - 1
    bias = target.mean(0)
    data = standardised(features)
    fit = ridge(data, target - bias, copies)
    return Probe(fit.weight.T.contiguous(), bias, data.mean, data.scale, fit.strength, fit.left_out)


def _sgd(features: Tensor, labels: Tensor, seed: int, epochs: int, lr: float, batch_size: int) -> Probe:
    """PROTOCOL: SGD 5e-4, Nesterov 0.9, batch 64, 20 epochs, halved at each of the last ten."""
    data = standardised(features)
    mean, scale = data.mean.float(), data.scale.float()
    x = (features.float() - mean).div_(scale)
    weight = x.new_zeros(int(labels.max()) + 1, x.shape[1])
    bias = x.new_zeros(len(weight))
    optimizer = torch.optim.SGD([weight, bias], lr=lr, momentum=0.9, nesterov=True)
    decay_from = epochs - min(10, epochs // 2)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * 0.5 ** max(0, epoch + 1 - decay_from)
        for chosen in _batches(x, batch_size, generator):
            _step(optimizer, x[chosen], labels[chosen], weight, bias)
    return Probe(weight.double(), bias.double(), mean.double(), scale.double())


def _adam(features: Tensor, labels: Tensor, seed: int, epochs: int, lr: float, batch_size: int) -> Probe:
    """PROTOCOL, SoftHebb's read-out; weights begin as those of a Linear layer, U(−1/√F, 1/√F)."""
    width, classes, device = features.shape[1], int(labels.max()) + 1, features.device
    generator, drops = torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)
    bound = width**-0.5
    weight = torch.empty(classes, width).uniform_(-bound, bound, generator=generator).to(device)
    bias = torch.empty(classes).uniform_(-bound, bound, generator=generator).to(device)
    optimizer = torch.optim.Adam([weight, bias], lr=lr)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * 0.5 ** sum(epoch >= part * epochs for part in HALVED)
        for chosen in _batches(features, batch_size, generator):
            kept = torch.empty(len(chosen), width, device=device).bernoulli_(1 - DROPOUT, generator=drops)
            _step(optimizer, kept.mul_(features[chosen]).div_(1 - DROPOUT), labels[chosen], weight, bias)
    zero, one = torch.zeros(width, device=device), torch.ones(width, device=device)
    return Probe(weight.double(), bias.double(), zero.double(), one.double())


def _batches(x: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    return torch.split(torch.randperm(len(x), generator=generator).to(x.device), size)


def _step(optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> None:
    """A step on the mean cross-entropy of softmax(x weightᵀ + bias), whose gradient is known."""
    slope = softmax(x @ weight.T + bias, dim=1)
    slope[torch.arange(len(x), device=x.device), labels] -= 1
    slope /= len(x)
    weight.grad, bias.grad = slope.T @ x, slope.sum(0)
    optimizer.step()
