"""Filters in closed form: layer after layer, what is found in a sample of the patches that enter it; no gradient.

A patch is what one unit sees at one location, [K]. Sources: principal components of patches, Sanger 1989 (what HPCA
converges to); centroids of contrast-normalised patches, Coates, Ng, Lee 2011.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fasthebb.layers import Conv, units_of
from fasthebb.models.order import call_order, eval_mode
from fasthebb.ops import wide
from fasthebb.training.forward import Forward, entering, modules_before
from fasthebb.training.loop import History
from fasthebb.training.norms import batch_norms, settle

CHUNK = 4096  # patches whose covariance is summed at a time


class PatchFilters(Protocol):
    """A way to find filters in patches."""

    def filters(self, patches: Tensor, units: int, generator: torch.Generator) -> Tensor:
        """Filters of norm 1, [units, K], for patches [M, K]; the generator (of the CPU) makes all random choices."""


@dataclass(frozen=True)
class PCAPatches:
    """The principal components of patches, the largest first, each of a sign that the mean patch does not oppose.

    Units beyond K are the components' negatives, which a ReLU makes others of, then random directions.
    """

    def filters(self, patches: Tensor, units: int, generator: torch.Generator) -> Tensor:
        mean = patches.mean(0)
        covariance = patches.new_zeros(len(mean), len(mean), dtype=torch.float64)
        for chunk in torch.split(patches, CHUNK):
            centred = chunk - mean
            covariance += centred.T @ centred
        components = torch.linalg.eigh(covariance).eigenvectors.T.flip(0).to(patches.dtype)  # [K, K]
        components = torch.where((components @ mean < 0)[:, None], -components, components)
        found = torch.cat([components, -components])[:units]
        return torch.cat([found, _random(units - len(found), found, generator)])


@dataclass(frozen=True)
class KMeansPatches:
    """The centroids of patches that were normalised to mean 0 and variance 1 each: mini-batch k-means, random start.

    Units beyond the number of patches, and those of a centroid 0, are random directions.

    Attributes:
        iterations: passes over the patches, at most.
        epsilon: added to a patch's variance, so that a flat one is not blown up.
    """

    iterations: int = 20
    epsilon: float = 0.01

    def filters(self, patches: Tensor, units: int, generator: torch.Generator) -> Tensor:
        from sklearn.cluster import MiniBatchKMeans

        centred = patches - patches.mean(1, keepdim=True)
        normalised = centred / (centred.square().mean(1, keepdim=True) + self.epsilon).sqrt()
        clusters = min(units, len(patches))
        seed = int(torch.randint(2**31, (), generator=generator))
        means = MiniBatchKMeans(clusters, init="random", n_init=1, max_iter=self.iterations, random_state=seed)
        means.fit(normalised.cpu().numpy())
        found = torch.from_numpy(means.cluster_centers_).to(patches)
        random = _random(units, found, generator)
        norm = found.norm(dim=1, keepdim=True)
        random[:clusters] = torch.where(norm > 1e-6, found / norm, random[:clusters])
        return random


def fit_patches(
    model: nn.Module,
    layers: Sequence[str],
    loader: Any,
    method: PatchFilters,
    *,
    patches: int = 50_000,
    seed: int,
    show: Callable[[Sequence[str], str], Iterable[str]] | None = None,
) -> History:
    """Give layers filters found in the patches that enter them, one after the other in the order of the forward.

    Between two layers batch norms take the statistics of all images; what is before a layer is in eval mode when its
    patches are taken. A layer's filters all have the root mean square norm of the weights they replace, 1/√3 for
    PyTorch's initial weights, so that responses keep their scale. Biases stay. In a grouped convolution each group has
    filters of its own.

    Args:
        model: on the device to compute on; its modes are kept.
        layers: names of Linear and convolution layers.
        loader: gives (x, labels); the labels are never read.
        patches: how many to draw for a layer, from all images and locations; all of them if there are no more.
        seed: of every random choice.
        show: passes the layers on, and shows them with a description to whoever looks on.

    Returns:
        One record a layer: epoch and step (the layer's number), seconds so far, patches (their number).

    Raises:
        ValueError: a layer that is not called or of another kind, or no images.
        FloatingPointError: a patch is not finite; the layer is named.
    """
    device = next(model.parameters()).device
    images = _Images(loader, device)
    modules = _in_order(model, layers, images.sample)
    order = list(modules)
    unsettled = batch_norms(model)
    generator = torch.Generator().manual_seed(seed)
    history: History = []
    began = time.perf_counter()
    with torch.no_grad(), eval_mode(model):
        for number, layer in enumerate(order if show is None else show(order, "patches"), start=1):
            before = set(modules_before(model, layer, images.sample))
            with entering(model, layer) as enter:
                settle([norm for norm in unsettled if norm in before], images, enter)
                found = _sample(modules[layer], enter, images, patches, generator)
            if not found.isfinite().all():
                raise FloatingPointError(f"The patches that enter layer {layer!r} are not finite: check the images")
            unsettled = [norm for norm in unsettled if norm not in before]
            _replace(modules[layer], found, method, generator)
            seconds = time.perf_counter() - began
            history.append({"epoch": number, "step": number, "seconds": seconds, "patches": found.shape[1]})
        forward = Forward(model, order[-1:], order, images.sample)
        settle(unsettled, images, forward)
        forward.close()
    history[-1]["seconds"] = time.perf_counter() - began
    return history


class _Images:
    # The images of a loader, on a device.

    def __init__(self, loader: Any, device: torch.device) -> None:
        self._loader, self._device = loader, device
        self.count = sum(len(x) for x, _ in loader)
        if not self.count:
            raise ValueError("The loader gives no images to take patches from; give it at least two")
        self.sample = next(iter(self))[:2]

    def __iter__(self) -> Iterator[Tensor]:
        return (x.to(self._device) for x, _ in self._loader)


def _in_order(model: nn.Module, layers: Sequence[str], sample: Tensor) -> dict[str, nn.Linear | Conv]:
    # The layers, by name, in the order of the forward.
    there = dict(model.named_modules())
    found: dict[str, nn.Linear | Conv] = {}
    for layer in layers:
        module = there.get(layer)
        if not isinstance(module, (nn.Linear, Conv)):
            kind = "not there" if module is None else f"a {type(module).__name__}"
            raise ValueError(f"layer {layer!r} is {kind}: name Linear or convolution layers to find filters for")
        try:
            units_of(module)
        except ValueError as error:
            raise ValueError(f"layer {layer!r} cannot be given filters: {error}") from None
        found[layer] = module
    order = call_order(model, layers, sample)
    uncalled = [layer for layer in layers if layer not in order]
    if uncalled:
        raise ValueError(f"layer {uncalled[0]!r} is not called by the forward: name layers that it calls")
    if not order:
        raise ValueError("no layer is named to find filters for: name at least one")
    return {layer: found[layer] for layer in order}


def _sample(
    module: nn.Linear | Conv,
    enter: Callable[[Tensor], Tensor],
    images: _Images,
    patches: int,
    generator: torch.Generator,
) -> Tensor:
    # Patches drawn from all images and locations, group by group, [G, M, K]; all of them if there are no more.
    dims = 1 if isinstance(module, nn.Linear) else len(module.kernel_size)
    each = math.prod(windows_of(module, enter(images.sample)).shape[1 : 1 + dims])
    total = images.count * each
    if patches < total:
        draws = torch.randint(total, (patches,), generator=generator).sort().values
    else:
        draws = torch.arange(total)
    first, found = 0, []
    for x in images:
        begin, end = torch.searchsorted(draws, torch.tensor([first, first + len(x) * each])).tolist()
        if begin < end:
            windows = windows_of(module, enter(x))
            here = (draws[begin:end] - first).to(x.device)
            found.append(windows[torch.unravel_index(here, windows.shape[: 1 + dims])])
        first += len(x) * each
    groups, _, fan_in = units_of(module).shape
    return wide(torch.cat(found)).reshape(-1, groups, fan_in).transpose(0, 1)  # under autocast they may be narrow


def windows_of(module: nn.Linear | Conv, x: Tensor) -> Tensor:
    """Every patch of an input: [N, L, K] of a Linear layer, [N, *S, Cin, *k] of a convolution; views of x."""
    if isinstance(module, nn.Linear):
        return x.reshape(len(x), -1, x.shape[-1])
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    for dim, (k, stride, dilation) in enumerate(zip(module.kernel_size, module.stride, module.dilation), start=2):
        x = x.unfold(dim, dilation * (k - 1) + 1, stride)[..., ::dilation]
    return x.movedim(1, 1 + len(module.kernel_size))


def _replace(module: nn.Linear | Conv, patches: Tensor, method: PatchFilters, generator: torch.Generator) -> None:
    groups, units, _ = units_of(module).shape
    scale = module.weight.norm() / math.sqrt(groups * units)
    filters = torch.stack([method.filters(group, units, generator) for group in patches])
    module.weight.copy_(scale * filters.reshape(module.weight.shape))


def _random(units: int, like: Tensor, generator: torch.Generator) -> Tensor:
    # Random directions, [units, K].
    return F.normalize(torch.randn(units, like.shape[1], generator=generator), dim=1).to(like)
