"""What can be told of units from their weights, responses and features; pure functions on tensors.

Shapes: N batch, G convolution groups, C units per group, L locations, K fan-in; a weight is [G, C, K], a response
[N, G, C, L]. Features are [M, F]: M images or patches, F units. Units are compared within their group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from fasthebb.ops import reciprocal

BLOCK = 512  # units compared with all others at a time


def duplicates(w: Tensor, threshold: float = 0.95) -> Tensor:
    """Which units have an earlier twin, [G, C] bool, for w [G, C, K]: |cos(wᵢ, wⱼ)| ≥ threshold for some j < i.

    Their number is how many units could go without one kind of filter being lost. A unit of zeros has no twin.
    """
    return torch.cat([(cosines >= threshold).any(-1) for _, cosines in _earlier(w)], dim=1)


def coherence(w: Tensor) -> Tensor:
    """max over j ≠ i of |cos(wᵢ, wⱼ)|, [G, C] in [0, 1], for w [G, C, K]; 0 for a single unit.

    The largest of a group is its mutual coherence (Donoho, Elad, "Optimally sparse representation in general
    (nonorthogonal) dictionaries via ℓ1 minimization", PNAS 2003): 0 if all are orthogonal, 1 if two are parallel.
    """
    most = w.new_zeros(w.shape[:2], dtype=_wide(w))
    for start, cosines in _earlier(w):  # [G, units from start on, all units up to the last of them]
        rows, columns = most[:, start : start + cosines.shape[1]], most[:, : cosines.shape[2]]
        rows.copy_(torch.maximum(rows, cosines.amax(dim=2)))
        columns.copy_(torch.maximum(columns, cosines.amax(dim=1)))
    return most


def norm_converged(w: Tensor, target: float = 1.0, tolerance: float = 0.05) -> Tensor:
    """The share of units with |‖wᵢ‖ − target| ≤ tolerance·target, [], for w [G, C, K].

    A norm of one is where Oja's rule and its relatives come to rest (Oja, "A simplified neuron model as a principal
    component analyzer", Journal of Mathematical Biology, 1982).
    """
    norms = w.to(_wide(w)).norm(dim=-1)
    near: Tensor = (norms - target).abs() <= tolerance * target
    return near.to(norms.dtype).mean()


def effective_rank(matrix: Tensor) -> Tensor:
    """exp(−Σ pᵢ ln pᵢ), pᵢ = σᵢ/Σσ the shares of the singular values: [...] for matrices [..., M, F].

    From 1 (all rows parallel) to min(M, F) (all directions alike); 0 for a matrix of zeros. Of features, take their
    mean off first: it counts as a direction. Source: Roy, Vetterli, "The effective rank: a measure of effective
    dimensionality", EUSIPCO 2007.
    """
    tall = matrix.double() if matrix.shape[-2] > matrix.shape[-1] else matrix.double().mT
    values = torch.linalg.eigvalsh(tall.mT @ tall).clamp_min(0).sqrt()  # faster than singular values, enough in float64
    sums = values.sum(dim=-1, keepdim=True)
    rank: Tensor = torch.special.entr(values * reciprocal(sums)).sum(dim=-1).exp()
    return torch.where(sums[..., 0] > 0, rank, 0).to(_wide(matrix))


def spectral_concentration(filters: Tensor) -> Tensor:
    """How few spatial frequencies hold a filter's energy, [units] in [0, 1], for filters [units, channels, h, w].

    Σ s(k)², where s(k) is the share of the filter's energy at the spatial frequency k of the discrete Fourier
    transform, its channels summed, k and −k being one frequency: the inverse of how many frequencies take part. A
    grating that goes into the window a whole number of times, like a constant filter (k = 0), gives 1; a lone pixel,
    whose spectrum is flat, about 2/(h·w), nearly the least there is; a filter of zeros 0. Scale, sign, a cyclic shift
    and a rotation of the colour space change nothing.

    White noise: its shares are Dirichlet distributed with α = channels for a pair k ≠ −k, channels/2 for k = −k, and
    A = Σ α = channels·h·w/2, so that the mean is Σ α(α + 1) / A(A + 1): 0.102 for 3 × 5 × 5, 0.147 for 1 × 5 × 5.
    """
    filters = filters.to(_wide(filters))
    filters = filters * reciprocal(filters.abs().amax(dim=(1, 2, 3), keepdim=True))
    power: Tensor = torch.fft.fft2(filters).abs().square().sum(dim=1)  # [units, h, w]
    own_y, own_x = (torch.arange(side, device=power.device) * 2 % side == 0 for side in power.shape[1:])  # k = −k
    twice = 2 - (own_y[:, None] & own_x).to(power.dtype)  # of a pair's (P(k) + P(−k))², half belongs to each
    share: Tensor = power * reciprocal(power.sum(dim=(1, 2), keepdim=True))
    return (twice * share.square()).sum(dim=(1, 2))


def win_share(y: Tensor) -> Tensor:
    """The share of samples and locations at which each unit responds most in its group, [G·C], for y [N, G, C, L].

    The shares of a group sum to one; of equal responses the first unit's counts.
    """
    n, groups, units, locations = y.shape
    winners = y.argmax(dim=2)  # [N, G, L]
    number = winners + units * torch.arange(groups, device=y.device)[:, None]
    wins = torch.bincount(number.flatten(), minlength=groups * units)
    return wins.to(torch.get_default_dtype()) / max(1, n * locations)


def dead(y: Tensor) -> Tensor:
    """Which units never respond above zero, [G, C] bool, for y [N, G, C, L]: what a ReLU never lets through."""
    return ~(y > 0).any(dim=3).any(dim=0)


def dominant(share: Tensor, above: float = 0.1) -> Tensor:
    """Which units win more than `above` of all samples and locations, bool, for shares as of `win_share`."""
    return share > above


def winner_entropy(share: Tensor) -> Tensor:
    """−Σ pᵢ ln pᵢ / ln C, [...], for shares [..., C] of C units that need not sum to one: how evenly units are used.

    1 if all are used alike, 0 if one is used alone; NaN for a single unit and where none is used.
    """
    p = share / share.sum(dim=-1, keepdim=True)
    entropy: Tensor = torch.special.entr(p).sum(dim=-1)
    return entropy / math.log(share.shape[-1]) if share.shape[-1] > 1 else entropy * math.nan


def sparsity(a: Tensor, dim: int = -1) -> Tensor:
    """(√n − Σ|a|/√Σa²)/(√n − 1) over the n entries of a dimension: 0 if all are alike in size, 1 if one is not 0.

    For features [M, F], dim=1 says how few units answer to an image, dim=0 to how few images a unit answers. 1 where
    all entries are 0, and for n = 1. Source: Hoyer, "Non-negative matrix factorization with sparseness constraints",
    JMLR 2004.
    """
    a, root = a.to(_wide(a)), math.sqrt(a.shape[dim])
    spread = a.abs().sum(dim=dim) * reciprocal(a.norm(dim=dim))  # from 1 to √n
    return ((root - spread) / (root - 1)).clamp(0, 1) if root > 1 else torch.ones_like(spread)


def selectivity(features: Tensor, labels: Tensor) -> Tensor:
    """(μ_max − μ_rest)/(μ_max + μ_rest), [F] in [0, 1], for features [M, F], negative ones taken as 0.

    μ_max is a unit's mean over the images of the class that it answers most, μ_rest the mean of its means over the
    other classes: 0 if it answers all classes alike or not at all, 1 if one alone. Classes are those of `labels` [M].
    Source: Morcos, Barrett, Rabinowitz, Botvinick, "On the importance of single directions for generalization", ICLR
    2018.

    Raises:
        ValueError: the labels are of one class.
    """
    classes, place = torch.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"labels of {len(classes)} class: selectivity compares classes; give images of two or more")
    of_class = F.one_hot(place).to(_wide(features))  # [M, classes]
    means = of_class.mT @ features.to(of_class.dtype).relu() / of_class.sum(dim=0)[:, None]  # [classes, F]
    most = means.amax(dim=0)
    rest = (means.sum(dim=0) - most) / (len(classes) - 1)
    return (most - rest) * reciprocal(most + rest)


def cka(a: Tensor, b: Tensor) -> Tensor:
    """‖BᵀA‖² / (‖AᵀA‖·‖BᵀB‖), [] in [0, 1], A and B being features [M, F] and [M, F′] of the same images, centred.

    1 if the features are the same but for a rotation and a scale, 0 if they are uncorrelated, and where one of them is
    constant. Many images are needed: of few, any two sets of many features are alike. Source: linear CKA, Kornblith,
    Norouzi, Lee, Hinton, "Similarity of neural network representations revisited", ICML 2019.
    """
    a, b = (t.to(_wide(t)) - t.to(_wide(t)).mean(dim=0) for t in (a, b))
    a, b = (t * reciprocal(t.norm()) for t in (a, b))
    return _alignment(a, b) * reciprocal((_alignment(a, a) * _alignment(b, b)).sqrt())


def receptive_fields(
    a: Tensor, images: Tensor, size: int | tuple[int, int] | None = None, stride: int = 1, padding: int = 0
) -> Tensor:
    """What a unit of any layer answers to: Σ aᵢ·(x − x̄)/Σ aᵢ, [units, channels, *size], negative a taken as 0.

    A response-triggered average, without gradients (Chichilnisky, "A simple white noise analysis of neuronal light
    responses", Network, 2001). Zeros for a unit that never responds.

    Args:
        a: what the units do: [N, units, h, w] at each location, or [N, units] to a whole image.
        images: what they do it for, [N, channels, H, W].
        size: pixels of the window x that a location sees; all of the image if not given.
        stride: pixels between the windows of two neighbouring locations.
        padding: pixels by which the first window reaches over the edge, where zeros stand for the image.

    Raises:
        ValueError: the windows do not fit: the images have not h × w of them.
    """
    side = (size, size) if isinstance(size, int) else tuple(size or images.shape[2:])
    a = a.to(_wide(a)).relu() if a.ndim == 4 else a.to(_wide(a)).relu()[:, :, None, None]
    images = images.to(a.dtype)
    fit = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(images.shape[2:], side))
    if tuple(a.shape[2:]) != fit:
        raise ValueError(
            f"size={size}, stride={stride}, padding={padding}: {list(images.shape[2:])} pixels have {list(fit)} such"
            f" windows, but there are {list(a.shape[2:])} locations; give the window that one location sees"
        )

    def summed(a: Tensor) -> Tensor:  # Σ a·x over images and locations: a correlation of the images with the maps
        found = F.conv2d(images.transpose(0, 1), a.transpose(0, 1), padding=padding, dilation=stride)
        return found[:, :, : side[0], : side[1]].transpose(0, 1)

    mean = summed(torch.ones_like(a[:, :1])) / a[:, 0].numel()
    total = a.sum(dim=(0, 2, 3))[:, None, None, None]
    return summed(a) * reciprocal(total) - mean * (total > 0)


def broken_layer(state: Mapping[str, Tensor]) -> str | None:
    """Name of the first module in a model's state dict that holds NaN or infinity; None if all is finite."""
    broken = (name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all())
    return next((name.rpartition(".")[0] for name in broken), None)


def _wide(t: Tensor) -> torch.dtype:
    return torch.promote_types(t.dtype, torch.float32)


def _earlier(w: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Units of w [G, C, K] from start to stop: start, and |cos(wᵢ, wⱼ)|, j < i, [G, stop − start, stop]."""
    w = w.to(_wide(w))
    unit = w * reciprocal(w.norm(dim=-1, keepdim=True))
    for start in range(0, w.shape[1], BLOCK):
        rows = unit[:, start : start + BLOCK]
        cosines = (rows @ unit[:, : start + BLOCK].mT).abs_().clamp_(max=1)
        yield start, cosines.tril_(start - 1)  # 0 for j ≥ i


def _alignment(a: Tensor, b: Tensor) -> Tensor:
    """‖aᵀb‖² for a [M, F] and b [M, F′]: from [F, F′], or from [M, M] where that is cheaper."""
    m, f, g = len(a), a.shape[1], b.shape[1]
    if m * (f + g) < f * g:
        return ((a @ a.mT) * (b @ b.mT)).sum()
    return (a.mT @ b).square().sum()
