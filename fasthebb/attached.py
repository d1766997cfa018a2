"""One attached layer: what it is, its rule and memory, and what the last step did to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from fasthebb.layers import Attachable, Units
from fasthebb.ops import reciprocal
from fasthebb.rules.base import Rule
from fasthebb.summary import Row
from fasthebb.update import Call, Sums, accumulate, delta


@dataclass(eq=False)
class Layer:
    """A layer with a rule.

    Attributes:
        state: what the rule remembers.
        calls: forwards in training mode since the last step.
        dead: number of units of norm 0 in the last step, []; None before it.
        update: ‖ΔW‖ of the last step, []; None before it.
    """

    name: str
    module: Attachable
    units: Units
    rule: Rule
    state: dict[str, Tensor] = field(init=False)
    calls: int = 0
    dead: Tensor | None = None
    update: Tensor | None = None

    def __post_init__(self) -> None:
        self.state = self.rule.init_state(self.units.shape[:2])

    @property
    def weight(self) -> nn.Parameter:
        """The weight that the rule trains."""
        return cast("nn.Parameter", self.module.weight)

    def listen(self, sums: Sums, x: Tensor, out: Tensor, signal: Tensor | None) -> None:
        """Add one call with input x and output out, as the layer saw them, to its sums."""
        x, out = self.units.batched(x), self.units.batched(out)
        accumulate(
            sums, self.rule, Call(self.units, x, out, self.weight.detach(), self.module.bias, signal), self.state
        )
        self.calls += 1

    def write(self, sums: Sums, scale: float, keep: float) -> None:
        """grad ← scale·ΔW + keep·grad, in place where the gradient can be seen as [G, C, K]."""
        weight = self.weight
        if weight.grad is None:
            weight.grad, keep = torch.empty_like(weight), 0.0
        w = self.units.weight(weight.detach().to(sums.numerator.dtype))
        view = self.units.weight(weight.grad)
        direct = not keep and view.data_ptr() == weight.grad.data_ptr() and view.dtype == w.dtype
        dw = view if direct else torch.empty_like(w)
        norm = delta(sums, w, self.rule.finish, dw, scale)
        if not direct:
            folded = self.units.fold(dw)
            weight.grad.mul_(keep).add_(folded) if keep else weight.grad.copy_(folded)
        self.update = norm / abs(scale) if scale else norm
        self.dead = (reciprocal(sums.norm) == 0).sum()

    def remember(self, sums: Sums, broken: Tensor) -> None:
        """Move the rule's memory on by one step, unless the step was broken []."""
        stats = {name: value.clone() for name, value in sums.stats.items()}
        memory = self.rule.next_state(self.state, stats, sums.count.clone())
        self.state = {name: torch.where(broken, self.state[name], value) for name, value in memory.items()}

    def row(self) -> Row:
        """The layer's row of the summary."""
        return Row(
            name=self.name,
            kind=type(self.module).__name__,
            rule=repr(self.rule),
            units=self.units.shape[0] * self.units.shape[1],
            fan_in=self.units.shape[2],
            dead=None if self.dead is None else int(self.dead),
            weight_norm=float(self.weight.detach().norm()),
            update_norm=None if self.update is None else float(self.update),
        )


def sum_dtype(weight: Tensor) -> torch.dtype:
    """What a layer's updates are summed in: at least float32."""
    return torch.promote_types(weight.dtype, torch.float32)
