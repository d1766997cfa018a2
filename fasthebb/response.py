"""Responses: what a rule sees of a layer's output, y [N, G, C, L], for patches x and weights w [G, C, K].

| response | y |
|---|---|
| Dot | x·w |
| Projection | x·w/‖w‖ |
| Cosine | x·w/(‖x‖‖w‖), 0 for a zero vector |
| RaisedCosine(p) | ((cos + 1)/2)^p |
| Angular | 1 − arccos(cos)/π |

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
    """((cos + 1)/2)^power: the paper's similarity with power 2 (PROTOCOL: SWTA)."""

    power: float = 2.0

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise ValueError(f"RaisedCosine(power={self.power}): the power must be above 0")

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


def _per_unit(w: Tensor) -> Tensor:
    return reciprocal(torch.linalg.vector_norm(w, dim=-1)).unsqueeze(-1)  # [G, C, 1]
