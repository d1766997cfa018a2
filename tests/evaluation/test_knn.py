"""Nearest neighbours against scikit-learn, and top-k accuracy."""

import pytest
import torch
from sklearn.model_selection import LeaveOneOut
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from fasthebb.evaluation import knn, knn_accuracy, knn_left_out, topk_accuracy


def rows(count: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (count,), generator=generator)
    return torch.randn(count, width, generator=generator) + labels[:, None] * 0.5, labels


@pytest.mark.parametrize("k", [1, 2, 5, 10, 300])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_equals_scikit_learn(k: int, offset: float) -> None:
    train, labels = rows(300, 6, 0)
    test, truth = rows(200, 6, 1)
    train, test = train + offset, test + offset
    reference = KNeighborsClassifier(k).fit(train.double().numpy(), labels.numpy())
    expected = 100 * reference.score(test.double().numpy(), truth.numpy())
    assert knn_accuracy(train, labels, test, truth, k=k) == pytest.approx(expected)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels = rows(100, 4, 0)
    test, truth = rows(50, 4, 1)
    expected = knn_accuracy(train, labels, test, truth, k=7)
    monkeypatch.setattr(knn, "TRAIN_CHUNK", 3)
    monkeypatch.setattr(knn, "TEST_CHUNK", 9)
    assert knn_accuracy(train, labels, test, truth, k=7) == expected


def test_a_tied_vote_goes_to_the_lowest_label() -> None:
    train, labels = torch.tensor([[0.0], [1.0]]), torch.tensor([2, 1])
    test = torch.tensor([[0.1], [0.9]])
    assert knn_accuracy(train, labels, test, torch.tensor([1, 1]), k=2) == 100
    assert KNeighborsClassifier(2).fit(train, labels).predict(test).tolist() == [1, 1]


def test_default_k_is_ten() -> None:
    train, labels = rows(50, 4, 0)
    assert knn_accuracy(train, labels, train, labels) == knn_accuracy(train, labels, train, labels, k=10)


def test_bad_neighbours() -> None:
    train, labels = rows(9, 4, 0)
    for k in (0, 10):
        with pytest.raises(ValueError, match=f"k = {k} neighbours of 9 training rows: choose k from 1 to 9"):
            knn_accuracy(train, labels, train, labels, k=k)
    with pytest.raises(ValueError, match="train rows have 4 features, test rows 3"):
        knn_accuracy(train, labels, train[:, :3], labels, k=1)
    with pytest.raises(ValueError, match=r"test rows are \[9, 4\], their labels \[8\]"):
        knn_accuracy(train, labels, train, labels[:8], k=1)
    with pytest.raises(ValueError, match=r"test rows are \[0, 4\]"):
        knn_accuracy(train, labels, train[:0], labels[:0], k=1)
    with pytest.raises(ValueError, match="9 of 9 labels are negative"):
        knn_accuracy(train, labels - 9, train, labels, k=1)
    with pytest.raises(ValueError, match="train features hold NaN or infinity"):
        knn_accuracy(train / 0, labels, train, labels, k=1)


@pytest.mark.parametrize("k", [1, 3])
def test_leaving_one_out_equals_scikit_learn(k: int) -> None:
    train, labels = rows(40, 4, 3)
    others = LeaveOneOut().split(train)
    hits = [knn_accuracy(train[a], labels[a], train[b], labels[b], k=k) for a, b in others]
    assert knn_left_out(train, labels, k=k) == pytest.approx(sum(hits) / len(hits))
    twice, same = train.repeat(2, 1), labels.repeat(2)
    assert knn_left_out(twice, same, k=1) == 100  # the copy votes, the row itself does not
    with pytest.raises(ValueError, match="k = 40 neighbours of 39 other rows"):
        knn_left_out(train, labels, k=40)


def test_no_more_than_k_vote_where_copies_crowd_a_row_out(monkeypatch: pytest.MonkeyPatch) -> None:
    near = torch.tensor([[1, 2], [0, 2], [0, 1]])  # of k + 1 rows at distance 0, none is the row itself
    monkeypatch.setattr(knn, "neighbours", lambda *_: near)
    assert knn_left_out(torch.zeros(3, 1), torch.tensor([1, 1, 0]), k=1) == pytest.approx(200 / 3)


def test_topk_accuracy() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5], [0.2, 0.2, 0.2], [0.0, 0.0, 1.0]])
    labels = torch.tensor([1, 1, 0, 7])
    assert topk_accuracy(scores, labels) == 50
    assert topk_accuracy(scores, labels, 2) == 50
    assert topk_accuracy(scores, labels, 3) == 75
    assert topk_accuracy(scores, labels, 9) == 75
    assert topk_accuracy(scores, scores.argmax(1)) == 100
    with pytest.raises(ValueError, match="top-k with k = 0"):
        topk_accuracy(scores, labels, 0)
    with pytest.raises(ValueError, match="scores hold NaN"):
        topk_accuracy(scores * float("nan"), labels)
    with pytest.raises(ValueError, match=r"give \[M, F\] and \[M\]"):
        topk_accuracy(scores, labels[:2])
    with pytest.raises(ValueError, match="1 of 4 labels are negative"):
        topk_accuracy(scores, torch.tensor([0, -1, 0, 0]))
