"""Patterns of weights and images: how few spatial frequencies a filter has, and what a deep unit answers to."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from torch import Tensor, nn

from fasthebb.diagnostics import receptive_fields, spectral_concentration


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spectrum(image: Tensor) -> dict[tuple[int, int], float]:
    """Energy of an image [channels, h, w] by frequency, k and −k being one: sums over pixels, term by term."""
    h, w = image.shape[1:]
    found: dict[tuple[int, int], float] = {}
    for u, v in itertools.product(range(h), range(w)):
        energy = 0.0
        for channel in image:
            terms = [
                complex(channel[y, x]) * np.exp(-2j * np.pi * (u * y / h + v * x / w))
                for y, x in itertools.product(range(h), range(w))
            ]
            energy += abs(sum(terms)) ** 2
        key = min((u, v), (-u % h, -v % w))
        found[key] = found.get(key, 0.0) + energy
    return found


@pytest.mark.parametrize("shape", [(3, 5, 5), (2, 4, 3), (1, 4, 6), (1, 1, 7)])
def test_spectral_concentration_by_hand(shape: tuple[int, int, int]) -> None:
    filters = normal(4, *shape)
    for image, found in zip(filters, spectral_concentration(filters).tolist()):
        energies = list(spectrum(image).values())
        assert found == pytest.approx(sum((energy / sum(energies)) ** 2 for energy in energies))
        assert 1 / len(energies) <= found <= 1


@pytest.mark.parametrize(("u", "v"), [(0, 0), (1, 0), (0, 3), (2, 1), (4, 2), (3, 3)])
def test_a_grating_is_one_frequency(u: int, v: int) -> None:
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(6.0), indexing="ij")
    waves = [torch.cos(2 * math.pi * (u * y / 8 + v * x / 6) + phase) for phase in (0.3, 1.0, 4.0)]  # one a channel
    grating = torch.stack(waves)[None].double()
    assert float(spectral_concentration(grating)) == pytest.approx(1)
    assert float(spectral_concentration(grating + 0.3 * normal(1, 3, 8, 6))) < 0.95


@pytest.mark.parametrize(("shape", "expected"), [((3, 5, 5), 0.102), ((1, 5, 5), 0.147), ((2, 4, 6), None)])
def test_white_noise_has_the_concentration_of_the_docstring(
    shape: tuple[int, int, int], expected: float | None
) -> None:
    channels, h, w = shape
    pairs = set(spectrum(torch.zeros(shape)))
    alphas = [channels / 2 if (y, x) == (-y % h, -x % w) else channels for y, x in pairs]
    assert sum(alphas) == channels * h * w / 2
    mean = sum(alpha * (alpha + 1) for alpha in alphas) / (sum(alphas) * (sum(alphas) + 1))
    assert expected is None or round(mean, 3) == expected
    measured = spectral_concentration(normal(20000, *shape))
    assert abs(float(measured.mean()) - mean) < 4 * float(measured.std()) / math.sqrt(20000)


def test_spectral_concentration_does_not_change_with() -> None:
    filters = normal(6, 3, 5, 5)
    want = spectral_concentration(filters)
    colours = torch.from_numpy(ortho_group.rvs(3, random_state=0))
    turned = torch.einsum("dc,uchw->udhw", colours, filters)
    for changed in (-3 * filters, 1e-40 * filters, filters.roll((1, 3), (2, 3)), filters.flip(2, 3), turned):
        assert torch.allclose(spectral_concentration(changed), want, rtol=1e-10)
    assert torch.allclose(spectral_concentration(1e-30 * filters.float()), want.float(), rtol=1e-4)
    lone = torch.zeros(1, 3, 5, 5)
    assert float(spectral_concentration(lone)) == 0
    lone[0, 1, 3, 2] = 1
    assert float(spectral_concentration(lone)) == pytest.approx(49 / 25**2)


def test_receptive_fields_are_weighted_means_of_windows() -> None:
    images, a = normal(3, 2, 7, 6), normal(3, 4, 3, 2, seed=1)
    a[:, 3] = -1
    size, stride, padding = (4, 5), 2, 1
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    places = list(itertools.product(range(3), range(3), range(2)))  # image, row, column
    windows = [padded[n, :, stride * y : stride * y + 4, stride * x : stride * x + 5] for n, y, x in places]
    mean = sum(windows) / len(windows)
    found = receptive_fields(a, images, size, stride, padding)
    for unit in range(3):
        weights = [max(0.0, float(a[n, unit, y, x])) for n, y, x in places]
        want = sum(weight * (window - mean) for weight, window in zip(weights, windows)) / sum(weights)
        assert torch.allclose(found[unit], want)
    assert not found[3].any(), "it never responds"


def test_receptive_fields_of_whole_images() -> None:
    images, a = normal(20, 1, 4, 5), normal(20, 3, seed=1)
    weights = a.clamp_min(0)
    want = torch.stack([(w[:, None, None, None] * images).sum(0) / w.sum() for w in weights.mT]) - images.mean(0)
    assert torch.allclose(receptive_fields(a, images), want)
    assert torch.allclose(receptive_fields(a, images + 5), want)


def test_a_deep_unit_shows_what_it_was_made_for() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.ReLU(), nn.Conv2d(8, 2, 3, bias=False), nn.ReLU()
    ).double()
    pattern = net[0].weight.detach()[5, 0]
    with torch.no_grad():
        net[2].weight.zero_()
        net[2].weight[0, 5, 1, 1] = 1  # answers the fifth filter, in the middle of a window of 7 pixels
        images = normal(200, 1, 15, 15)
        field = receptive_fields(net(images), images, 7, stride=2)[0, 0]
    assert float(torch.cosine_similarity(field[2:5, 2:5].flatten(), pattern.flatten(), dim=0)) > 0.99
    assert float(field[2:5, 2:5].norm() / field.norm()) > 0.95


def test_windows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"stride=3, padding=0: \[9, 9\] pixels have \[3, 3\] such windows, but .*\[4, 4\]"
    ):
        receptive_fields(torch.ones(2, 3, 4, 4), torch.ones(2, 1, 9, 9), 3, stride=3)
    with pytest.raises(ValueError, match=r"there are \[2, 2\] locations"):
        receptive_fields(torch.ones(2, 3, 2, 2), torch.ones(2, 1, 9, 9))
