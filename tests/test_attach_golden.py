"""The authors' own updates, through attach, forward and write_grad: whole, and in two micro-batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cases import error, learned
from torch import nn

import fasthebb

GOLDEN = Path(__file__).parent / "golden"
RULES = {
    "hpca": fasthebb.HPCA("relu"),
    "hpca_tanh": fasthebb.HPCA("tanh"),
    "swta": fasthebb.SoftWTA(temperature=0.02),
    "pswta": fasthebb.SoftWTA(temperature=0.05, competition="power"),
    "wta1": fasthebb.HardWTA(),
    "wta5": fasthebb.KWTA(5),
}


def cases() -> list[str]:
    with np.load(GOLDEN / "fasthebb.npz") as arrays:
        return sorted({key.rsplit("/", 1)[0] for key in arrays})


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("case", cases())
def test_equals_the_authors_update(case: str, parts: int) -> None:
    with np.load(GOLDEN / "fasthebb.npz") as arrays:
        x, w, dw = (torch.from_numpy(arrays[f"{case}/{field}"]) for field in ("x", "w", "dw"))
    layer = nn.Conv2d(w.shape[1], w.shape[0], w.shape[2:], bias=False).double()
    layer.weight.data.copy_(w)
    rule = RULES[case.split("/")[0]]
    assert error(learned(rule, layer, *x.chunk(parts)), dw) <= 1e-9
    if x.shape[2:] == (1, 1):
        dense = nn.Linear(w.shape[1], w.shape[0], bias=False).double()
        dense.weight.data.copy_(w.flatten(1))
        assert error(learned(rule, dense, *x.flatten(1).chunk(parts)), dw.flatten(1)) <= 1e-9


def test_every_case_is_there() -> None:
    assert {case.split("/")[0] for case in cases()} == set(RULES)
    assert len(cases()) == 18
