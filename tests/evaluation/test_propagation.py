"""Label spreading against scikit-learn, and by hand."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_moons
from sklearn.semi_supervised import LabelSpreading
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fasthebb.evaluation import knn, propagation
from fasthebb.evaluation.propagation import propagate


def rows(count: int, width: int = 5, known: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    """Features, labels of the first few, and all labels."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 4, (count,), generator=generator)
    features = torch.randn(count, width, generator=generator) + truth[:, None]
    return features, torch.where(torch.arange(count) < known, truth, -1), truth


@pytest.mark.parametrize("k", [2, 5, 10, 60])
@pytest.mark.parametrize("alpha", [0.1, 0.9, 0.99])
def test_equals_scikit_learn(k: int, alpha: float) -> None:
    features, labels, _ = rows(200)
    reference = LabelSpreading(kernel="knn", n_neighbors=k, alpha=alpha, max_iter=20_000, tol=1e-12)
    reference.fit(features.double().numpy(), labels.numpy())
    scores = propagate(features, labels, k=k, alpha=alpha)
    np.testing.assert_allclose(scores.numpy(), reference.label_distributions_, rtol=1e-5, atol=1e-7)
    assert scores.argmax(1).tolist() == reference.transduction_.tolist()


def test_digits_of_one_label_a_class_equal_scikit_learn() -> None:
    digits = load_digits()
    noise = np.random.default_rng(0).normal(scale=1e-3, size=digits.data.shape)  # no two pairs as far apart
    labels = np.full(len(digits.target), -1)
    first = [np.flatnonzero(digits.target == digit)[0] for digit in range(10)]
    labels[first] = range(10)
    reference = LabelSpreading(kernel="knn", n_neighbors=10, alpha=0.9, max_iter=2000, tol=1e-12)
    reference.fit(digits.data + noise, labels)
    scores = propagate(torch.from_numpy(digits.data + noise), torch.from_numpy(labels))
    np.testing.assert_allclose(scores.numpy(), reference.label_distributions_, rtol=1e-5, atol=1e-7)
    assert scores.argmax(1).tolist() == reference.transduction_.tolist()
    nearest = ((digits.data[:, None] - digits.data[first]) ** 2).sum(2).argmin(1)
    assert (scores.argmax(1).numpy() == digits.target).mean() > (nearest == digits.target).mean() + 0.1


def test_three_rows_by_hand() -> None:
    """0 and 1 are near, 2 is nearest to 1: W of others is 0→1, 1→0, 2→1, so that d = 1, 2, 1."""
    features, labels = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([1, -1, 0])
    a, b = 0.9, 0.5**0.5
    s = torch.tensor([[0, b, 0], [b, 0, 0], [0, b, 0]]).double()
    y = torch.tensor([[0, 1], [0, 0], [1, 0]]).double()
    fixed = torch.linalg.solve(torch.eye(3).double() - a * s, (1 - a) * y)
    torch.testing.assert_close(propagate(features, labels, k=2, alpha=a), fixed / fixed.sum(1, keepdim=True))


def test_rows_that_no_label_reaches() -> None:
    features = torch.tensor([[0.0], [1.0], [100.0], [101.0]])
    assert propagate(features, torch.tensor([0, -1, -1, -1]), k=2).tolist() == [[1], [1], [0], [0]]
    assert propagate(features, torch.tensor([0, -1, 2, -1]), k=2).tolist() == [[1, 0, 0]] * 2 + [[0, 0, 1]] * 2


def test_labels_follow_the_shape_of_the_data() -> None:
    """Two moons with one label each: nearest labels go wrong where the moons reach into each other."""
    points, truth = make_moons(400, noise=0.05, random_state=0)
    labels = torch.full((400,), -1)
    chosen = [int(np.flatnonzero(truth == side)[np.argmin(points[truth == side, 0])]) for side in (0, 1)]
    labels[chosen] = torch.tensor([0, 1])
    features, truth = torch.from_numpy(points), torch.from_numpy(truth)
    spread = (propagate(features, labels, alpha=0.99).argmax(1) == truth).double().mean()
    nearest = (torch.cdist(features, features[chosen]).argmin(1) == truth).double().mean()
    assert spread > 0.99 > 0.9 > nearest


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, _ = rows(100)
    whole = propagate(features, labels)
    monkeypatch.setattr(propagation, "TEST_CHUNK", 7)
    monkeypatch.setattr(knn, "TRAIN_CHUNK", 3)
    torch.testing.assert_close(propagate(features, labels), whole)


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else [out]:
            if isinstance(made, Tensor) and made.layout == torch.strided:
                self.numbers = max(self.numbers, made.numel())
        return out


def test_no_table_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "TEST_CHUNK", 50)
    monkeypatch.setattr(knn, "TRAIN_CHUNK", 100)
    features, labels, _ = rows(2000)
    with Largest() as largest:
        propagate(features, labels)
    assert largest.numbers <= 2000 * 10 * 2  # the graph's places: rows, neighbours, two numbers each


def test_bad_input() -> None:
    features, labels, _ = rows(20, known=4)
    for k in (1, 21):
        with pytest.raises(ValueError, match=f"k = {k} neighbours, the row itself among them, of 20 rows"):
            propagate(features, labels, k=k)
    for alpha in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="give a number between 0 and 1"):
            propagate(features, labels, alpha=alpha)
    with pytest.raises(ValueError, match=r"features are \[20, 5\], labels \[19\]: give \[M, F\] and \[M\]"):
        propagate(features, labels[:19])
    with pytest.raises(ValueError, match="none of 20 labels is known"):
        propagate(features, torch.full((20,), -1))
    with pytest.raises(ValueError, match="features hold NaN or infinity"):
        propagate(features / 0, labels)
