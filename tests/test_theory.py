"""What the rules are known to converge to: principal components, their subspace, and centroids."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor, nn

import fasthebb
from fasthebb import finish
from fasthebb.response import Cosine

VARIANCES = torch.tensor([4.0, 2.6, 1.7, 1.0, 0.5, 0.3, 0.2, 0.1])


def gaussian(n: int = 4000) -> Tensor:
    """Centred samples [n, 8] of an anisotropic Gaussian in a rotated frame."""
    torch.manual_seed(0)
    frame, _ = torch.linalg.qr(torch.randn(8, 8))
    x = torch.randn(n, 8) * VARIANCES.sqrt() @ frame
    return x - x.mean(dim=0)


def components(x: Tensor, n: int) -> Tensor:
    """scikit-learn's leading principal components [n, 8]."""
    return torch.from_numpy(PCA(n, svd_solver="full").fit(x.double().numpy()).components_).to(x.dtype)


def dense(units: int, x: Tensor) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    torch.manual_seed(1)
    return nn.Linear(8, units, bias=False).to(x.dtype), lambda x: x


def conv(units: int, x: Tensor) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """A 1×1 convolution over images of 5×5 samples."""
    torch.manual_seed(1)
    layer = nn.Conv2d(8, units, 1, bias=False).to(x.dtype)
    return layer, lambda x: x.reshape(-1, 5, 5, 8).permute(0, 3, 1, 2)


def trained(layer: nn.Module, rule: fasthebb.Rule, x: Tensor, lr: float, epochs: int, batch: int = 200) -> Tensor:
    """Weights [units, 8] after some epochs, the rate falling to zero."""
    hebb = fasthebb.attach(layer, rule)
    optimizer = torch.optim.SGD(hebb.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, epochs * (len(x) // batch))
    for _ in range(epochs):
        for part in x.split(batch):
            with torch.no_grad():
                layer(part)
            hebb.write_grad()
            optimizer.step()
            schedule.step()
    return layer.weight.detach().flatten(1)


def step(layer: nn.Module, rule: fasthebb.Rule, x: Tensor) -> Tensor:
    """ΔW of the whole data."""
    hebb = fasthebb.attach(layer, rule)
    layer(x)
    hebb.write_grad()
    hebb.detach()
    return -layer.weight.grad


def aligned(w: Tensor, v: Tensor) -> Tensor:
    """|cos| of every row of w with the same row of v."""
    return torch.cosine_similarity(w, v, dim=1).abs()


def test_oja_finds_the_first_component() -> None:
    x = gaussian()
    layer, _ = dense(3, x)
    w = trained(layer, fasthebb.Oja(), x, lr=0.05, epochs=30)
    assert aligned(w, components(x, 1).expand(3, 8)).min() >= 0.999
    assert (w.norm(dim=1) - 1).abs().max() <= 0.01


@pytest.mark.parametrize("kind", [dense, conv])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hpca_finds_the_components_in_order(kind: Callable[..., object], dtype: torch.dtype) -> None:
    x = gaussian().to(dtype)
    layer, shape = kind(4, x)
    batch = 8 if kind is conv else 200  # the same samples a step
    w = trained(layer, fasthebb.HPCA("identity"), shape(x), lr=0.05, epochs=60, batch=batch)
    assert aligned(w, components(x, 4)).min() >= 0.999
    assert (w.norm(dim=1) - 1).abs().max() <= 0.02


def test_subspace_spans_the_leading_components_in_any_basis() -> None:
    x = gaussian()
    layer, _ = dense(4, x)
    w = trained(layer, fasthebb.Subspace(), x, lr=0.05, epochs=60)
    cosines = torch.linalg.svdvals(w @ components(x, 4).T)  # of the principal angles, as w becomes orthonormal
    assert cosines.min() >= 0.999
    assert (w @ w.T - torch.eye(4)).abs().max() <= 0.02
    assert aligned(w, components(x, 4)).max() < 0.99  # not the components themselves


def blobs(n: int = 600, units: int = 5) -> tuple[Tensor, Tensor]:
    """Well-separated clusters of unit vectors [n, 8], and one member of each to start from."""
    torch.manual_seed(2)
    centres = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))[0][:units]
    x = centres[torch.arange(n) % units] + 0.15 * torch.randn(n, 8, dtype=torch.float64)
    x /= x.norm(dim=1, keepdim=True)
    return x, x[:units].clone()


def lloyd(x: Tensor, w: Tensor) -> Tensor:
    """One k-means step in numpy: assign by direction, take the mean; a unit without members stays."""
    x_, w_ = x.numpy(), w.numpy()
    winner = (x_ @ (w_ / np.linalg.norm(w_, axis=1, keepdims=True)).T).argmax(axis=1)
    return torch.from_numpy(
        np.stack([x_[winner == i].mean(axis=0) if (winner == i).any() else w_[i] for i in range(len(w_))])
    )


def test_hard_wta_is_k_means() -> None:
    x, start = blobs()
    layer, _ = dense(6, x)
    layer.weight.data = torch.cat([start, -x.mean(dim=0, keepdim=True)])  # the last one never wins
    for _ in range(10):
        want = lloyd(x, layer.weight.detach())
        layer.weight.data += step(layer, fasthebb.HardWTA(response=Cosine()), x)
        assert torch.allclose(layer.weight, want, rtol=0, atol=1e-12)
    centroids = torch.from_numpy(KMeans(5, init=start.numpy(), n_init=1).fit(x.numpy()).cluster_centers_)
    assert torch.allclose(layer.weight[:5], centroids, atol=1e-10)
    assert torch.equal(layer.weight[5], -x.mean(dim=0))


@pytest.mark.parametrize("sign", [1, -1])
def test_principal_components_are_fixed_points(sign: int) -> None:
    x = gaussian().double()
    for rule, rows in (
        (fasthebb.Oja(), [0, 3, 6]),  # every component on its own
        (fasthebb.HPCA("identity"), [0, 1, 2, 3]),
        (fasthebb.HPCA("identity"), [2, 0, 5]),  # any order: stable only in descending order
        (fasthebb.Subspace(), [0, 1, 2, 3]),
    ):
        layer, _ = dense(len(rows), x)
        scale = float(step(layer, rule, x).norm())
        layer, _ = dense(len(rows), x)
        layer.weight.data = sign * components(x, 8)[rows]
        assert step(layer, rule, x).norm() <= 1e-12 * scale


def test_twice_the_component_is_no_fixed_point_of_oja() -> None:
    x = gaussian().double()
    layer, _ = dense(1, x)
    layer.weight.data = 2 * components(x, 1)
    assert float((step(layer, fasthebb.Oja(), x) * layer.weight.detach()).sum()) < -1  # it shrinks


@pytest.mark.parametrize("rule", [fasthebb.Hebb, fasthebb.HPCA, fasthebb.HardWTA, fasthebb.SoftWTA])
def test_tangent_keeps_lengths_to_first_order(rule: type[fasthebb.Rule]) -> None:
    x = gaussian().double()
    drift = {}
    for lr in (1e-3, 1e-4):
        layer, _ = dense(4, x)
        before = layer.weight.detach().norm(dim=1)
        dw = step(layer, rule(finish=finish.tangent), x)
        drift[lr] = float(((layer.weight.detach() + lr * dw).norm(dim=1) - before).abs().max())
        assert dw.norm() > 0.1
    assert 90 < drift[1e-3] / drift[1e-4] < 110  # second order: a tenth of the rate, a hundredth of the drift
