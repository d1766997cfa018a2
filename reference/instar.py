"""Competitive learning: units compete at every location, and move towards the inputs they win.

    ΔW_i = Σ_m r_mi² (x_m − w_i) / Σ_m r_mi       average "weighted": r is the step length and the averaging weight
    ΔW_i = Σ_m r_mi  (x_m − w_i) / Σ_m r_mi       average "plain"

and ΔW_i = 0 for a unit that never wins, Σ_m r_mi = 0. A unit of negative strength moves towards −x,
r (x − sign(r) w_i), and counts |r| in the sum below. The strength r_mi of unit i at location m is

    hard, k winners   1 where y_mi is at least the k-th largest response of the location, else 0: ties all win
    soft, "exp"       exp(y_mi / T) / Σ_j exp(y_mj / T)
    soft, "power"     y_mi^(1/T) / Σ_j y_mj^(1/T)       0/0 = 0; for responses that are never negative

S. Grossberg. Adaptive pattern classification and universal recoding, I. Biological Cybernetics 23, 1976.
E. Majani, R. Erlanson, Y. Abu-Mostafa. On the k-winners-take-all network. NIPS 1, 1988.
G. Lagani, F. Falchi, C. Gennaro, H. Fassold, G. Amato. Scalable bio-inspired training of deep neural networks with
FastHebb. Neurocomputing 595, 127867, 2024.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from reference.hebb import Rule

Competition = Callable[[list[float]], list[float]]  # responses of the units at one location -> their strengths r
Average = Literal["weighted", "plain"]


def k_winners(k: int) -> Competition:
    """Return the competition that the `k` largest responses win, and all that equal the k-th; all, if k ≥ C."""

    def compete(y: list[float]) -> list[float]:
        bar = sorted(y, reverse=True)[min(k, len(y)) - 1]
        return [1.0 if y_i >= bar else 0.0 for y_i in y]

    return compete


def softmax(temperature: float) -> Competition:
    """Return the competition r_i = exp(y_i / T) / Σ_j exp(y_j / T), computed from y − max y."""

    def compete(y: list[float]) -> list[float]:
        largest = max(y)
        powers = [math.exp((y_i - largest) / temperature) for y_i in y]
        return [power / sum(powers) for power in powers]

    return compete


def power(temperature: float) -> Competition:
    """Return the competition r_i = y_i^(1/T) / Σ_j y_j^(1/T) of non-negative responses, all 0 where all are 0."""

    def compete(y: list[float]) -> list[float]:
        powers = [y_i ** (1 / temperature) for y_i in y]
        total = sum(powers)
        return [p / total if total > 0 else 0.0 for p in powers]

    return compete


def instar(compete: Competition, average: Average = "weighted") -> Rule:
    """Return the rule that moves every unit towards the inputs it wins, by the strengths that `compete` gives."""

    def rule(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
        strengths = [compete(y_m) for y_m in y.tolist()]
        dw = torch.zeros_like(w)
        for i in range(len(w)):
            norm = 0.0
            for x, r in zip(patches, strengths):
                c = r[i] * r[i] if average == "weighted" else r[i]
                dw[i] += c * x - abs(c) * w[i]
                norm += abs(r[i])
            dw[i] = dw[i] / norm if norm > 0 else torch.zeros_like(w[i])
        return dw

    return rule


hard_wta: Rule = instar(k_winners(1))


def k_wta(k: int) -> Rule:
    """Return competitive learning with `k` winners at every location."""
    return instar(k_winners(k))


def soft_wta(
    temperature: float = 0.02, competition: Literal["exp", "power"] = "exp", average: Average = "weighted"
) -> Rule:
    """Return competitive learning in which every unit wins a share of every location."""
    compete = {"exp": softmax, "power": power}[competition]
    return instar(compete(temperature), average)
