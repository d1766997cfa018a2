"""What a unit with weights w answers to a patch x: the response y that the rules see.

    dot             x·w
    projection      x·w / ‖w‖                                 0 where w = 0
    cosine          x·w / (‖x‖ ‖w‖)                           0 where x = 0 or w = 0
    raised_cosine   ((cosine + 1) / 2)^p
    angular         1 − arccos(cosine) / π
    lebesgue        Σ_k sign(w_k) |w_k|^(p − 1) x_k           the dot product for p = 2
    euclidean       −‖x − w‖² / 2
    rbf             exp(−‖x − w‖² / 2σ²)

Raised cosine: G. Lagani, F. Falchi, C. Gennaro, H. Fassold, G. Amato. Scalable bio-inspired training of deep neural
networks with FastHebb. Neurocomputing 595, 127867, 2024.
Lebesgue product: D. Krotov, J. J. Hopfield. Unsupervised learning by competing hidden units. PNAS 116(16), 2019.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Response = Callable[[Tensor, Tensor], Tensor]  # patch [K], weights of one unit [K] -> scalar


def dot(x: Tensor, w: Tensor) -> Tensor:
    """Return x·w."""
    return (x * w).sum()


def norm(x: Tensor) -> Tensor:
    """Return the Euclidean norm ‖x‖."""
    return torch.sqrt((x * x).sum())


def projection(x: Tensor, w: Tensor) -> Tensor:
    """Return the length of x along w, 0 where w = 0."""
    length = norm(w)
    return dot(x, w) / length if length > 0 else torch.zeros_like(length)


def cosine(x: Tensor, w: Tensor) -> Tensor:
    """Return the cosine of the angle between x and w, kept within [−1, 1], 0 where either is the zero vector."""
    lengths = norm(x) * norm(w)
    return torch.clamp(dot(x, w) / lengths, -1.0, 1.0) if lengths > 0 else torch.zeros_like(lengths)


def raised_cosine(p: float = 2.0) -> Response:
    """Return the response ((cosine + 1) / 2)^p, between 0 and 1."""
    return lambda x, w: ((cosine(x, w) + 1) / 2) ** p


def angular(x: Tensor, w: Tensor) -> Tensor:
    """Return 1 − angle/π: 1 for the same direction, 0 for opposite ones."""
    return 1 - torch.arccos(cosine(x, w)) / math.pi


def lebesgue(p: float) -> Response:
    """Return the response Σ_k sign(w_k) |w_k|^(p − 1) x_k."""
    return lambda x, w: (torch.sign(w) * torch.abs(w) ** (p - 1) * x).sum()


def euclidean(x: Tensor, w: Tensor) -> Tensor:
    """Return −‖x − w‖²/2."""
    return -((x - w) ** 2).sum() / 2


def rbf(sigma: float) -> Response:
    """Return the Gaussian response of width `sigma`, 1 where x = w."""
    return lambda x, w: torch.exp(-((x - w) ** 2).sum() / (2 * sigma**2))
