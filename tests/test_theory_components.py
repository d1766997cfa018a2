"""What the rules of components converge to: independent sources, beside FastICA's, and components in order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sklearn.decomposition import FastICA
from test_theory import aligned, components, dense, gaussian, step, trained
from torch import Tensor, nn

import fasthebb
from fasthebb import finish
from fasthebb.activation import Adaptive, Switching

PEAKED = ("laplace", "skewed", "laplace", "skewed")  # super-Gaussian
FLAT = ("uniform", "humps", "uniform", "humps")  # sub-Gaussian
BOTH = ("laplace", "uniform", "skewed", "humps")


def sources(*kinds: str, n: int = 5000) -> Tensor:
    """Independent sources [n, sources], each of mean 0 and variance 1."""
    torch.manual_seed(4)
    u = torch.rand(n, len(kinds), dtype=torch.float64)
    sign, noise = torch.randn(n, len(kinds)).sign(), torch.randn(n, len(kinds), dtype=torch.float64)
    draws = {"laplace": -sign * u.log(), "skewed": -u.log(), "uniform": u, "humps": sign + 0.4 * noise}
    s = torch.stack([draws[kind][:, i] for i, kind in enumerate(kinds)], dim=1)
    return (s - s.mean(dim=0)) / s.std(dim=0)


def mixing(seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(4, 4, dtype=torch.float64)


def amari(p: Tensor) -> float:
    """How far p = unmixing · mixing is from a scaled permutation, from 0 to 1.

    S. Amari, A. Cichocki, H. H. Yang, NIPS 8, 1995, divided by its largest value.
    """
    p, n = p.abs(), len(p)
    by_row, by_column = p / p.amax(dim=1, keepdim=True), p / p.amax(dim=0, keepdim=True)
    return float(by_row.sum() + by_column.sum() - 2 * n) / (2 * n * (n - 1))


def fast_ica(x: Tensor) -> Tensor:
    """scikit-learn's unmixing matrix."""
    found = FastICA(x.shape[1], whiten="unit-variance", random_state=0, max_iter=1000).fit(x.numpy())
    return torch.from_numpy(found.components_)


def whitening(x: Tensor) -> Tensor:
    """V, symmetric, such that xV has unit covariance."""
    variances, axes = torch.linalg.eigh(x.T @ x / len(x))
    return axes * variances.rsqrt() @ axes.T


def starting(w: Tensor) -> nn.Module:
    """A layer with weights w."""
    layer = nn.Linear(*w.T.shape, bias=False).to(w.dtype)
    layer.weight.data.copy_(w)
    return layer


def unmixed(rule: fasthebb.Rule, x: Tensor, lr: float = 0.2) -> Tensor:
    """Weights learnt from the identity."""
    return trained(starting(torch.eye(4, dtype=x.dtype)), rule, x, lr=lr, epochs=60, batch=1000)


def test_the_amari_index() -> None:
    assert amari(torch.eye(4)[[2, 0, 3, 1]] * torch.tensor([3.0, -1.0, 0.1, 2.0])[:, None]) < 1e-6
    assert amari(torch.ones(4, 4)) == 1


@pytest.mark.parametrize(
    ("activation", "kinds"),
    [("tanh", PEAKED), (Adaptive("tanh"), PEAKED), (Switching(), PEAKED), (Switching(), FLAT), (Switching(), BOTH)],
    ids=lambda value: value[1] if isinstance(value, tuple) else str(value),
)
def test_ica_unmixes_as_well_as_fast_ica(activation: str, kinds: tuple[str, ...]) -> None:
    mix = mixing()
    x = sources(*kinds) @ mix.T
    got, peer = amari(unmixed(fasthebb.ICA(activation), x) @ mix), amari(fast_ica(x) @ mix)
    assert got <= 0.05
    assert got <= peer + 0.01


def test_ica_leaves_flat_sources_mixed_without_the_switch() -> None:
    mix = mixing()
    assert amari(unmixed(fasthebb.ICA("tanh"), sources(*BOTH) @ mix.T) @ mix) > 0.1


@pytest.mark.parametrize("rule", [fasthebb.ICA, fasthebb.HICA])
def test_tangent_unmixes_whitened_data_and_keeps_lengths(rule: type[fasthebb.ICA]) -> None:
    mix = mixing().tril()
    x = sources(*BOTH) @ mix.T
    whiten = whitening(x) if rule is fasthebb.ICA else torch.linalg.inv(torch.linalg.cholesky(x.T @ x / len(x)))
    w = unmixed(rule(Switching(), finish=finish.tangent), x @ whiten.T, lr=0.5)
    assert amari(w @ whiten @ mix) <= 0.05
    assert (w.norm(dim=1) - 1).abs().max() <= 0.1


@pytest.mark.parametrize(
    ("activation", "kinds"), [("tanh", PEAKED), (Adaptive("tanh"), PEAKED), (Switching(), BOTH)], ids=str
)
def test_hica_unmixes_what_is_mixed_in_order(activation: str, kinds: tuple[str, ...]) -> None:
    mix = mixing().tril()  # the first input is a source, the second adds another, and so on
    x = sources(*kinds) @ mix.T
    got, peer = amari(unmixed(fasthebb.HICA(activation), x) @ mix), amari(fast_ica(x) @ mix)
    assert got <= 0.05
    assert got <= peer + 0.01


def test_hica_stays_in_the_order_it_starts_in() -> None:
    mix = mixing()
    x = sources(*PEAKED) @ mix.T
    w = unmixed(fasthebb.HICA(), x)
    assert torch.equal(w, w.tril())  # row i in the span of the first i inputs
    assert amari(w @ mix) > 0.2


@pytest.mark.parametrize("rule", [fasthebb.ICA(), fasthebb.ICA(Adaptive()), fasthebb.HICA()], ids=str)
def test_a_unit_at_rest_is_uncorrelated_with_the_others(rule: fasthebb.ICA) -> None:
    x = sources(*PEAKED) @ mixing().T
    layer = starting(unmixed(rule, x))
    hebb = fasthebb.attach(layer, rule)
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.2)
    for _ in range(150):  # the whole data a step
        with torch.no_grad():
            y = layer(x)
        hebb.write_grad()
        optimizer.step()
    sigma = y.square().mean(dim=0).sqrt() if isinstance(rule.activation, Adaptive) else torch.ones(4)
    correlation = (sigma * torch.tanh(y / sigma)).T @ y / len(y)
    seen = correlation.tril() if isinstance(rule, fasthebb.HICA) else correlation
    assert (seen - torch.eye(4)).abs().max() <= 1e-6


@pytest.mark.parametrize("rule", [fasthebb.ICA(), fasthebb.HICA(Switching())])
def test_the_natural_gradient_does_not_depend_on_the_mixing(rule: fasthebb.Rule) -> None:
    s, mix = sources(*BOTH), mixing()
    w = mixing(1)
    want = step(starting(w), rule, s)
    got = step(starting(w @ torch.linalg.inv(mix)), rule, s @ mix.T)
    assert torch.allclose(got @ mix, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("f", "kinds", "others"),
    [("tanh", FLAT, PEAKED), (lambda y: y - torch.tanh(y), PEAKED, FLAT)],
    ids=["tanh", "rest"],
)
def test_nonlinear_pca_unmixes_whitened_sources(f: Callable[[Tensor], Tensor], kinds: object, others: object) -> None:
    mix = mixing()
    index = []
    for sort in (kinds, others):
        x = sources(*sort) @ mix.T
        whiten = whitening(x)
        index.append(amari(unmixed(fasthebb.Subspace(f), x @ whiten.T, lr=0.5) @ whiten @ mix))
    assert index[0] <= 0.05
    assert index[1] > 0.2


def test_weighted_subspace_finds_the_components_in_order() -> None:
    x = gaussian().double()
    layer, _ = dense(4, x)
    w = trained(layer, fasthebb.WeightedSubspace(4.0), x, lr=0.1, epochs=100, batch=400)
    assert aligned(w, components(x, 4)).min() >= 0.999
    lengths = torch.tensor([1.0, 2.0, 3.0, 4.0]).rsqrt()
    assert (w.norm(dim=1) / lengths - 1).abs().max() <= 0.01


def test_scaled_components_are_fixed_points_of_the_weighted_subspace() -> None:
    x = gaussian().double()
    for rows in ([0, 1, 2], [2, 5, 0]):  # any order: stable only in descending order
        layer, _ = dense(3, x)
        scale = float(step(layer, fasthebb.WeightedSubspace(3.0), x).norm())
        layer = starting(components(x, 8)[rows] / torch.tensor([1.0, 2.0, 3.0]).sqrt()[:, None])
        assert step(layer, fasthebb.WeightedSubspace(3.0), x).norm() <= 1e-6 * scale


@pytest.mark.parametrize("rule", [fasthebb.HPCA, fasthebb.Subspace, fasthebb.ICA, fasthebb.HICA])
def test_adaptive_rules_scale_with_their_input(rule: type[fasthebb.HPCA]) -> None:
    x = gaussian(200).double()
    layer, _ = dense(4, x)
    w = layer.weight.detach()

    def settled(f: object, scale: float) -> Tensor:
        hebb = fasthebb.attach(layer, rule(f))
        for _ in range(60):
            layer(scale * x)
            hebb.write_grad()
        hebb.detach()
        dw = -layer.weight.grad.clone()
        return dw if rule in (fasthebb.HPCA, fasthebb.Subspace) else w - dw  # what grows with the square of the input

    assert torch.allclose(settled(Adaptive("tanh", 0.5), 3.0), 9 * settled(Adaptive("tanh", 0.5), 1.0), rtol=1e-10)
    assert (settled("tanh", 3.0) - 9 * settled("tanh", 1.0)).norm() > 0.1 * settled("tanh", 3.0).norm()
