"""Ridge and its leave-one-out choice against scikit-learn; SGD and Adam against torch's own."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fasthebb.evaluation import linear_probe
from fasthebb.evaluation import probe as probes
from fasthebb.evaluation import ridge as ridges
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("count", "width"), [(120, 10), (60, 59), (40, 200), (50, 50)])
def test_ridge_is_scikit_learns(count: int, width: int, dtype: torch.dtype) -> None:
    features, labels = blobs(count, width)
    features = features.to(dtype)
    given = features.clone()
    probe = linear_probe(features, labels)
    assert torch.equal(features, given)
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


@pytest.mark.parametrize(("images", "width"), [(24, 7), (12, 50)])
@pytest.mark.parametrize("copies", [2, 3])
def test_all_views_of_an_image_are_left_out_together(images: int, width: int, copies: int) -> None:
    """Every image in turn is predicted, in every view, by scikit-learn's ridge on all views of the others."""
    features, labels = blobs(images, width)
    generator = torch.Generator().manual_seed(1)
    features = torch.cat([features + torch.randn(images, width, generator=generator) for _ in range(copies)])
    x, target = standardised(features), np.eye(4)[labels.repeat(copies).numpy()] * 2 - 1
    strengths = STRENGTHS.numpy() * (x**2).sum() / min(x.shape)

    def left_out(strength: float) -> float:
        errors = []
        for image in range(images):
            own = np.arange(len(x)) % images == image
            fitted = Ridge(strength, solver="svd").fit(x[~own], target[~own])
            errors.append(((fitted.predict(x[own]) - target[own]) ** 2).mean())
        return float(np.mean(errors))

    found = linear_probe(features, labels.repeat(copies), copies=copies)
    best = min(strengths, key=left_out)
    assert found.strength == pytest.approx(best)
    assert found.left_out == pytest.approx(left_out(best))
    alone = linear_probe(features, labels.repeat(copies))
    assert alone.left_out is not None
    assert alone.left_out < found.left_out, "the other views of a row know its label"


def test_pieces_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, width in ((120, 10), (40, 90)):
        features, labels = blobs(count, width)
        whole = linear_probe(features, labels, copies=2)
        with monkeypatch.context() as patch:
            patch.setattr(ridges, "CHUNK", 16)
            pieces = linear_probe(features, labels, copies=2)
        torch.testing.assert_close(pieces.weight, whole.weight, rtol=1e-9, atol=1e-12)
        assert pieces.strength == pytest.approx(whole.strength)
        assert pieces.left_out == pytest.approx(whole.left_out)


class Largest(TorchDispatchMode):
    """How many bytes the largest tensor has that an operation makes anew, not a view of what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        for made in out if isinstance(out, tuple | list) else [out]:
            if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in given:
                self.bytes = max(self.bytes, made.nbytes)
        return out


@pytest.mark.parametrize("method", ["ridge", "adam"])
def test_features_are_held_once(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = blobs(4000, 20)
    for module in (probes, ridges):
        monkeypatch.setattr(module, "CHUNK", 64)
    with Largest() as largest:
        linear_probe(features, labels, method=method, epochs=1)
    assert 0 < largest.bytes <= max(features.nbytes // 4, 4000 * 4 * 8)


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


def test_adam_follows_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropout and with one batch an epoch, torch's own optimiser and scheduler can be set beside it."""
    monkeypatch.setattr(probes, "DROPOUT", 0.0)
    features, labels = blobs(30, 5)
    model = torch.nn.Linear(5, 4)
    start = linear_probe(features, labels, method="adam", lr=1e-30, epochs=1)
    bound = 5**-0.5
    assert bound / 2 < start.weight.abs().max() < bound
    with torch.no_grad():
        model.weight.copy_(start.weight)
        model.bias.copy_(start.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[10, 18, 25, 30, 35, 40, 45], gamma=0.5)
    for _ in range(50):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(features), labels).backward()
        optimizer.step()
        schedule.step()
    probe = linear_probe(features, labels, method="adam")
    torch.testing.assert_close(probe.weight.float(), model.weight.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(probe.scores(features).float(), model(features).detach(), rtol=1e-4, atol=1e-4)


def test_adam_drops_half_of_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(probes, "_step", lambda _, x, *__: seen.append(x))
    linear_probe(torch.full((64, 500), 3.0), torch.arange(64) % 4, method="adam", epochs=2)
    first, second = seen
    assert set(first.unique().tolist()) == {0.0, 6.0}
    assert first.mean() == pytest.approx(3, abs=0.1), "the mean stays"
    assert not torch.equal(first, second)


def test_adam_learns_and_repeats() -> None:
    features, labels = blobs(600, 20, spread=0.5)
    first = linear_probe(features, labels, method="adam", seed=1, lr=1e-2)
    assert first.score(features, labels) > 97
    assert (first.strength, first.left_out) == (None, None)
    torch.manual_seed(5)
    assert torch.equal(first.weight, linear_probe(features, labels, method="adam", seed=1, lr=1e-2).weight)
    assert not torch.equal(first.weight, linear_probe(features, labels, method="adam", seed=2, lr=1e-2).weight)


def test_bad_input() -> None:
    features, labels = blobs(20, 5)
    with pytest.raises(ValueError, match="probe method 'svm' is unknown: choose from ridge, sgd, adam"):
        linear_probe(features, labels, method="svm")
    with pytest.raises(ValueError, match=r"features are \[20, 5\], labels \[19\]"):
        linear_probe(features, labels[:19])
    with pytest.raises(ValueError, match="copies=3: 20 rows are not so many views of the same images"):
        linear_probe(features, labels, copies=3)
    with pytest.raises(ValueError, match="M at least 2"):
        linear_probe(features[:1], labels[:1])
    with pytest.raises(ValueError, match=r"20 of 20 labels are negative \(unlabelled\)"):
        linear_probe(features, labels - 9)
    with pytest.raises(ValueError, match="features hold NaN or infinity"):
        linear_probe(features / 0, labels)
    probe = linear_probe(features, labels)
    with pytest.raises(ValueError, match=r"features are \[20, 4\]: this probe reads \[M, 5\]"):
        probe.scores(features[:, :4])
