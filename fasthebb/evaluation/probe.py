"""Linear probes on frozen features: ridge in closed form, and softmax regression by SGD."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, one_hot

from fasthebb.evaluation.knn import check_labelled, topk_accuracy

METHODS = ("ridge", "sgd")
STRENGTHS = torch.logspace(-6, 3, 19, dtype=torch.float64)  # of the ridge, times the mean eigenvalue of its Gram matrix
CHUNK = 4096  # rows at a time in float64


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier on standardised features: scores = (features - mean) / scale @ weight.T + bias.

    weight: [classes, F]; bias: [classes]; mean, scale: [F]; all float64. strength: of the ridge, None for SGD;
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
    epochs: int = 20,
    lr: float = 5e-4,
    batch_size: int = 64,
) -> Probe:
    """Train a linear classifier on features [M, F] and labels int64 [M] in 0 .. classes - 1, on the features' device.

    "ridge": least squares to +1 (the class) and -1 on standardised features, the intercept free, the strength of least
    leave-one-out error over a log grid; nothing else matters to it. O(min(M, F)³) in float64: pool large maps first.
    "sgd": softmax regression from zero on standardised features, Nesterov 0.9, `lr` halved at each of the last ten
    `epochs` (of fewer than twenty: of the second half); `seed` decides the order.

    Raises ValueError for an unknown method, features that are not finite or do not fit the labels, unlabelled (-1)
    rows, fewer than two rows.
    """
    if method not in METHODS:
        raise ValueError(f"probe method {method!r} is unknown: choose from {', '.join(METHODS)}")
    if features.ndim != 2 or labels.shape != features.shape[:1] or len(features) < 2:
        raise ValueError(
            f"features are {list(features.shape)}, labels {list(labels.shape)}: give [M, F] and [M], M at least 2"
        )
    check_labelled(labels)
    if not features.isfinite().all():
        raise ValueError("features hold NaN or infinity: the net that gave them has diverged")
    labels = labels.to(features.device, torch.int64)
    if method == "ridge":
        return _ridge(features.double(), labels)
    return _sgd(features.float(), labels, seed, epochs, lr, batch_size)


def _ridge(x: Tensor, labels: Tensor) -> Probe:
    """Leave-one-out residual i is residual i / (1 - h_i), h the diagonal of the hat matrix (intercept: 1/M).

    Golub, Heath, Wahba, Technometrics 21 (1979): with Z of orthogonal columns, ZᵀZ = diag(e), the hat matrix of the
    centred problem is Z diag(1 / (e + strength)) Zᵀ. Z = X V for V of XᵀX; where F > M, Z = Q sqrt(e) for Q of XXᵀ.
    """
    count, width = x.shape
    mean, scale = _standard(x)
    x = (x - mean).div_(scale)
    target = one_hot(labels).double() * 2 - 1
    bias = target.mean(0)
    target = target - bias
    dual = width > count
    e, vectors = torch.linalg.eigh(x @ x.T if dual else x.T @ x)
    e = torch.where(e > e[-1] * max(x.shape) * torch.finfo(e.dtype).eps, e, torch.zeros_like(e))  # the rest is rounding
    z = vectors * e.sqrt() if dual else x @ vectors
    zt = z.T @ target
    mean_eigenvalue = e.mean().clamp(min=1e-300)  # all features constant: any strength does

    def left_out(strength: Tensor) -> float:
        shrunk = 1 / (e + strength)
        fitted = z @ (shrunk[:, None] * zt)
        leverage = 1 / count + z.square() @ shrunk
        return float(((target - fitted) / (1 - leverage)[:, None]).square().mean())

    errors = {float(strength): left_out(strength) for strength in (STRENGTHS.to(x.device) * mean_eigenvalue).unbind()}
    strength = min(errors, key=errors.__getitem__)
    if dual:
        weight = x.T @ (vectors @ ((vectors.T @ target) / (e + strength)[:, None]))
    else:
        weight = vectors @ (zt / (e + strength)[:, None])
    return Probe(weight.T.contiguous(), bias, mean, scale, strength, errors[strength])


def _sgd(x: Tensor, labels: Tensor, seed: int, epochs: int, lr: float, batch_size: int) -> Probe:
    """PROTOCOL: SGD 5e-4, Nesterov 0.9, batch 64, 20 epochs, halved at each of the last ten."""
    mean, scale = _standard(x)
    x = (x - mean).div_(scale)
    classes = int(labels.max()) + 1
    weight = torch.zeros(classes, x.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(classes, device=x.device, requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], lr=lr, momentum=0.9, nesterov=True)
    generator = torch.Generator().manual_seed(seed)
    decay_from = epochs - min(10, epochs // 2)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * 0.5 ** max(0, epoch + 1 - decay_from)
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for chosen in torch.split(order, batch_size):
            optimizer.zero_grad()
            with torch.enable_grad():
                loss = cross_entropy(linear(x[chosen], weight, bias), labels[chosen])
            torch.autograd.backward(loss)
            optimizer.step()
    return Probe(weight.detach().double(), bias.detach().double(), mean.double(), scale.double())


def _standard(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [F] of x [M, F]; a constant feature keeps its scale."""
    deviation, mean = torch.std_mean(x, dim=0, correction=0)
    negligible = deviation <= 1e-6 * mean.abs().clamp(min=1e-30)
    return mean, torch.where(negligible, torch.ones_like(deviation), deviation)
