"""Nearest neighbours and top-k accuracy, in percent."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

TEST_CHUNK, TRAIN_CHUNK = 1024, 8192  # rows of one block of distances: 64 MiB in float64


def knn_accuracy(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, *, k: int = 10) -> float:
    """Percent of test rows whose label most of their k nearest training rows bear, by Euclidean distance.

    train: [M, F], labels: int64 [M]; test: [T, F], test_labels: int64 [T]. A tied vote goes to the lowest label, as in
    scikit-learn's `KNeighborsClassifier(n_neighbors=k)`, which this equals; of rows at the same distance as the k-th
    it is undefined which count. Distances are taken in float64, block by block: memory does not grow with M x T.

    Raises ValueError for k under 1 or above M, shapes that do not fit, unlabelled (-1) rows, features that are not
    finite.
    """
    _check_rows("train", train, labels)
    _check_rows("test", test, test_labels)
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"train rows have {train.shape[1]} features, test rows {test.shape[1]}: give the same features"
        )
    if not 1 <= k <= len(train):
        raise ValueError(f"k = {k} neighbours of {len(train)} training rows: choose k from 1 to {len(train)}")
    test, test_labels = test.to(train.device), test_labels.to(train.device)
    votes = one_hot(labels.to(train.device, torch.int64))
    right = 0
    for rows, truth in zip(torch.split(test, TEST_CHUNK), torch.split(test_labels, TEST_CHUNK)):
        predicted = votes[neighbours(train, rows.double(), k)].sum(1).argmax(1)  # the first of equal counts
        right += int((predicted == truth).sum())
    return 100 * right / len(test)


def knn_left_out(rows: Tensor, labels: Tensor, *, k: int = 10) -> float:
    """Percent of rows [M, F] that the k nearest of the others classify right: `knn_accuracy`, leaving one out.

    Raises ValueError for k under 1 or above M − 1, shapes that do not fit, unlabelled (-1) rows.
    """
    _check_rows("labelled", rows, labels)
    if not 1 <= k < len(rows):
        raise ValueError(f"k = {k} neighbours of {len(rows) - 1} other rows: choose k from 1 to {len(rows) - 1}")
    votes = one_hot(labels.to(rows.device, torch.int64))
    right = 0
    for numbers in torch.split(torch.arange(len(rows), device=rows.device), TEST_CHUNK):
        near = neighbours(rows, rows[numbers].double(), k + 1)
        others = near != numbers[:, None]
        others &= others.cumsum(1) <= k  # a copy of the row may stand in its place
        predicted = (votes[near] * others[:, :, None]).sum(1).argmax(1)
        right += int((predicted == labels.to(rows.device)[numbers]).sum())
    return 100 * right / len(rows)


def topk_accuracy(scores: Tensor, labels: Tensor, k: int = 1) -> float:
    """Percent of rows whose label is among the k classes of highest score.

    scores: [M, classes], labels: int64 [M]. Of equal scores the lowest class ranks first, as in argmax; k above the
    number of classes means all; a label that has no score is never right.

    Raises ValueError for k under 1, shapes that do not fit, unlabelled (-1) rows, scores that are NaN.
    """
    _check_rows("scores", scores, labels, finite=False)
    if scores.isnan().any():
        raise ValueError("scores hold NaN: the net that gave them has diverged")
    if k < 1:
        raise ValueError(f"top-k with k = {k}: k must be at least 1")
    return 100 * int(right_places(scores, labels.to(scores.device))[:, :k].sum()) / len(labels)


def right_places(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether the class in each place, the highest score's first, is the row's label: bool [M, classes].

    scores: [M, classes], labels: int64 [M]. Of equal scores the lowest class comes first, as in argmax.
    """
    return scores.argsort(dim=1, descending=True, stable=True) == labels[:, None]


def check_labelled(labels: Tensor) -> None:
    """Raise ValueError if a label [M] is negative, which means unlabelled."""
    if unlabelled := int((labels < 0).sum()):
        raise ValueError(f"{unlabelled} of {len(labels)} labels are negative (unlabelled): leave these rows out")


def neighbours(train: Tensor, rows: Tensor, k: int) -> Tensor:
    """Indices [T, k] of the train rows [M, F] nearest to float64 rows [T, F]."""
    best = rows.new_empty(len(rows), 0)
    index = torch.empty(len(rows), 0, dtype=torch.int64, device=rows.device)
    for start in range(0, len(train), TRAIN_CHUNK):
        block = train[start : start + TRAIN_CHUNK].double()
        distance = torch.addmm(block.square().sum(1), rows, block.T, alpha=-2)  # + |row|², the same for a whole row
        number = torch.arange(start, start + len(block), device=rows.device).expand(len(rows), -1)
        best, order = torch.cat([best, distance], 1).topk(min(k, start + len(block)), dim=1, largest=False)
        index = torch.cat([index, number], 1).gather(1, order)
    return index


def _check_rows(name: str, rows: Tensor, labels: Tensor, *, finite: bool = True) -> None:
    if rows.ndim != 2 or labels.shape != rows.shape[:1] or len(rows) == 0:
        raise ValueError(f"{name} rows are {list(rows.shape)}, their labels {list(labels.shape)}: give [M, F] and [M]")
    check_labelled(labels)
    if finite and not rows.isfinite().all():
        raise ValueError(f"{name} features hold NaN or infinity: the net that gave them has diverged")
