"""Competitions that remember: units sit out, or stand back once they won too much, so that all of them learn something.

| competition | shares r of responses s |
|---|---|
| Abstaining(inner, p) | inner(s) among the units that do not sit out the step |
| Conscience(inner, gain, rate) | inner(s_i + gain·(1/C − p_i)), p_i ← p_i + rate·(share of wins − p_i) |
| Homeostasis(inner, rate) | inner(s_i − θ_i), θ_i ← θ_i + rate·(share of wins − 1/C) |

A unit's share of wins is its part of all shares r that its group of C units had in a step.

Conscience: D. DeSieno, "Adding a conscience to competitive learning", IEEE International Conference on Neural Networks,
1988. Homeostasis: the threshold of P. Földiák, "Forming sparse representations by local anti-Hebbian learning",
Biological Cybernetics 64, 1990, with 1/C for how often a unit should be active.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

import torch
from torch import Tensor

from fasthebb.competition import Wrapping
from fasthebb.ops import check_rate, reciprocal, slide, total


@dataclass(frozen=True)
class Abstaining(Wrapping):
    """Every unit sits out a whole step with probability p, and others learn in its place.

    Who does is a hash of seed, step and unit: the same on all ranks, for all micro-batches and after a resume. Groups
    draw alike, and so do layers; give layers seeds of their own where that matters.

    Args:
        inner: sees −∞ for the response of a unit that sits out.
        p: the probability.
        seed: another one, another sequence.

    Raises:
        ValueError: p is not from 0 to below 1.
    """

    p: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.p < 1:
            raise ValueError(f"Abstaining(p={self.p}): the probability must be from 0 to below 1; try 0.1")

    def __call__(self, s: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        unit = torch.arange(s.shape[2], device=s.device)
        step = state["steps"].to(torch.int64)
        out = (_mixed(_mixed(_mixed(self.seed) + step) + unit) < ceil(self.p * 2**32)).unsqueeze(-1)
        hidden = out & ~out.all()  # where nobody is left all shares are 0 in the end, but must be finite
        return self.inner(s.masked_fill(hidden, -torch.inf), state) * ~out

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return super().init_state(shape) | {"steps": torch.zeros(())}

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        return super().next_state(state, stats, count) | {"steps": state["steps"] + (count > 0)}


@dataclass(frozen=True)
class Conscience(Wrapping):
    """Units that won more than their share stand back: gain·(1/C − p) is added to their response.

    Args:
        inner: sees the responses with that bias.
        gain: how much it weighs, in units of the response.
        rate: of the sliding mean p of a unit's share of all wins, a step; above 0, at most 1.

    Raises:
        ValueError: the gain is negative or not finite, or the rate is not above 0 and at most 1.
    """

    gain: float = 1.0
    rate: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.gain < float("inf"):
            raise ValueError(f"Conscience(gain={self.gain}): the gain must be finite and not negative; try 1")
        check_rate("Conscience", self.rate)

    def __call__(self, s: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        bias = self.gain * (1 / s.shape[2] - state["share"])
        return self.inner(s + bias.unsqueeze(-1), state)

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return super().init_state(shape) | {"share": torch.full(shape, 1 / shape[1], dtype=torch.float64)}

    def stats(self, r: Tensor) -> dict[str, Tensor]:
        return super().stats(r) | {"share": total(r)}

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        won = stats["share"]
        share = slide(state["share"], won, won.sum(dim=-1, keepdim=True), self.rate)
        return super().next_state(state, stats, count) | {"share": share}


@dataclass(frozen=True)
class Homeostasis(Wrapping):
    """A unit's threshold rises while it wins more than its share, and falls while it wins less, until all win alike.

    Args:
        inner: sees the responses less the thresholds.
        rate: of the thresholds, in units of the response: θ ← θ + rate·(share of a step's wins − 1/C).

    Raises:
        ValueError: the rate is not above 0, or not finite.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"Homeostasis(rate={self.rate}): the rate must be above 0 and finite; try 0.1")

    def __call__(self, s: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        return self.inner(s - state["threshold"].unsqueeze(-1), state)

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return super().init_state(shape) | {"threshold": torch.zeros(shape)}

    def stats(self, r: Tensor) -> dict[str, Tensor]:
        return super().stats(r) | {"threshold": total(r)}

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        won = stats["threshold"]
        whole = won.sum(dim=-1, keepdim=True)
        excess = torch.where(whole > 0, won * reciprocal(whole) - 1 / won.shape[1], 0)
        return super().next_state(state, stats, count) | {"threshold": state["threshold"] + self.rate * excess}


T = TypeVar("T", int, Tensor)


def _mixed(x: T) -> T:
    # A hash of 32 bits: a change of any bit changes about half of them. No product exceeds 63 bits.
    x = x & 0xFFFFFFFF
    for _ in range(2):
        x = ((x >> 16) ^ x) * 0x45D9F3B & 0xFFFFFFFF
    return (x >> 16) ^ x
