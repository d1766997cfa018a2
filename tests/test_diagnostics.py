"""What is told of units from their responses and weights."""

from __future__ import annotations

import pytest
import torch

from fasthebb.diagnostics import broken_layer, win_share


def test_win_share_counts_in_groups() -> None:
    y = torch.zeros(2, 2, 3, 4)  # [N, G, C, L]
    y[0, 0, 1] = 1
    y[1, 0, 2] = 1
    y[:, 1, 2, 0] = 1
    y[:, 1, 1, 1:] = 1
    assert win_share(y).tolist() == [0, 0.5, 0.5, 0, 0.75, 0.25]
    assert win_share(torch.ones(3, 1, 4, 5)).tolist() == [1, 0, 0, 0], "of equals the first"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_broken_layer_is_the_first(value: float) -> None:
    good, bad = torch.zeros(3), torch.tensor([0.0, value])
    assert broken_layer({"a.b.weight": good, "a.b.steps": torch.tensor(3), "c.weight": good}) is None
    assert broken_layer({"a.weight": good, "b.c.bias": bad, "d.weight": bad}) == "b.c"
    assert broken_layer({"weight": bad}) == ""
