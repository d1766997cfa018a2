"""The reference against updates computed by the authors' public code: tests/golden/*.npz."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reference import update
from reference.finishes import max_abs
from reference.hebb import Rule
from reference.ica import hica, ica
from reference.instar import hard_wta, k_wta, soft_wta
from reference.patches import patches, unit_weights
from reference.pca import hpca
from reference.responses import Response, dot, raised_cosine
from reference.softhebb import softhebb
from reference.update import respond

GOLDEN = Path(__file__).parents[1] / "golden"
RULES: dict[str, tuple[Rule, Response]] = {
    "hpca": (hpca(torch.relu), dot),
    "hpca_tanh": (hpca(torch.tanh), dot),
    "swta": (soft_wta(0.02), raised_cosine(2.0)),
    "pswta": (soft_wta(0.05, competition="power"), raised_cosine(2.0)),
    "wta1": (hard_wta, raised_cosine(2.0)),
    "wta5": (k_wta(5), raised_cosine(2.0)),
    "ica": (ica, dot),
    "hica": (hica, dot),
}


def load(name: str) -> dict[str, dict[str, Tensor]]:
    """Return the cases of one file: "rule/number" -> field -> array."""
    cases: dict[str, dict[str, Tensor]] = {}
    with np.load(GOLDEN / name) as arrays:
        for key in arrays.files:
            case, field = key.rsplit("/", 1)
            cases.setdefault(case, {})[field] = torch.from_numpy(arrays[key])
    return cases


def convolution(weight: Tensor, padding: int = 0) -> nn.Conv2d:
    units, channels, *kernel = weight.shape
    layer = nn.Conv2d(channels, units, kernel, padding=padding, padding_mode="reflect", bias=False, dtype=weight.dtype)
    layer.weight.data.copy_(weight)
    return layer


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


CASES = {**load("fasthebb.npz"), **load("ica.npz")}
SOFTHEBB = load("softhebb.npz")


def test_all_cases_are_known() -> None:
    assert {case.split("/")[0] for case in CASES} == set(RULES)
    assert len(CASES) == 3 * len(RULES)


@pytest.mark.parametrize("case", CASES)
def test_update(case: str) -> None:
    golden = CASES[case]
    rule, response = RULES[case.split("/")[0]]
    dw = update(convolution(golden["w"]), golden["x"], rule, response=response)
    assert distance(dw, golden["dw"]) <= 1e-9


@pytest.mark.parametrize("case", SOFTHEBB)
def test_softhebb(case: str) -> None:
    golden = SOFTHEBB[case]
    layer = convolution(golden["w"], int(golden["reflect_padding"]))
    rule = softhebb(1 / float(golden["inverse_temperature"]))
    assert distance(update(layer, golden["x"], rule, finish=max_abs), golden["dw_over_max"]) <= 1e-9

    [seen], [w] = patches(layer, golden["x"]), unit_weights(layer)
    u = golden["u"].flatten(2).transpose(1, 2).reshape(-1, len(w))  # [N, C, L] -> [N·L, C]
    assert distance(respond(seen, w, dot), u) <= 1e-9
