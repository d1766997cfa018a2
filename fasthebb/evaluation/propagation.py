"""Label spreading: labels travel along the graph of nearest neighbours to the images that have none.

W_ij = 1 where j is one of the k nearest rows of i, i itself among them; with d_j = Σ_{i≠j} W_ij, how often others
count j (1 where none do), and S_ij = W_ij / √(d_i d_j) for i ≠ j, 0 else, the scores are the fixed point of
F = α S F + (1 − α) Y, each row then divided by its sum. Y is 1 where a label is known. Source: Zhou, Bousquet, Lal,
Weston, Schölkopf, "Learning with local and global consistency", NIPS 2004, on the graph of scikit-learn's
`LabelSpreading(kernel="knn")`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fasthebb.evaluation.knn import TEST_CHUNK, neighbours

TOLERANCE = 1e-9  # largest change of a score at which it counts as fixed, relative to all of its row


def propagate(features: Tensor, labels: Tensor, *, k: int = 10, alpha: float = 0.9) -> Tensor:
    """Scores of the classes, float64 [M, classes], that spread from labelled rows to all; those of a row sum to one.

    A row that no label reaches has scores 0. Of rows at the same distance as the k-th it is undefined which count.
    Distances are taken in float64, block by block, and kept of the k nearest alone: memory does not grow with M².

    Args:
        features: [M, F], on any device.
        labels: int64 [M] from 0 on, −1 where unknown.
        k: neighbours of a row, itself among them.
        alpha: how much of its score a row has from its neighbours, above 0 and below 1.

    Raises:
        ValueError: k below 2 or above M, alpha out of range, shapes that do not fit, no label at all, features that are
            not finite.
    """
    _check(features, labels, k, alpha)
    known = labels.to(features.device, torch.int64)
    graph = _graph(features, k)
    classes = torch.arange(int(known.max()) + 1, device=features.device)
    given = (known[:, None] == classes).double() * (1 - alpha)
    scores, last = given, torch.zeros_like(given)
    total = scores.sum(1, keepdim=True)
    while ((scores - last).abs() > TOLERANCE * total).any():  # they rise, and in the long run by alpha less every step
        last, scores = scores, torch.addmm(given, graph, scores, alpha=alpha)
        total = scores.sum(1, keepdim=True)
    return scores / torch.where(total > 0, total, 1)


def _graph(features: Tensor, k: int) -> Tensor:
    # S, sparse [M, M].
    count = len(features)
    near = torch.cat([neighbours(features, rows.double(), k) for rows in torch.split(features, TEST_CHUNK)])
    row = torch.arange(count, device=near.device).repeat_interleave(k)
    column = near.flatten()
    row, column = row[row != column], column[row != column]
    degree = torch.bincount(column, minlength=count).clamp(min=1).double().sqrt()
    weight = 1 / (degree[row] * degree[column])
    return torch.sparse_coo_tensor(
        torch.stack([row, column]), weight, (count, count), check_invariants=False
    ).coalesce()


def _check(features: Tensor, labels: Tensor, k: int, alpha: float) -> None:
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(f"features are {list(features.shape)}, labels {list(labels.shape)}: give [M, F] and [M]")
    if not 2 <= k <= len(features):
        raise ValueError(f"k = {k} neighbours, the row itself among them, of {len(features)} rows: choose from 2 on")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha = {alpha}: give a number between 0 and 1")
    if not (labels >= 0).any():
        raise ValueError(f"none of {len(labels)} labels is known: there is nothing to spread")
    if not all(part.isfinite().all() for part in torch.split(features, TEST_CHUNK)):
        raise ValueError("features hold NaN or infinity: the net that gave them has diverged")
