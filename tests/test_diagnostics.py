"""What is told of units from their weights, responses and features: literal values, bounds, invariances."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy, ortho_group
from torch import Tensor, nn

from fasthebb import Oja, attach, diagnostics
from fasthebb.diagnostics import (
    broken_layer,
    cka,
    coherence,
    dead,
    dominant,
    duplicates,
    effective_rank,
    norm_converged,
    selectivity,
    sparsity,
    win_share,
    winner_entropy,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: Tensor, b: Tensor) -> float:
    lengths = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return abs(float(a @ b)) / lengths if lengths else 0.0


def family() -> Tensor:
    """Two groups of seven units, some of them twins of others, one of zeros."""
    w = normal(2, 7, 9)
    w[0, 3], w[0, 5] = -2 * w[0, 1], w[0, 1] + 0.01 * w[0, 2]
    w[1, 6], w[1, 2] = 3 * w[1, 0], 0
    return w


@pytest.mark.parametrize("block", [1, 2, 3, 512])
def test_units_are_compared_pair_by_pair(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "BLOCK", block)
    w = family()
    found, most = duplicates(w), coherence(w)
    for g, i in itertools.product(range(2), range(7)):
        assert bool(found[g, i]) == any(cosine(w[g, i], w[g, j]) >= 0.95 for j in range(i))
        assert float(most[g, i]) == pytest.approx(max(cosine(w[g, i], w[g, j]) for j in range(7) if j != i))
    assert found.sum(1).tolist() == [2, 1]
    assert torch.equal(duplicates(-1e-3 * w), found)
    assert torch.equal(duplicates(w.float()), found)


def test_coherence_of_orthogonal_and_single_units() -> None:
    assert float(coherence(torch.eye(5)[None]).max()) == 0
    assert coherence(normal(3, 1, 4)).tolist() == [[0], [0], [0]]
    assert not duplicates(normal(3, 1, 4)).any()
    simplex = (
        torch.eye(4, dtype=torch.float64) - 1 / 4
    )  # all angles alike: the least coherence of 4 units in 3 dimensions
    assert coherence(simplex[None]).flatten().tolist() == pytest.approx([1 / 3] * 4)


def test_no_more_than_a_block_of_cosines_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "BLOCK", 16)
    blocks = [cosines.shape for _, cosines in diagnostics._earlier(normal(1, 100, 3))]
    assert blocks == [(1, min(16, 100 - start), min(start + 16, 100)) for start in range(0, 100, 16)]


def test_norms_near_a_target() -> None:
    w = torch.tensor([[[1.0, 0.0], [0.0, 1.06], [0.6, 0.76], [0.0, 0.0]]])
    assert float(norm_converged(w)) == 0.5
    assert float(norm_converged(w, tolerance=0.1)) == 0.75
    assert float(norm_converged(3 * w, target=3.0)) == 0.5


def test_effective_rank_is_that_of_the_singular_values() -> None:
    for shape in ((6, 4), (4, 6), (5, 5)):
        matrix = normal(*shape)
        singular = np.linalg.svd(matrix.numpy(), compute_uv=False)
        assert float(effective_rank(matrix)) == pytest.approx(math.exp(entropy(singular)), rel=1e-9)
        assert 1 < float(effective_rank(matrix)) < min(shape)
        assert float(effective_rank(-7 * matrix.mT)) == pytest.approx(float(effective_rank(matrix)), rel=1e-9)
    stacked = normal(3, 6, 4)
    assert effective_rank(stacked).tolist() == pytest.approx([float(effective_rank(matrix)) for matrix in stacked])


def test_effective_rank_between_one_and_all() -> None:
    assert float(effective_rank(torch.eye(5, 9))) == pytest.approx(5)
    assert float(effective_rank(normal(8, 1) @ normal(1, 6, seed=1))) == pytest.approx(1, rel=1e-6)
    assert float(effective_rank(torch.zeros(3, 4))) == 0
    assert effective_rank(torch.eye(3).half()).dtype == torch.float32


def test_win_share_counts_in_groups() -> None:
    y = torch.zeros(2, 2, 3, 4)  # [N, G, C, L]
    y[0, 0, 1] = 1
    y[1, 0, 2] = 1
    y[:, 1, 2, 0] = 1
    y[:, 1, 1, 1:] = 1
    assert win_share(y).tolist() == [0, 0.5, 0.5, 0, 0.75, 0.25]
    assert win_share(torch.ones(3, 1, 4, 5)).tolist() == [1, 0, 0, 0], "of equals the first"
    assert dominant(win_share(y), 0.5).tolist() == [False] * 4 + [True, False]


def test_the_dead_never_respond() -> None:
    y = -normal(4, 2, 3, 5).abs()
    y[:, 0, 0] = 0
    assert dead(y).all()
    y[2, 0, 1, 4] = y[1, 1, 2, 0] = 1e-9
    assert dead(y).tolist() == [[True, False, True], [True, True, False]]


def test_winner_entropy_is_a_share_of_that_of_equal_use() -> None:
    shares = torch.tensor([[0.5, 0.25, 0.25, 0.0], [3.0, 3.0, 3.0, 3.0], [0.0, 2.0, 0.0, 0.0]], dtype=torch.float64)
    want = [entropy([0.5, 0.25, 0.25]) / math.log(4), 1, 0]
    assert winner_entropy(shares).tolist() == pytest.approx(want)
    assert winner_entropy(shares[:1].flip(1)).tolist() == pytest.approx(want[:1])
    assert math.isnan(winner_entropy(torch.zeros(3)))
    assert math.isnan(winner_entropy(torch.ones(1)))


def test_sparsity_is_hoyers() -> None:
    a = normal(4, 9)
    for row, found in zip(a.tolist(), sparsity(a).tolist()):
        ratio = sum(map(abs, row)) / math.sqrt(sum(value * value for value in row))
        assert found == pytest.approx((math.sqrt(9) - ratio) / (math.sqrt(9) - 1))
        assert 0 < found < 1
    assert torch.allclose(sparsity(-5 * a), sparsity(a))
    assert torch.allclose(sparsity(a.mT, dim=0), sparsity(a))


def test_sparsity_between_none_and_one() -> None:
    rows = torch.tensor([[2.0, -2.0, 2.0, 2.0], [0.0, 0.0, -3.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert sparsity(rows).tolist() == [0, 1, 1]
    assert sparsity(rows[:, :1]).tolist() == [1, 1, 1]


def test_selectivity_compares_classes() -> None:
    features, labels = normal(30, 5).relu(), torch.tensor([7, 0, 7, 2, 0, 7] * 5)
    found = selectivity(features, labels)
    for unit in range(5):
        means = sorted(float(np.mean(features[labels == label, unit].numpy())) for label in (0, 2, 7))
        rest = (means[0] + means[1]) / 2
        assert float(found[unit]) == pytest.approx((means[2] - rest) / (means[2] + rest))
    assert torch.allclose(selectivity(3 * features, labels), found)
    one = torch.stack([(labels == 2).double(), torch.ones(30), torch.zeros(30), -features[:, 0]], dim=1)
    assert selectivity(one, labels).tolist() == pytest.approx([1, 0, 0, 0], abs=1e-12)
    with pytest.raises(ValueError, match="labels of 1 class: selectivity compares classes"):
        selectivity(features, torch.zeros(30))


@pytest.mark.parametrize(("m", "f", "g"), [(40, 3, 5), (6, 30, 20), (9, 30, 2)])
def test_cka_is_that_of_gram_matrices(m: int, f: int, g: int) -> None:
    a, b = normal(m, f), normal(m, g, seed=1)
    centre = torch.eye(m, dtype=torch.float64) - 1 / m
    k, other = centre @ a @ a.mT @ centre, centre @ b @ b.mT @ centre  # HSIC with linear kernels
    want = torch.trace(k @ other) / torch.sqrt(torch.trace(k @ k) * torch.trace(other @ other))
    assert float(cka(a, b)) == pytest.approx(float(want))
    assert float(cka(b, a)) == pytest.approx(float(want))
    assert 0 < float(want) < 1
    turn = torch.from_numpy(ortho_group.rvs(f, random_state=0))
    assert float(cka(2 * a @ turn + 3, b)) == pytest.approx(float(want))
    assert float(cka(a @ turn, a)) == pytest.approx(1)


def test_cka_of_uncorrelated_and_constant_features() -> None:
    waves = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(cka(waves[:, :1], waves[:, 1:])) == 0
    assert float(cka(waves, torch.ones(4, 3))) == 0


def test_cka_builds_no_matrix_of_images_where_features_are_fewer() -> None:
    m = 200_000  # images: [M, M] would take 320 GB
    a = normal(m, 3).float()
    assert float(cka(a, torch.cat([a, a[:, :1]], dim=1))) > 0.9


def test_the_summary_tells_of_norms_and_of_twins_if_asked() -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 1, groups=2, bias=False), nn.Flatten(), nn.Linear(6, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 4], [6, 8], [4, -3], [0, 1], [1, 0], [0, -2]])[..., None, None])
        model[2].weight.copy_(torch.eye(6)[:2])
    hebb = attach(model, Oja())
    plain, compared = hebb.summary(), hebb.summary(compare=True)
    assert [row.unit_norms for row in plain.rows] == [(1, 10), (1, 1)]
    assert plain.rows[0].weight_norm == pytest.approx(float(model[0].weight.detach().norm()))
    assert [[row.twins for row in summary.rows] for summary in (plain, compared)] == [[None, None], [2, 0]]
    assert "twins" not in str(plain)
    conv, linear = [[cell.strip() for cell in line.split("│")] for line in str(compared).splitlines() if "Oja" in line]
    assert (conv[4:9], linear[4:9]) == (["6", "2", "–", "2", "1–10"], ["2", "6", "–", "0", "1"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_broken_layer_is_the_first(value: float) -> None:
    good, bad = torch.zeros(3), torch.tensor([0.0, value])
    assert broken_layer({"a.b.weight": good, "a.b.steps": torch.tensor(3), "c.weight": good}) is None
    assert broken_layer({"a.weight": good, "b.c.bias": bad, "d.weight": bad}) == "b.c"
    assert broken_layer({"weight": bad}) == ""
