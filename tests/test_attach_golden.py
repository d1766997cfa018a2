"""The authors' own updates, through attach, forward and write_grad: whole, and in two micro-batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cases import error, learned
from torch import nn

import fasthebb
from fasthebb import finish

GOLDEN = Path(__file__).parent / "golden"
RULES = {
    "hpca": fasthebb.HPCA("relu"),
    "hpca_tanh": fasthebb.HPCA("tanh"),
    "swta": fasthebb.SoftWTA(temperature=0.02),
    "pswta": fasthebb.SoftWTA(temperature=0.05, competition="power"),
    "wta1": fasthebb.HardWTA(),
    "wta5": fasthebb.KWTA(5),
    "ica": fasthebb.ICA(),
    "hica": fasthebb.HICA(),
}


def cases() -> list[tuple[str, str]]:
    """Every file and case."""
    found = set()
    for file in ("fasthebb.npz", "ica.npz"):
        with np.load(GOLDEN / file) as arrays:
            found |= {(file, key.rsplit("/", 1)[0]) for key in arrays}
    return sorted(found)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("file", "case"), cases())
def test_equals_the_authors_update(file: str, case: str, parts: int) -> None:
    with np.load(GOLDEN / file) as arrays:
        x, w, dw = (torch.from_numpy(arrays[f"{case}/{field}"]) for field in ("x", "w", "dw"))
    layer = nn.Conv2d(w.shape[1], w.shape[0], w.shape[2:], bias=False).double()
    layer.weight.data.copy_(w)
    rule = RULES[case.split("/")[0]]
    assert error(learned(rule, layer, *x.chunk(parts)), dw) <= 1e-9
    if x.shape[2:] == (1, 1):
        dense = nn.Linear(w.shape[1], w.shape[0], bias=False).double()
        dense.weight.data.copy_(w.flatten(1))
        assert error(learned(rule, dense, *x.flatten(1).chunk(parts)), dw.flatten(1)) <= 1e-9


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("number", [0, 1])
def test_equals_the_authors_softhebb(number: int, parts: int) -> None:
    with np.load(GOLDEN / "softhebb.npz") as arrays:
        case = {key.rsplit("/", 1)[1]: torch.from_numpy(arrays[key]) for key in arrays if f"softhebb/{number}/" in key}
    x, w, padding = case["x"], case["w"], int(case["reflect_padding"])
    layer = nn.Conv2d(w.shape[1], w.shape[0], w.shape[2:], padding=padding, padding_mode="reflect", bias=False).double()
    layer.weight.data.copy_(w)
    assert error(layer(x).detach(), case["u"]) <= 1e-9
    rule = fasthebb.SoftHebb(1 / float(case["inverse_temperature"]), finish=finish.max_abs)
    assert error(learned(rule, layer, *x.chunk(parts)), case["dw_over_max"]) <= 1e-9


def test_every_case_is_there() -> None:
    assert {case.split("/")[0] for _, case in cases()} == set(RULES)
    assert len(cases()) == 24
