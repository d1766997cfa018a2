"""A small net of a convolution and a Linear layer, its images and its updates; and a rule with memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from cases import error
from torch import Tensor, nn

import fasthebb
from fasthebb.ops import count, total

RULES = {"conv": fasthebb.SoftWTA(0.02), "fc": fasthebb.Oja()}


@dataclass(frozen=True)
class Centred(fasthebb.Rule):
    """Hebb on what exceeds a running mean of y; also counts its steps, in a scalar."""

    momentum: float = 0.25

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return {"mean": torch.zeros(shape), "steps": torch.zeros(())}

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> fasthebb.Terms:
        return fasthebb.Terms(y - state["mean"].unsqueeze(-1), None, count(y), {"mean": total(y)})

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        mean = torch.lerp(state["mean"], stats["mean"] / count, self.momentum)
        return {"mean": mean, "steps": state["steps"] + (count > 0)}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    conv, fc = nn.Conv2d(3, 6, 3, bias=False), nn.Linear(6 * 16, 10, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, act=nn.ReLU(), flat=nn.Flatten(), fc=fc)).double()


def images(n: int = 4, seed: int = 1) -> Tensor:
    """Images [n, 3, 6, 6] in float64, smooth enough to have something to learn."""
    noise = torch.randn(n, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return noise.cumsum(dim=2).cumsum(dim=3) / 3


def written(model: nn.Module) -> dict[str, Tensor]:
    """The gradients there are."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def grads(
    model: nn.Module, *batches: Tensor, rules: fasthebb.Rule | Mapping[str, fasthebb.Rule | None] = RULES
) -> dict[str, Tensor]:
    """What a fresh handle writes for these batches."""
    hebb = fasthebb.attach(model, rules)
    with torch.no_grad():
        for x in batches:
            model(x)
    hebb.write_grad()
    hebb.detach()
    return written(model)


def same(got: Mapping[str, Tensor], want: Mapping[str, Tensor], tolerance: float = 1e-12) -> bool:
    """Whether two sets of gradients are equal to rounding."""
    return got.keys() == want.keys() and all(error(got[name], want[name]) <= tolerance for name in want)
