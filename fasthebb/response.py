"""Responses: what a rule sees of a layer's output, y [N, G, C, L], for patches x and weights w [G, C, K].

| response | y |
|---|---|
| Dot | x·w |
| Projection | x·w/‖w‖ |
| Cosine | x·w/(‖x‖‖w‖), 0 for a zero vector |
| RaisedCosine(p) | ((cos + 1)/2)^p |
| Angular | 1 − arccos(cos)/π |
| Lebesgue(p) | Σ sign(w)·abs(w)^(p−1)·x |
| Euclidean | −‖x − w‖²/2 |
| RBF(σ) | exp(−‖x − w‖²/2σ²) |

The dot product is the layer's own output (its bias removed); patch norms come from a box filter, never from patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fasthebb.ops import reciprocal


class Patches(Protocol):
    """What a response may ask of a layer's inputs."""

    def norm(self) -> Tensor:
        """‖x‖ of every patch, [N, G, 1, L]."""
        ...

    def project(self, w: Tensor) -> Tensor:
        """x·w for other weights w [G, C, K], as [N, G, C, L]."""
        ...


@dataclass(frozen=True)
class Response:
    """What a unit makes of a patch."""

    def __call__(self, dot: Tensor, w: Tensor, patches: Patches) -> Tensor:
        """The response [N, G, C, L] for dot = x·w [N, G, C, L]; never written into `dot`."""
        raise NotImplementedError  # pragma: no cover - abstract


@dataclass(frozen=True)
class Dot(Response):
    """The layer's own dot product x·w."""

    def __call__(self, dot: Tensor, w: Tensor, patches: Patches) -> Tensor:  # noqa: ARG002
        return dot


@dataclass(frozen=True)
class Projection(Response):
    """x·w/‖w‖: how far the patch reaches along the unit's direction."""

    def __call__(self, dot: Tensor, w: Tensor, patches: Patches) -> Tensor:  # noqa: ARG002
        return dot * _per_unit(w)


@dataclass(frozen=True)
class Cosine(Response):
    """The cosine of the angle between patch and weight."""

    def __call__(self, dot: Tensor, w: Tensor, patches: Patches) -> Tensor:
        return (dot * reciprocal(patches.norm())).mul_(_per_unit(w))


@dataclass(frozen=True)
class RaisedCosine(Response):
    """((cos + 1)/2)^power, between 0 and 1: with power 2 the similarity of SWTA (Lagani et al., arXiv 2207.03172).

    Raises:
        ValueError: the power is not above 0.
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.power < float("inf"):
            raise ValueError(f"RaisedCosine(power={self.power}): the power must be above 0 and finite; try 2.0")

    def __call__(self, dot: Tensor, w: Tensor, patches: Patches) -> Tensor:
        scaled = dot * reciprocal(patches.norm())
        half = scaled.new_full((), 0.5)
        torch.addcmul(half, scaled, _per_unit(w), value=0.5, out=scaled)
        return scaled.square_() if self.power == 2 else scaled.clamp_min_(0).pow_(self.power)


@dataclass(frozen=True)
class Angular(Response):
    """1 − arccos(cos)/π: 1 for parallel, 0 for opposite directions."""

    def __call__(self, dot: Tensor, w: Tensor, patches: Patches) -> Tensor:
        cosine = Cosine()(dot, w, patches).clamp_(-1, 1)
        return cosine.arccos_().mul_(-1 / torch.pi).add_(1)


@dataclass(frozen=True)
class Lebesgue(Response):
    """Σ_k sign(w_k)|w_k|^(p−1) x_k: the dot product for p = 2; a larger p leaves it to the largest weights.

    Source: Krotov and Hopfield 2019. It costs one more forward of the layer, for p = 2 none.

    Raises:
        ValueError: p is below 1.
    """

    p: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.p < float("inf"):
            raise ValueError(f"Lebesgue(p={self.p}): the power must be 1 or more; 2 is the dot product")

    def __call__(self, dot: Tensor, w: Tensor, patches: Patches) -> Tensor:
        return dot if self.p == 2 else patches.project(w.abs().pow_(self.p - 1).mul_(w.sign()))


@dataclass(frozen=True)
class Euclidean(Response):
    """−‖x − w‖²/2: 0 where the patch equals the weights; the nearest unit has the largest."""

    def __call__(self, dot: Tensor, w: Tensor, patches: Patches) -> Tensor:
        half = w.square().sum(dim=-1, keepdim=True).mul_(0.5)  # [G, C, 1]
        return (dot - half).sub_(patches.norm().square_().mul_(0.5)).clamp_max_(0)


@dataclass(frozen=True)
class RBF(Response):
    """exp(−‖x − w‖²/2σ²): 1 where the patch equals the weights, and in the end 0 for all units that are far off.

    Raises:
        ValueError: sigma is not above 0.
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma < float("inf"):
            raise ValueError(f"RBF(sigma={self.sigma}): the width must be above 0; try 1.0")

    def __call__(self, dot: Tensor, w: Tensor, patches: Patches) -> Tensor:
        steepness = min(1 / self.sigma / self.sigma, torch.finfo(dot.dtype).max)
        return Euclidean()(dot, w, patches).mul_(steepness).exp_()


def _per_unit(w: Tensor) -> Tensor:
    return reciprocal(torch.linalg.vector_norm(w, dim=-1)).unsqueeze(-1)  # [G, C, 1]
