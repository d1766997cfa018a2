"""Competitions around a competition: what it is shown, and what becomes of its strengths.

    every         r_i = 1
    threshold     r_i = inner(y)_i where y_i > level, else 0
    abstaining    r = inner(y of the units that take part), 0 for a unit that sits out the step
    shifted       r = inner(y + shift), a shift for every unit:
                      conscience     gain (1/C − p_i)       p_i ← p_i + rate (share_i − p_i), at first 1/C
                      homeostasis    −θ_i                   θ_i ← θ_i + rate (share_i − 1/C), at first 0

share_i is what unit i won of all that was won in a step, Σ_m r_mi / Σ_m Σ_j r_mj; where nobody won anything, p and θ
stay. Unit i sits out where the hash of seed, step and i is below p · 2³².

D. DeSieno. Adding a conscience to competitive learning. IEEE International Conference on Neural Networks, 1988.
P. Földiák. Forming sparse representations by local anti-Hebbian learning. Biological Cybernetics 64, 1990.
"""

import torch
from torch import Tensor

from reference.instar import Competition


def every(y: list[float]) -> list[float]:
    """Return a strength of 1 for every unit."""
    return [1.0 for _ in y]


def threshold(inner: Competition, level: float) -> Competition:
    """Return the competition in which units that do not exceed `level` learn nothing.

    >>> threshold(every, 2.0)([1.0, 2.0, 3.0])
    [0.0, 0.0, 1.0]
    """

    def compete(y: list[float]) -> list[float]:
        return [r_i if y_i > level else 0.0 for r_i, y_i in zip(inner(y), y)]

    return compete


def abstaining(inner: Competition, out: list[bool]) -> Competition:
    """Return the competition of the units that are not `out`; those have a strength of 0.

    >>> from reference.instar import k_winners
    >>> abstaining(k_winners(1), [True, False, False])([3.0, 2.0, 1.0])
    [0.0, 1.0, 0.0]
    """

    def compete(y: list[float]) -> list[float]:
        here = [i for i in range(len(y)) if not out[i]]
        strengths = [0.0 for _ in y]
        for i, r in zip(here, inner([y[i] for i in here]) if here else []):
            strengths[i] = r
        return strengths

    return compete


def sits_out(units: int, p: float, seed: int, step: int) -> list[bool]:
    """Return whether each unit sits out a step, counted from 0."""
    return [hashed(hashed(hashed(seed) + step) + i) / 2**32 < p for i in range(units)]


def hashed(number: int) -> int:
    """Return 32 bits that look random: twice, bits shifted onto themselves and multiplied modulo 2³²."""
    number = number % 2**32
    for _ in range(2):
        number = (number ^ (number // 2**16)) * 73244475 % 2**32
    return number ^ (number // 2**16)


def shifted(inner: Competition, shift: Tensor) -> Competition:
    """Return the competition that sees every unit's response with its `shift` [C] added.

    >>> from reference.instar import k_winners
    >>> shifted(k_winners(1), torch.tensor([0.0, 1.5]))([2.0, 1.0])
    [0.0, 1.0]
    """
    shifts: list[float] = shift.tolist()
    return lambda y: inner([y_i + shift_i for y_i, shift_i in zip(y, shifts)])


def shares(compete: Competition, y: Tensor) -> list[float] | None:
    """Return what each unit won of all that was won by responses y [M, C]; None where nobody won.

    >>> shares(every, torch.zeros(3, 2))
    [0.5, 0.5]
    """
    won = [0.0] * y.shape[1]
    for y_m in y.tolist():
        for i, r in enumerate(compete(y_m)):
            won[i] += r
    return [w / sum(won) for w in won] if sum(won) > 0 else None


def conscientious(inner: Competition, p: Tensor, gain: float) -> Competition:
    """Return the competition in which units that won more than their share so far, p [C], stand back."""
    return shifted(inner, gain * (1 / len(p) - p))


def next_share(p: Tensor, compete: Competition, y: Tensor, rate: float) -> Tensor:
    """Return p after a step with responses y [M, C]."""
    won = shares(compete, y)
    return p if won is None else torch.stack([p_i + rate * (share - p_i) for p_i, share in zip(p, won)])


def next_threshold(theta: Tensor, compete: Competition, y: Tensor, rate: float) -> Tensor:
    """Return θ after a step with responses y [M, C]."""
    won = shares(compete, y)
    return theta if won is None else torch.stack([t + rate * (share - 1 / len(won)) for t, share in zip(theta, won)])
