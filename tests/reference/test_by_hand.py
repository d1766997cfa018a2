"""Every rule, response and finish on examples small enough to compute by hand: two samples, two units."""

import math

import pytest
import torch
from torch import Tensor, nn

from reference import update
from reference.bcm import bcm
from reference.finishes import Finish, chain, fan_in, max_abs, norm_rate, tangent, unit_norm
from reference.hebb import Rule, hebb, oja
from reference.ica import hica, ica
from reference.instar import hard_wta, k_wta, soft_wta
from reference.krotov import krotov
from reference.pca import hpca, subspace
from reference.responses import angular, cosine, dot, lebesgue, projection, raised_cosine, rbf
from reference.softhebb import softhebb


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


X = matrix([1, 2], [3, -1])
W = matrix([1, 0], [0, 2])
Y = matrix([1, 4], [3, -2])  # X · W
LOG3 = math.log(3)
QUARTERS = matrix([0, LOG3], [0, 0])  # softmax: 1/4 3/4, then 1/2 1/2


def assert_update(rule: Rule, y: Tensor, *expected: list[float]) -> None:
    torch.testing.assert_close(rule(X, W, y), matrix(*expected), rtol=1e-12, atol=1e-12)


def test_hebb() -> None:
    assert_update(hebb, Y, [5, -0.5], [-1, 5])


def test_oja() -> None:
    assert_update(oja, Y, [0, -0.5], [-1, -15])


def test_subspace() -> None:
    assert_update(subspace, Y, [0, 1.5], [0, -15])


def test_hpca() -> None:
    assert_update(hpca(lambda s: s), Y, [0, -0.5], [0, -15])
    assert_update(hpca(torch.relu), Y, [0, -0.5], [0, -12])


def test_hard_wta() -> None:
    assert_update(hard_wta, Y, [2, -1], [1, 0])


def test_ties_all_win() -> None:
    assert_update(hard_wta, matrix([1, 1], [3, -2]), [1, 0.5], [1, 0])


def test_a_unit_that_never_wins_stays() -> None:
    assert_update(hard_wta, matrix([2, 1], [3, -2]), [1, 0.5], [0, 0])


@pytest.mark.parametrize("k", [2, 5])
def test_k_wta_in_which_all_win(k: int) -> None:
    assert_update(k_wta(k), Y, [1, 0.5], [2, -1.5])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_soft_wta(temperature: float) -> None:
    y = QUARTERS * temperature
    assert_update(soft_wta(temperature), y, [2 / 3, -1 / 6], [1.05, -0.6])
    assert_update(soft_wta(temperature, average="plain"), y, [4 / 3, 0], [1.8, -1.2])


def test_power_wta() -> None:
    y = matrix([1, math.sqrt(3)], [1, 1])
    assert_update(soft_wta(0.5, competition="power"), y, [2 / 3, -1 / 6], [1.05, -0.6])
    y = matrix([1, math.sqrt(3)], [0, 0])
    assert_update(soft_wta(0.5, competition="power"), y, [0, 0.5], [0.75, 0])


def test_soft_wta_of_large_responses() -> None:
    assert_update(soft_wta(1e-3), 1e6 * Y, [2, -1], [1, 0])


def test_ica() -> None:
    a = math.atanh(0.5)
    s = matrix([a, a], [0, a])
    assert_update(ica, s, [1 - a / 4, -a / 2], [-a / 4, 2 - a])
    assert_update(hica, s, [1 - a / 4, 0], [-a / 4, 2 - a])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_softhebb(temperature: float) -> None:
    u = LOG3 * temperature
    expected = [1 - 0.375 * u, -0.625], [0, 0.875 - 0.75 * u]
    assert_update(softhebb(temperature), matrix([0, u], [u, 0]), *expected)


def test_softhebb_has_one_winner() -> None:
    assert_update(softhebb(), matrix([0, 0], [0, 0]), [1, 0.25], [-1, -0.25])


def test_krotov() -> None:
    assert_update(krotov(delta=0.5), Y, [0, -1], [-0.25, -3.75])
    assert_update(krotov(delta=0.5, k=3), Y, [0, -0.5], [0.5, -3])


def test_bcm() -> None:
    assert_update(bcm(torch.tensor([2.0, 1.0])), Y, [4, -2.5], [15, 9])


def test_responses() -> None:
    x, w, zero = torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    assert dot(x, w) == 8
    assert projection(x, w) == 4
    assert projection(x, zero) == 0
    assert cosine(x, w) == pytest.approx(0.8)
    assert cosine(x, zero) == cosine(zero, w) == 0
    assert raised_cosine(2.0)(x, w) == pytest.approx(0.81)
    assert raised_cosine(0.5)(x, -x) == 0
    assert angular(x, w) == pytest.approx(1 - math.acos(0.8) / math.pi)
    assert angular(x, zero) == 0.5
    assert lebesgue(3)(x, torch.tensor([-1.0, 2.0])) == 13
    assert lebesgue(2)(x, w) == dot(x, w)
    assert rbf(2.0)(x, torch.tensor([3.0, 2.0])) == pytest.approx(math.exp(-0.5))


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        (fan_in, ([[3 / math.sqrt(2), 4 / math.sqrt(2)], [0, 0]], [[0, -8 / math.sqrt(2)]])),
        (unit_norm, ([[0.6, 0.8], [0, 0]], [[0, -1]])),
        (tangent, ([[0, 4], [0, 0]], [[0, -8]])),
        (max_abs, ([[3 / 8, 0.5], [0, 0]], [[0, -1]])),
        (norm_rate(0.5, 2), ([[1.5, 2], [0, 0]], [[0, -4]])),
        (chain(max_abs, norm_rate(0.5, 2)), ([[3 / 16, 0.25], [0, 0]], [[0, -0.5]])),
    ],
)
def test_finishes(finish: Finish, expected: tuple[list[list[float]], ...]) -> None:
    dw = [matrix([3, 4], [0, 0]), matrix([0, -8])]
    w = [matrix([2, 0], [1, 1]), matrix([0, 0])]
    for group, rows in zip(finish(dw, w), expected, strict=True):
        torch.testing.assert_close(group, matrix(*rows))


def test_max_abs_of_nothing() -> None:
    assert torch.equal(max_abs([torch.zeros(2, 2)], [torch.ones(2, 2)])[0], torch.zeros(2, 2))


def test_update_of_a_layer() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.data = W.float()
    layer.bias.data.fill_(100.0)
    assert update(layer, X.float(), hebb).tolist() == [[5, -0.5], [-1, 5]]
    assert update(layer, X.float(), hebb, response=projection).tolist() == [[5, -0.5], [-0.5, 2.5]]
    assert update(layer, X.float(), hebb, finish=max_abs).tolist() == [[1, -0.1], [-0.2, 1]]
    assert torch.equal(layer.weight, W.float())


def test_groups_learn_apart_and_are_finished_together() -> None:
    layer = nn.Conv1d(2, 2, 1, groups=2, bias=False)
    layer.weight.data = torch.tensor([[[1.0]], [[2.0]]])
    x = torch.tensor([[[1.0, 3.0], [2.0, -1.0]]])  # responses 1 3, then 4 -2
    rules = [bcm(torch.tensor([2.0])), bcm(torch.tensor([1.0]))]
    assert update(layer, x, rules).flatten().tolist() == [4, 9]  # (−1 + 9)/2, (24 − 6)/2
    assert update(layer, x, rules, finish=max_abs).flatten().tolist() == [4 / 9, 1]
