"""Rankings against literal loops in float64, average precision against scikit-learn, codes against their theory."""

import math

import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from fasthebb.evaluation import nearest, precision_at_k, retrieval, retrieval_map


def rows(count: int, seed: int, width: int = 6, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return centres[labels] + 2 * torch.randn(count, width, generator=generator, dtype=torch.float64) + 1, labels


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def code(row: list[float], mean: list[float], planes: list[list[float]]) -> list[bool]:
    centred = [x - m for x, m in zip(row, mean)]
    return [sum(x * plane[i] for i, x in enumerate(centred)) >= 0 for plane in planes]


def likeness(features: Tensor, queries: Tensor, bits: int | None) -> list[list[float]]:
    """Of every query to every feature: cosine, or minus the Hamming distance of codes."""
    database, asked = features.tolist(), queries.tolist()
    if bits is None:
        return [[cosine(q, f) for f in database] for q in asked]
    mean = [sum(column) / len(database) for column in zip(*database)]
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(len(mean), bits, generator=generator, dtype=torch.float64).T.tolist()
    codes = [code(f, mean, planes) for f in database]
    return [[-sum(a != b for a, b in zip(code(q, mean, planes), c)) for c in codes] for q in asked]


def ranking(likenesses: list[float]) -> list[int]:
    return sorted(range(len(likenesses)), key=lambda i: (-likenesses[i], i))


def average_precision(hits: list[bool], k: int) -> float:
    found = [sum(hits[: rank + 1]) / (rank + 1) for rank in range(k) if hits[rank]]
    return sum(found) / min(k, sum(hits))


@pytest.fixture(params=[None, 3, 16], ids=lambda bits: f"bits={bits}")
def bits(request: pytest.FixtureRequest) -> int | None:
    found: int | None = request.param
    return found


@pytest.mark.parametrize("k", [1, 7, 59, 60])
def test_the_nearest_are_the_first_of_a_literal_ranking(bits: int | None, k: int) -> None:
    (features, _), (queries, _) = rows(60, 0), rows(20, 1)
    expected = [ranking(row)[:k] for row in likeness(features, queries, bits)]
    assert nearest(features, queries, k, bits=bits).tolist() == expected


@pytest.mark.parametrize("k", [None, 1, 7, 60])
def test_mean_average_precision_is_the_literal_loops(bits: int | None, k: int | None) -> None:
    (features, labels), (queries, truth) = rows(60, 0), rows(20, 1)
    hits = [
        [bool(labels[i] == label) for i in ranking(row)] for row, label in zip(likeness(features, queries, bits), truth)
    ]
    expected = sum(average_precision(row, 60 if k is None else k) for row in hits) / 20
    assert retrieval_map(features, labels, queries, truth, bits=bits, k=k) == pytest.approx(100 * expected, rel=1e-12)
    first = k or 10
    shown = sum(sum(row[:first]) for row in hits) / (20 * first)
    assert precision_at_k(features, labels, queries, truth, bits=bits, k=first) == pytest.approx(100 * shown, rel=1e-12)


def test_average_precision_equals_scikit_learns() -> None:
    (features, labels), (queries, truth) = rows(60, 0), rows(20, 1)
    each = [
        average_precision_score(labels == label, row) for row, label in zip(likeness(features, queries, None), truth)
    ]
    assert retrieval_map(features, labels, queries, truth) == pytest.approx(100 * sum(each) / 20, rel=1e-12)


def test_what_is_known_without_a_computer() -> None:
    features = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])
    labels = torch.tensor([0, 1, 0, 1])  # ranks of what is relevant: 1 and 3, or 2 and 4
    query = torch.tensor([[2.0, 0.0]])
    assert retrieval_map(features, labels, query, torch.tensor([0])) == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert retrieval_map(features, labels, query, torch.tensor([1])) == pytest.approx(100 * (1 / 2 + 2 / 4) / 2)
    assert retrieval_map(features, labels, query, torch.tensor([0]), k=1) == 100
    assert precision_at_k(features, labels, query, torch.tensor([0]), k=3) == pytest.approx(100 * 2 / 3)
    assert nearest(features, torch.zeros(1, 2), 4).tolist() == [[0, 1, 2, 3]]  # its cosine is 0 to all


def test_perfect_and_random_features() -> None:
    labels = torch.arange(400) % 4
    perfect = torch.eye(4)[labels]
    noise = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    for bits in (None, 64):
        assert retrieval_map(perfect, labels, perfect, labels, bits=bits) == 100
        assert precision_at_k(perfect, labels, perfect, labels, bits=bits) == 100
        assert retrieval_map(noise[:300], labels[:300], noise[300:], labels[300:], bits=bits) == pytest.approx(
            25, abs=3
        )


def test_equals_rank_by_index() -> None:
    features = torch.randn(1, 5).expand(9, 5)
    for k in (1, 4, 9):
        assert nearest(features, features[:2], k).tolist() == [list(range(k))] * 2
        assert nearest(features, features[:2], k, bits=8).tolist() == [list(range(k))] * 2


def test_chunks_change_nothing(bits: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    (features, labels), (queries, truth) = rows(60, 0), rows(20, 1)
    every = features, labels, queries, truth
    before = retrieval_map(*every, bits=bits), precision_at_k(*every, bits=bits), nearest(features, queries, 5)
    monkeypatch.setattr(retrieval, "LIKENESSES", 180)
    monkeypatch.setattr(retrieval, "CHUNK", 7)
    assert retrieval_map(*every, bits=bits) == pytest.approx(before[0], rel=1e-12)
    assert precision_at_k(*every, bits=bits) == before[1]
    assert torch.equal(nearest(features, queries, 5), before[2])


def test_single_precision_and_bytes_rank_alike() -> None:
    (features, labels), (queries, truth) = rows(60, 0), rows(20, 1)
    features, queries = (features * 20 + 100).round().clamp(0, 255), (queries * 20 + 100).round().clamp(0, 255)
    expected = retrieval_map(features, labels, queries, truth)
    for dtype in (torch.float32, torch.uint8):
        found = retrieval_map(features.to(dtype), labels.int(), queries.to(dtype), truth)
        assert found == pytest.approx(expected, abs=1e-6)


def test_unequal_bits_are_the_angle_over_pi() -> None:
    """Charikar 2002, section 3, of features about their mean; the deviation of a share of b bits is under 1/2√b."""
    features = torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 7
    bits = 10_000
    codes, _ = retrieval._codes(features, features, bits)
    shares = (1 - codes @ codes.T / bits) / 2
    centred = torch.nn.functional.normalize(features - features.mean(0), dim=1)
    angles = (centred @ centred.T).clamp(-1, 1).acos() / math.pi
    assert (shares - angles).abs().max() < 4.5 * 0.5 / math.sqrt(bits)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}


def test_codes_ignore_scale_and_shift_and_repeat() -> None:
    (features, _), (queries, _) = rows(60, 0), rows(20, 1)
    expected = nearest(features, queries, 60, bits=256)
    torch.manual_seed(3)
    assert torch.equal(nearest(features * 9 + 40, queries * 9 + 40, 60, bits=256), expected)
    assert not torch.equal(expected, nearest(features, queries, 60))


def test_queries_to_which_nothing_is_relevant_are_left_out() -> None:
    (features, labels), (queries, truth) = rows(60, 0), rows(20, 1)
    expected = retrieval_map(features, labels, queries[5:], truth[5:])
    shown = precision_at_k(features, labels, queries[5:], truth[5:])
    truth[:5] = 8
    assert retrieval_map(features, labels, queries, truth) == pytest.approx(expected, rel=1e-12)
    assert precision_at_k(features, labels, queries, truth) == pytest.approx(shown * 15 / 20, rel=1e-12)
    with pytest.raises(ValueError, match="no label of the 5 queries is among the database's"):
        retrieval_map(features, labels, queries[:5], truth[:5])


def test_bad_retrieval() -> None:
    features, labels = rows(9, 0)
    for k in (0, 10):
        for measure in (retrieval_map, precision_at_k):
            with pytest.raises(ValueError, match=f"the first {k} of 9 database rows: choose k from 1 to 9"):
                measure(features, labels, features, labels, k=k)
        with pytest.raises(ValueError, match="choose k from 1 to 9"):
            nearest(features, features, k)
    with pytest.raises(ValueError, match="codes of 0 bits: choose at least 1"):
        nearest(features, features, 1, bits=0)
    with pytest.raises(ValueError, match="database rows have 6 features, query rows 5"):
        nearest(features, features[:, :5], 1)
    with pytest.raises(ValueError, match=r"query rows are \[0, 6\]"):
        nearest(features, features[:0], 1)
    with pytest.raises(ValueError, match=r"database rows are \[9\]"):
        nearest(features[:, 0], features, 1)
    with pytest.raises(ValueError, match=r"query rows are \[9, 6\], their labels \[8\]"):
        retrieval_map(features, labels, features, labels[:8])
    with pytest.raises(ValueError, match="9 of 9 labels are negative"):
        retrieval_map(features, labels - 9, features, labels)
    with pytest.raises(ValueError, match="query features hold NaN or infinity"):
        retrieval_map(features, labels, features / 0, labels)
