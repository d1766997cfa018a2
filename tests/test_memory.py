"""Peak memory of this process, since it was reset."""

from __future__ import annotations

import pytest
import torch

from fasthebb.memory import peak_bytes, reset_peak, resident_bytes


def test_a_peak_outlives_its_tensor_until_it_is_reset() -> None:
    if not reset_peak():
        pytest.skip("this system cannot reset the peak")
    before, size = peak_bytes(), 96 * 2**20
    assert abs(before - resident_bytes()) < 16 * 2**20
    torch.ones(size, dtype=torch.uint8)
    assert before + 0.9 * size < peak_bytes() < before + 1.3 * size
    assert reset_peak()
    assert peak_bytes() < before + 0.5 * size


def test_a_peak_there_always_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> int:
        raise FileNotFoundError

    monkeypatch.setattr("fasthebb.memory._status", missing)
    assert peak_bytes() > 2**20
    assert not reset_peak()
