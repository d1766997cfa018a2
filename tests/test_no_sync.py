"""No step waits for the device: on tensors without values, where asking for one raises, every rule makes its step.

That is also what lets a step be captured in a CUDA graph.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fasthebb
from fasthebb.bench.rules import every_rule
from fasthebb.models import UnitNorm

META = torch.device("meta")
RULES = {**every_rule(), "Taught": fasthebb.Taught(fasthebb.HPCA(), 3)}
LABELLED = ("Prototypes", "Taught", "Modulated")


def stepped(rule: fasthebb.Rule, *, steps: int = 2, **how: float) -> fasthebb.Hebbian:
    """A handle that has made some steps, with micro-batches, on the meta device."""
    conv = nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect", bias=False)
    model = nn.Sequential(
        conv, UnitNorm(conv), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(6), nn.Flatten(),
        nn.Linear(96, 160, bias=False), nn.Linear(160, 10),
    ).to(META)  # fmt: skip
    hebb = fasthebb.attach(model, {"7": None, "*": rule})
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.1)
    labels = torch.zeros(5, dtype=torch.int64, device=META)
    for _ in range(steps):
        for _ in range(2):
            if type(rule).__name__ in LABELLED:
                hebb.signal = labels if type(rule).__name__ != "Modulated" else labels.float()
            with torch.no_grad():
                model(torch.empty(5, 3, 8, 8, device=META))
        hebb.write_grad(**how)
        optimizer.step()
    return hebb


@pytest.mark.parametrize("name", RULES)
def test_every_rule_steps_without_a_look_at_values(name: str) -> None:
    hebb = stepped(RULES[name])
    assert all(parameter.grad is not None and parameter.grad.is_meta for parameter in hebb.parameters())


@pytest.mark.parametrize("finish", ["fan_in", "unit_norm", "tangent", "max_abs"])
def test_every_finish_does(finish: str) -> None:
    stepped(fasthebb.HPCA(finish=getattr(fasthebb.finish, finish)))


def test_a_hybrid_step_does() -> None:
    stepped(fasthebb.SoftWTA(), local=0.5, gradient=1.0)


def test_what_looks_at_values_would_be_noticed() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        stepped(fasthebb.HPCA(finish=lambda dw, w: dw * float(w.max())))
