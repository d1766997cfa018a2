"""The covariance rule: what exceeds a unit's mean response strengthens, what falls short of it weakens.

| rule | post | decay | norm |
|---|---|---|---|
| Covariance | y − ȳ | – | count |

ȳ is a running mean of y over the steps before. E[(y − ȳ) x] is E[(y − ȳ)(x − x̄)] as soon as ȳ = E[y].

T. J. Sejnowski, "Storing covariance with nonlinearly interacting neurons", Journal of Mathematical Biology 4, 1977.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fasthebb.ops import check_rate, slide, total
from fasthebb.rules.hebb import Hebb


@dataclass(frozen=True)
class Covariance(Hebb):
    """ΔW_i = E[(y_i − ȳ_i) x], ȳ_i a sliding mean of y_i: Hebb's rule on centred data; it does not bound the weights.

    ȳ starts at 0.

    Args:
        rate: how far ȳ moves a step towards the step's mean of y.

    Raises:
        ValueError: the rate is not above 0 and at most 1.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        check_rate("Covariance", self.rate)

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return {"mean": torch.zeros(shape)}

    def activity(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        return y - state["mean"].unsqueeze(-1)

    def stats(self, y: Tensor, a: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        return {"mean": total(y)}

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        return {"mean": slide(state["mean"], stats["mean"], count, self.rate)}
