"""What never matters: the order of a batch; and but for rules whose units have an order, the order of the units."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from cases import LAYERS, RULES, SIGNALS, RuleCase, SignalCase, error, learned, make
from torch import Tensor, nn

import fasthebb
from fasthebb import competition

ORDERED = ("HPCA", "HICA", "WeightedSubspace", "SOM", "Prototypes", "Taught", "Abstaining")  # by their unit's index
BATCHES = [case for case in LAYERS if case.name in ("linear-wide", "linear-sequence", "conv2d-groups", "convT1d")]
LINEAR = [case for case in LAYERS if case.name in ("linear", "linear-wide")]

pytestmark = pytest.mark.filterwarnings("ignore:No rule trains a bias")


def order(n: int) -> Tensor:
    """A permutation that moves everything."""
    return torch.arange(n).roll(1)


def insides(rule: object) -> Iterator[object]:
    """A rule, and the rules and competitions in it."""
    yield rule
    for inner in vars(rule).values():
        if isinstance(inner, fasthebb.Rule | competition.Competition):
            yield from insides(inner)


def ordered(rule: fasthebb.Rule) -> bool:
    return any(type(inner).__name__ in ORDERED for inner in insides(rule))


def update(rule: RuleCase | SignalCase, module: nn.Module, x: Tensor, new: Tensor | None = None) -> Tensor:
    """ΔW of a batch, in a new order if there is one, its signal with it."""
    signals = [rule.signal(len(x))] if isinstance(rule, SignalCase) else []
    if new is not None:
        x, signals = x[new], [signal[new] for signal in signals]
    return learned(rule.rule, module, x, signals=signals)


@pytest.mark.parametrize("rule", [*RULES, *SIGNALS], ids=lambda case: case.name)
def test_the_order_of_a_batch_never_matters(rule: RuleCase | SignalCase) -> None:
    moved = False
    for layer in BATCHES:
        module, x = make(layer)
        want = update(rule, module, x)
        moved |= bool(want.any())
        assert error(update(rule, module, x, order(len(x))), want) <= 1e-10
    assert moved


@pytest.mark.parametrize("rule", [*RULES, *SIGNALS], ids=lambda case: case.name)
def test_the_order_of_units_matters_only_where_a_rule_says_so(rule: RuleCase | SignalCase) -> None:
    distances = []
    for layer in LINEAR:
        module, x = make(layer)
        new = order(len(module.weight))
        want = update(rule, module, x)[new]
        module.weight.data = module.weight.data[new]
        if module.bias is not None:
            module.bias.data = module.bias.data[new]
        distances.append(error(update(rule, module, x), want))
    assert max(distances) > 1e-3 if ordered(rule.rule) else max(distances) <= 1e-10
