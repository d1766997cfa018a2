"""Ridge and its leave-one-out choice against scikit-learn; SGD against what is separable."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV
from torch import Tensor

from fasthebb.evaluation import linear_probe
from fasthebb.evaluation.ridge import STRENGTHS


def blobs(count: int, width: int, classes: int = 4, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, width, generator=generator)
    scale = torch.rand(width, generator=generator) * 5 + 0.1
    return (centres[labels] + spread * torch.randn(count, width, generator=generator)) * scale + 3, labels


def standardised(x: Tensor) -> np.ndarray:
    array = x.double().numpy()
    return np.asarray((array - array.mean(0)) / array.std(0))


@pytest.mark.parametrize(("count", "width"), [(120, 10), (60, 59), (40, 200), (50, 50)])
def test_ridge_is_scikit_learns(count: int, width: int) -> None:
    features, labels = blobs(count, width)
    probe = linear_probe(features, labels)
    x = standardised(features)
    target = np.eye(4)[labels.numpy()] * 2 - 1
    strengths = STRENGTHS.numpy() * (x**2).sum() / min(x.shape)
    reference = RidgeCV(alphas=strengths).fit(x, target)
    assert probe.strength == pytest.approx(reference.alpha_)
    np.testing.assert_allclose(probe.weight.numpy(), reference.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(probe.scores(features).numpy(), reference.predict(x), rtol=1e-8, atol=1e-8)
    assert torch.equal(probe.predict(features), probe.scores(features).argmax(1))


@pytest.mark.parametrize(("count", "width"), [(25, 6), (20, 50)])
def test_the_strength_is_the_best_by_leaving_each_row_out(count: int, width: int) -> None:
    features, labels = blobs(count, width)
    x = standardised(features)
    target = np.eye(4)[labels.numpy()] * 2 - 1
    strengths = STRENGTHS.numpy() * (x**2).sum() / min(x.shape)

    def left_out(strength: float) -> float:
        errors = []
        for row in range(count):
            rest = np.arange(count) != row
            fitted = Ridge(strength, solver="svd").fit(x[rest], target[rest])
            errors.append(((fitted.predict(x[row : row + 1]) - target[row]) ** 2).mean())
        return float(np.mean(errors))

    assert linear_probe(features, labels).strength == pytest.approx(min(strengths, key=left_out))


def test_ridge_generalises_and_ignores_shift_and_scale() -> None:
    features, labels = blobs(400, 20, spread=0.5)
    probe = linear_probe(features[:200], labels[:200])
    assert probe.score(features[200:], labels[200:]) > 97
    moved = linear_probe(features[:200] * 1e3 + 1e4, labels[:200])
    assert torch.equal(moved.predict(features[200:] * 1e3 + 1e4), probe.predict(features[200:]))
    assert probe.score(features, labels, k=4) == 100
    assert probe.score(features[200:], labels[200:], k=2) >= probe.score(features[200:], labels[200:])


def test_constant_features_few_rows_and_absent_classes() -> None:
    features, labels = blobs(12, 30)
    features[:, :5] = 1.2345
    probe = linear_probe(features, labels)
    assert probe.scores(features).isfinite().all()
    constant = linear_probe(torch.ones(4, 3), torch.tensor([0, 1, 1, 1]))
    assert constant.predict(torch.zeros(2, 3)).tolist() == [1, 1]
    gap = linear_probe(features, labels * 2)
    assert gap.scores(features).shape == (12, 7)
    assert set(gap.predict(features).tolist()) <= {0, 2, 4, 6}
    one_each = linear_probe(features[:4], labels[:4])
    assert one_each.score(features[:4], labels[:4]) == 100


def test_sgd_learns_and_repeats() -> None:
    features, labels = blobs(600, 20, spread=0.5)
    first = linear_probe(features, labels, method="sgd", seed=1)
    assert first.score(features, labels) > 97
    assert first.strength is None
    torch.manual_seed(5)
    with torch.no_grad():
        again = linear_probe(features, labels, method="sgd", seed=1)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, linear_probe(features, labels, method="sgd", seed=2).weight)


def test_sgd_follows_the_schedule() -> None:
    """One batch an epoch, so that torch's own optimiser and scheduler can be set beside it."""
    features, labels = blobs(30, 5)
    x = torch.from_numpy(standardised(features)).float()
    model = torch.nn.Linear(5, 4)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=list(range(10, 20)), gamma=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
        schedule.step()
    probe = linear_probe(features, labels, method="sgd", lr=0.1)
    torch.testing.assert_close(probe.weight.float(), model.weight.detach(), rtol=1e-4, atol=1e-6)


def test_bad_input() -> None:
    features, labels = blobs(20, 5)
    with pytest.raises(ValueError, match="probe method 'svm' is unknown: choose from ridge, sgd, adam"):
        linear_probe(features, labels, method="svm")
    with pytest.raises(ValueError, match=r"features are \[20, 5\], labels \[19\]"):
        linear_probe(features, labels[:19])
    with pytest.raises(ValueError, match="M at least 2"):
        linear_probe(features[:1], labels[:1])
    with pytest.raises(ValueError, match=r"20 of 20 labels are negative \(unlabelled\)"):
        linear_probe(features, labels - 9)
    with pytest.raises(ValueError, match="features hold NaN or infinity"):
        linear_probe(features / 0, labels)
    probe = linear_probe(features, labels)
    with pytest.raises(ValueError, match=r"features are \[20, 4\]: this probe reads \[M, 5\]"):
        probe.scores(features[:, :4])
