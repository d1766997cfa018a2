"""A rule of your own in ten lines: it finds a heavy-tailed direction that principal components cannot see.

Run it with `python examples/own_rule.py`; it takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import fasthebb
from fasthebb import Oja, Rule, Terms
from fasthebb.decay import Diagonal
from fasthebb.ops import count, total


@dataclass(frozen=True)
class Tails(Rule):
    """ΔW_i = E[y_i³ (x − y_i w_i)]: unit length, along the direction in which E[y⁴] is largest."""

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:  # noqa: ARG002
        return Terms(post=y**3, decay=Diagonal(total(y**4)), norm=count(y))


def data(n: int = 4000, sources: int = 8) -> tuple[Tensor, Tensor]:
    """Samples [n, sources] of equal variance in every direction, and the one direction with heavy tails."""
    torch.manual_seed(0)
    x = torch.randn(n, sources)
    x[:, 0] = torch.distributions.Laplace(0.0, 0.5**0.5).sample((n,))
    frame, _ = torch.linalg.qr(torch.randn(sources, sources))
    return x @ frame, frame[0]


def learn(rule: Rule, x: Tensor, steps: int = 400, batch: int = 200) -> Tensor:
    """The weights [sources] of one unit after some steps."""
    torch.manual_seed(1)
    unit = nn.Linear(x.shape[1], 1, bias=False)
    hebb = fasthebb.attach(unit, rule)
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.03)
    for step in range(steps):
        with torch.no_grad():
            unit(x.roll(-step * batch, dims=0)[:batch])
        hebb.write_grad()
        optimizer.step()
    return unit.weight.detach()[0]


if __name__ == "__main__":
    x, heavy = data()
    for rule in (Oja(), Tails()):
        w = learn(rule, x)
        cosine = torch.cosine_similarity(w, heavy, dim=0).abs()
        print(f"{type(rule).__name__:5}  |cos| with the heavy-tailed direction {cosine:.2f}, length {w.norm():.2f}")
