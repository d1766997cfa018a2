"""Retrieval: rank a database by likeness to a query; what bears the query's label is relevant. In percent.

Likeness is the cosine of two features or, with `bits`, the share of equal bits of two codes, the ranking by Hamming
distance. Bit b of a code says on which side of a random plane through the database's mean the features lie,
[(x − mean)·r_b ≥ 0] with r_b ~ N(0, I) of a fixed seed: M. S. Charikar, "Similarity estimation techniques from rounding
algorithms", STOC 2002. On average the share of unequal bits is the angle between two centred features over π, whatever
their number. Of equally like rows the lowest index ranks first.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fasthebb.evaluation.knn import check_labelled

LIKENESSES = 2**22  # at a time: 16 MiB in float32, and some eight times that to rank them
CHUNK = 4096  # rows that are centred at a time
SEED = 0  # of the random planes


def retrieval_map(
    features: Tensor,
    labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    bits: int | None = None,
    k: int | None = None,
) -> float:
    """Mean average precision in percent of ranking all features by likeness to each query.

    features: [M, F], labels: int64 [M]; queries: [Q, F], query_labels: int64 [Q]. A query's average precision is the
    mean, over the rows that are relevant to it, of the share of relevant rows down to that rank; 256 `bits` is the
    literature's choice. With `k` only the first k of a ranking count, and the sum is divided by min(k, relevant).
    Queries to which nothing is relevant are left out. Memory does not grow with Q x M.

    Raises ValueError when nothing is relevant to any query, for k under 1 or above M, bits under 1, shapes that do not
    fit, unlabelled (-1) rows, features that are not finite.
    """
    labels, query_labels = _labels(features, labels, queries, query_labels)
    k = len(features) if k is None else k
    relevant = torch.bincount(labels, minlength=int(query_labels.max()) + 1)[query_labels]
    if not relevant.any():
        raise ValueError(f"no label of the {len(queries)} queries is among the database's: give some in common")
    rank = torch.arange(1, k + 1, dtype=torch.float64, device=labels.device)
    total = 0.0
    for chunk, order in _rankings(features, queries, k, bits):
        hits = labels[order] == query_labels[chunk, None]
        found = (hits.cumsum(1) / rank * hits).sum(1)
        total += float((found / relevant[chunk].clamp(1, k)).sum())
    return 100 * total / int(relevant.count_nonzero())


def precision_at_k(
    features: Tensor,
    labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    k: int = 10,
    bits: int | None = None,
) -> float:
    """Percent of the k most like features that bear the query's label, over all queries: none, if nothing is relevant.

    Shapes and errors as of `retrieval_map`.
    """
    labels, query_labels = _labels(features, labels, queries, query_labels)
    rankings = _rankings(features, queries, k, bits)
    hits = sum(int((labels[order] == query_labels[chunk, None]).sum()) for chunk, order in rankings)
    return 100 * hits / (k * len(queries))


def nearest(features: Tensor, queries: Tensor, k: int, *, bits: int | None = None) -> Tensor:
    """Indices int64 [Q, k] of the features [M, F] most like each of the queries [Q, F], best first.

    Raises ValueError for k under 1 or above M, bits under 1, shapes that do not fit, features that are not finite.
    """
    return torch.cat([order for _, order in _rankings(features, queries, k, bits)])


def _rankings(features: Tensor, queries: Tensor, k: int, bits: int | None) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of the queries, with the indices [chunk, k] of the features most like them."""
    _check(features, queries)
    if not 1 <= k <= len(features):
        raise ValueError(f"the first {k} of {len(features)} database rows: choose k from 1 to {len(features)}")
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    queries = queries.to(features)
    if bits is None:
        features, queries = normalize(features, dim=1), normalize(queries, dim=1)
    else:
        features, queries = _codes(features, queries, bits)
    size = max(1, LIKENESSES // len(features))
    for start in range(0, len(queries), size):
        chunk = slice(start, start + size)
        yield chunk, _first(queries[chunk] @ features.T, k)


def _codes(features: Tensor, queries: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """±1 [M, bits] and [Q, bits]: their dot product is bits − 2 x the Hamming distance, exact also in float32."""
    if bits < 1:
        raise ValueError(f"codes of {bits} bits: choose at least 1")
    mean = features.mean(0)
    generator = torch.Generator().manual_seed(SEED)
    planes = torch.randn(len(mean), bits, generator=generator, dtype=torch.float64).to(features)

    def code(rows: Tensor) -> Tensor:
        sides = torch.cat([(part - mean) @ planes for part in torch.split(rows, CHUNK)])
        return torch.where(sides >= 0, 1, -1).to(sides)

    return code(features), code(queries)


def _first(likeness: Tensor, k: int) -> Tensor:
    """Indices [Q, k] of the k largest of each row [Q, M], in descending order, of equal ones the lowest index first."""
    if k == likeness.shape[1]:
        return likeness.sort(dim=1, descending=True, stable=True).indices
    last = likeness.topk(k, dim=1).values[:, -1:]
    above, level = likeness > last, likeness == last
    chosen = above | (level & (level.cumsum(1) <= k - above.sum(1, keepdim=True)))
    index = chosen.nonzero()[:, 1].view(-1, k)
    return index.gather(1, likeness.gather(1, index).sort(dim=1, descending=True, stable=True).indices)


def _labels(features: Tensor, labels: Tensor, queries: Tensor, query_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both labels, checked, on the features' device."""
    for name, rows, given in (("database", features, labels), ("query", queries, query_labels)):
        if given.shape != rows.shape[:1]:
            raise ValueError(f"{name} rows are {list(rows.shape)}, their labels {list(given.shape)}: give one a row")
        check_labelled(given)
    _check(features, queries)
    return labels.to(features.device, torch.int64), query_labels.to(features.device, torch.int64)


def _check(features: Tensor, queries: Tensor) -> None:
    for name, rows in (("database", features), ("query", queries)):
        if rows.ndim != 2 or len(rows) == 0:
            raise ValueError(f"{name} rows are {list(rows.shape)}: give [rows, features], at least one row")
        if not rows.isfinite().all():
            raise ValueError(f"{name} features hold NaN or infinity: the net that gave them has diverged")
    if features.shape[1] != queries.shape[1]:
        raise ValueError(
            f"database rows have {features.shape[1]} features, query rows {queries.shape[1]}: give the same features"
        )
