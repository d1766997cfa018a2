"""Linear support vector machines on frozen features, one class against the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fasthebb.evaluation.knn import check_labelled
from fasthebb.evaluation.probe import Probe

COSTS = (0.01, 0.1, 1.0, 10.0)
FOLDS = 3  # of the cross-validation that chooses among them


@dataclass(frozen=True, eq=False)
class Svm(Probe):
    """One separating plane per class, read like a `Probe`; a class that had no label scores −inf.

    c: the cost of a row inside the margin, next to ‖w‖²/2, that it was trained with.
    """

    c: float = 1.0


def linear_svm(features: Tensor, labels: Tensor, *, c: float | None = None, seed: int = 0) -> Svm:
    """Train support vector machines on features [M, F] and labels int64 [M] in 0 .. classes - 1.

    Squared hinge loss, by scikit-learn's `LinearSVC`. Features are standardised and divided by √F, so that rows are of
    length 1 in the root mean square and `c` means the same at any width. Without `c`, it is the one among 0.01, 0.1, 1
    and 10 of highest accuracy in stratified 3-fold cross-validation of these rows, the smallest of equals (2-fold where
    a class has two labels, 1 without a choice where it has one); `seed` decides the folds. Seconds for hundreds of
    labels, minutes for many thousands. Runs on the CPU; the result is on the features' device.

    Raises ValueError for a c that is not positive, features that are not finite or do not fit the labels, unlabelled
    (-1) rows, fewer than two classes.
    """
    _check(features, labels, c)
    x = features.double()
    deviation, mean = torch.std_mean(x, dim=0, correction=0)
    constant = deviation <= 1e-6 * mean.abs().clamp(min=1e-30)
    scale = torch.where(constant, 1.0, deviation) * x.shape[1] ** 0.5
    basis, triangle = torch.linalg.qr(((x - mean) / scale).T)  # a solution lies in the rows' span: min(M, F) dimensions
    rows, known = triangle.T.cpu().numpy(), labels.cpu().numpy()
    c = _cost(rows, known, seed) if c is None else c
    machine = _machine(c, seed).fit(rows, known)
    weight, bias = torch.from_numpy(machine.coef_), torch.from_numpy(machine.intercept_)
    if len(weight) == 1:  # two classes, one plane
        weight, bias = torch.cat([-weight, weight]), torch.cat([-bias, bias])
    present = torch.from_numpy(machine.classes_).to(x.device, torch.int64)
    classes = int(present[-1]) + 1
    return Svm(
        weight=x.new_zeros(classes, x.shape[1]).index_copy(0, present, weight.to(x.device) @ basis.T),
        bias=x.new_full((classes,), -torch.inf).index_copy(0, present, bias.to(x.device)),
        mean=mean,
        scale=scale,
        c=c,
    )


def _machine(c: float, seed: int) -> Any:
    from sklearn.svm import LinearSVC

    return LinearSVC(C=c, dual="auto", random_state=seed % 2**32)


def _cost(rows: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], seed: int) -> float:
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    fewest = int(np.unique(labels, return_counts=True)[1].min())
    if fewest < 2:
        return 1.0
    folds = StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=seed % 2**32)
    return max(COSTS, key=lambda c: cross_val_score(_machine(c, seed), rows, labels, cv=folds).mean())


def _check(features: Tensor, labels: Tensor, c: float | None) -> None:
    if c is not None and not c > 0:
        raise ValueError(f"c = {c}: the cost of a row inside the margin must be positive")
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(f"features are {list(features.shape)}, labels {list(labels.shape)}: give [M, F] and [M]")
    check_labelled(labels)
    if not features.isfinite().all():
        raise ValueError("features hold NaN or infinity: the net that gave them has diverged")
    if (classes := len(torch.unique(labels))) < 2:
        raise ValueError(f"{len(labels)} labels of {classes} class: give labels of at least two classes")
