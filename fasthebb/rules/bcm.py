"""Bienenstock, Cooper and Munro's rule: a response above the unit's threshold strengthens, one below it weakens.

| rule | post | decay | norm |
|---|---|---|---|
| BCM | y(y − θ) | – | count |

The threshold θ_i slides: it is a running mean of y_i² over the steps before, so that weights that grow raise it.

E. L. Bienenstock, L. N. Cooper, P. W. Munro, "Theory for the development of neuron selectivity: orientation specificity
and binocular interaction in visual cortex", Journal of Neuroscience 2, 1982.
N. Intrator, L. N. Cooper, "Objective function formulation of the BCM theory of visual cortical plasticity: statistical
connections, stability conditions", Neural Networks 5, 1992: θ = E[y²].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fasthebb.ops import check_rate, slide, total
from fasthebb.rules.hebb import Hebb


@dataclass(frozen=True)
class BCM(Hebb):
    """ΔW_i = E[y_i (y_i − θ_i) x], θ_i a sliding mean of y_i²: every unit comes to answer to few patterns.

    θ starts at 1, the threshold at which a unit of E[y²] = 1 is. It must follow faster than the weights grow: with a
    learning rate that is large against `rate` the responses swing or diverge.

    Args:
        rate: how far θ moves a step towards the step's mean of y².

    Raises:
        ValueError: the rate is not above 0 and at most 1.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        check_rate("BCM", self.rate)

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return {"threshold": torch.ones(shape)}

    def activity(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        return (y - state["threshold"].unsqueeze(-1)).mul_(y)

    def stats(self, y: Tensor, a: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        return {"threshold": total(y.square())}

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        return {"threshold": slide(state["threshold"], stats["threshold"], count, self.rate)}
