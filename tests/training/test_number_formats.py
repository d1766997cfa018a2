"""Number formats: what is switched for the whole process goes back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fasthebb.training.precision import calculate_in


def switches() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("cudnn", [True, False])
def test_other_nets_are_not_in_tensorfloat(cudnn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", cudnn)
    before = switches()
    calculate_in(nn.Linear(2, 2), "fp32")
    assert switches() == before
    for _ in range(2):
        calculate_in(nn.Linear(2, 2), "tf32")
    assert switches() == ("high", True)
    calculate_in(nn.Linear(2, 2), "fp32")
    assert switches() == before
    torch.set_float32_matmul_precision("high")  # of the user's own
    calculate_in(nn.Linear(2, 2), "fp32")
    assert switches() == ("high", cudnn)
    torch.set_float32_matmul_precision(before[0])
