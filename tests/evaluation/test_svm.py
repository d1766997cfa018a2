"""Support vector machines against scikit-learn without the rotation, against optimality, and on awkward labels."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import LinearSVC
from torch import Tensor

from fasthebb.evaluation import linear_svm


def blobs(count: int, width: int, classes: int = 4, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, width, generator=generator)
    scale = torch.rand(width, generator=generator) * 5 + 0.1
    return (centres[labels] + spread * torch.randn(count, width, generator=generator)) * scale + 3, labels


def standardised(x: Tensor) -> np.ndarray:
    array = x.double().numpy()
    return np.asarray((array - array.mean(0)) / array.std(0) / np.sqrt(array.shape[1]))


@pytest.mark.parametrize(("count", "width"), [(120, 10), (40, 200)])
def test_it_is_scikit_learns_on_standardised_rows(count: int, width: int) -> None:
    features, labels = blobs(count, width)
    svm = linear_svm(features, labels, c=0.7)
    x = standardised(features)
    reference = LinearSVC(C=0.7, tol=1e-8, max_iter=100_000).fit(x, labels.numpy())
    np.testing.assert_allclose(svm.scores(features).numpy(), reference.decision_function(x), atol=1e-2)
    assert svm.predict(features).tolist() == reference.predict(x).tolist()
    assert svm.score(features, labels) == pytest.approx(100 * reference.score(x, labels.numpy()))
    assert svm.score(features, labels, k=4) == 100
    assert svm.c == 0.7


def test_no_plane_nearby_costs_less() -> None:
    """½(‖w‖² + b²) + c Σ max(0, 1 − t(w·x + b))² is least at the planes found."""
    features, labels = blobs(60, 80)
    svm = linear_svm(features, labels, c=2.0)
    x = (features.double() - svm.mean) / svm.scale
    target = torch.where(labels[:, None] == torch.arange(4), 1.0, -1.0).double()

    def cost(weight: Tensor, bias: Tensor) -> Tensor:
        hinge = (1 - target * (x @ weight.T + bias)).clamp(min=0)
        return (weight.square().sum(1) + bias.square()) / 2 + 2.0 * hinge.square().sum(0)

    def slope(weight: Tensor, bias: Tensor) -> float:
        point = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
        return float(torch.cat([g.flatten() for g in torch.autograd.grad(cost(*point).sum(), point)]).norm())

    start = slope(torch.zeros_like(svm.weight), torch.zeros_like(svm.bias))
    assert slope(svm.weight, svm.bias) < 1e-3 * start


@pytest.mark.parametrize("each", [2, 15])
def test_the_cost_is_the_best_of_its_cross_validation(each: int) -> None:
    features, labels = blobs(4 * each, 6)
    folds = StratifiedKFold(min(3, each), shuffle=True, random_state=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        svm = linear_svm(features, labels, seed=5)
    costs = (0.01, 0.1, 1, 10)
    right = [
        cross_val_score(LinearSVC(C=c, tol=1e-6), standardised(features), labels.numpy(), cv=folds).mean()
        for c in costs
    ]
    assert svm.c == costs[int(np.argmax(right))]
    assert torch.equal(svm.weight, linear_svm(features, labels, seed=5, c=svm.c).weight)


def test_it_generalises_repeats_and_ignores_shift_and_scale() -> None:
    features, labels = blobs(400, 20, spread=0.5)
    svm = linear_svm(features[:200], labels[:200])
    assert svm.score(features[200:], labels[200:]) > 97
    np.random.seed(7)
    assert torch.equal(svm.weight, linear_svm(features[:200], labels[:200]).weight)
    moved = linear_svm(features[:200] * 1e3 + 1e4, labels[:200])
    assert torch.equal(moved.predict(features[200:] * 1e3 + 1e4), svm.predict(features[200:]))


def test_one_label_a_class() -> None:
    features, labels = blobs(4, 30)
    svm = linear_svm(features, labels)
    assert svm.c == 1
    assert svm.score(features, labels) == 100


def test_two_classes() -> None:
    features, labels = blobs(80, 5, classes=2)
    svm = linear_svm(features, labels, c=1.0)
    scores = svm.scores(features)
    torch.testing.assert_close(scores[:, 0], -scores[:, 1])
    reference = LinearSVC(C=1.0, tol=1e-6).fit(standardised(features), labels.numpy())
    assert svm.predict(features).tolist() == reference.predict(standardised(features)).tolist()


def test_absent_classes_and_constant_features() -> None:
    features, labels = blobs(40, 30)
    features[:, :5] = 1.2345
    svm = linear_svm(features, labels * 2 + 1, c=1.0)
    scores = svm.scores(features)
    assert scores.shape == (40, 8)
    assert scores[:, 1::2].isfinite().all()
    assert (scores[:, ::2] == -torch.inf).all()
    assert svm.score(features, labels * 2 + 1, k=4) == 100
    assert svm.weight.dtype == torch.float64
    assert svm.weight[:, :5].abs().max() < 1e-12


def test_bad_input_to_the_machine() -> None:
    features, labels = blobs(20, 5)
    with pytest.raises(ValueError, match=r"features are \[20, 5\], labels \[19\]"):
        linear_svm(features, labels[:19])
    with pytest.raises(ValueError, match=r"20 of 20 labels are negative \(unlabelled\)"):
        linear_svm(features, labels - 9)
    with pytest.raises(ValueError, match="features hold NaN or infinity"):
        linear_svm(features / 0, labels)
    with pytest.raises(ValueError, match="20 labels of 1 class: give labels of at least two classes"):
        linear_svm(features, labels * 0)
    for c in (0.0, float("nan")):
        with pytest.raises(ValueError, match=f"c = {c}: the cost of a row inside the margin must be positive"):
            linear_svm(features, labels, c=c)
    with pytest.raises(ValueError, match=r"features are \[20, 4\]: this probe reads \[M, 5\]"):
        linear_svm(features, labels, c=1.0).scores(features[:, :4])
