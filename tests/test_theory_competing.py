"""Rules whose units compete: lengths go where the fixed points say, and directions to the centroids of k-means."""

from __future__ import annotations

import pytest
import torch
from cases import error, learned
from sklearn.cluster import KMeans
from sklearn.metrics import homogeneity_score
from torch import Tensor, nn

import fasthebb
from fasthebb import HardWTA, Instar, Krotov, SoftHebb, SoftWTA
from fasthebb.competition import Hard
from fasthebb.finish import Chain, NormRate, max_abs
from fasthebb.response import RBF, Angular, Cosine, Dot, Euclidean, Lebesgue, Projection, RaisedCosine
from fasthebb.rules import Oja

BLOBS = 5


def blobs(n: int = 500) -> tuple[Tensor, Tensor]:
    """Clusters of unit vectors [n, 8] around orthogonal directions, and which one each belongs to."""
    torch.manual_seed(3)
    centres = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))[0][:BLOBS]
    member = torch.arange(n) % BLOBS
    x = centres[member] + 0.12 * torch.randn(n, 8, dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True), member


def shells(n: int = 400) -> tuple[Tensor, Tensor]:
    """Clusters [n, 6] in two directions, two along each: directions alone cannot tell these apart."""
    torch.manual_seed(4)
    axes = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    centres = torch.stack([axes[0], 3 * axes[0], axes[1], 3 * axes[1]])
    member = torch.arange(n) % 4
    return centres[member] + 0.15 * torch.randn(n, 6, dtype=torch.float64), member


def centroids(x: Tensor, start: Tensor) -> Tensor:
    """scikit-learn's k-means from these starting points."""
    return torch.from_numpy(KMeans(len(start), init=start.numpy(), n_init=1, tol=0).fit(x.numpy()).cluster_centers_)


def dense(w: Tensor) -> nn.Linear:
    layer = nn.Linear(*reversed(w.shape), bias=False).double()
    layer.weight.data.copy_(w)
    return layer


def trained(w: Tensor, rule: fasthebb.Rule, x: Tensor, lr: float, steps: int) -> Tensor:
    """Weights after some steps with the whole data each."""
    layer = dense(w)
    for _ in range(steps):
        layer.weight.data += lr * learned(rule, layer, x)
    return layer.weight.detach()


def rates(y: Tensor, temperature: float) -> Tensor:
    """E[c·y] of every unit, for responses y [M, C]: above 0 the length 1 is stable, below 0 it is not."""
    r = torch.softmax(y / temperature, dim=1)
    wins = torch.nn.functional.one_hot(y.argmax(dim=1), y.shape[1])
    return ((2 * wins - 1) * r * y).mean(dim=0)


def test_a_softhebb_unit_grows_below_and_shrinks_above_length_1() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(300, 6, dtype=torch.float64), torch.randn(7, 6, dtype=torch.float64)
    w *= torch.linspace(0.2, 2, 7)[:, None] / w.norm(dim=1, keepdim=True)
    grown = (learned(SoftHebb(0.5), dense(w), x) * w).sum(dim=1)
    pull = rates(x @ w.T, 0.5)
    assert error(grown, pull * (1 - w.square().sum(dim=1))) <= 1e-12
    assert (pull > 0).any()
    assert (pull < 0).any()  # such a unit leaves the length 1


@pytest.mark.parametrize("length", [0.2, 1.0, 3.0])
@pytest.mark.parametrize(
    ("finish", "lr", "steps"),
    [(None, 1.0, 400), (NormRate(1.0, 0.5), 1.0, 800), (Chain((max_abs, NormRate(0.1, 0.5))), 1.0, 800)],
    ids=["plain", "rate", "published"],
)
def test_softhebb_ends_at_length_1_in_one_blob_each(length: float, finish: object, lr: float, steps: int) -> None:
    x, member = blobs()
    w = length * x[:BLOBS]
    end = trained(w, SoftHebb(0.2, finish=finish), x, lr, steps)
    assert (rates(x @ end.T, 0.2) > 0).all()
    assert (end.norm(dim=1) - 1).abs().max() <= 0.02
    assert torch.equal((x @ end.T).argmax(dim=1), member)


@pytest.mark.parametrize("seed", range(3))
def test_softhebb_winners_tell_the_blobs_apart(seed: int) -> None:
    x, member = blobs()
    torch.manual_seed(seed)
    w = torch.randn(16, 8, dtype=torch.float64)
    for weights, well in ((w, False), (trained(w, SoftHebb(), x, 0.5, 400), True)):
        winner = (x @ weights.T).argmax(dim=1)
        assert (homogeneity_score(member.numpy(), winner.numpy()) >= 0.99) == well
        assert len(winner.unique()) >= BLOBS


def test_the_prior_becomes_the_share_of_each_unit() -> None:
    x, member = blobs()
    x = torch.cat([x, x[member == 0].repeat(3, 1)])  # half of the patches in the first blob
    layer = dense(x[:BLOBS])
    hebb = fasthebb.attach(layer, SoftHebb(0.1, prior_rate=0.2))
    for _ in range(60):
        layer(x)
        hebb.write_grad()
        layer.weight.data -= 0.5 * layer.weight.grad
    prior = hebb.state_dict()["layers"][""]["prior"][0]
    assert torch.allclose(prior, torch.tensor([4, 1, 1, 1, 1], dtype=torch.float64) / 8, atol=0.01)
    assert float(prior.sum()) == pytest.approx(1, abs=1e-12)


def test_krotov_finds_the_directions_of_the_centroids() -> None:
    x, _ = blobs()
    start = x[:BLOBS]
    want = centroids(x, start)
    end = trained(2 * start, Krotov(delta=0), x, 0.5, 300)
    assert torch.cosine_similarity(end, want, dim=1).min() >= 1 - 1e-9
    assert (end.norm(dim=1) - 1).abs().max() <= 1e-9
    rivals = trained(2 * start, Krotov(delta=0.1), x, 0.5, 300)  # pushed off the blob next to theirs
    assert torch.cosine_similarity(rivals, want, dim=1).min() >= 0.98


@pytest.mark.parametrize(
    "rule",
    [
        SoftWTA(1e-3, response=Cosine(), average="plain"),
        SoftWTA(1e-3, response=Cosine()),
        SoftWTA(1e-3, "power"),
        Instar(Hard()),
    ],
    ids=str,
)
def test_winner_take_all_finds_the_centroids(rule: fasthebb.Rule) -> None:
    x, _ = blobs()
    assert error(trained(x[:BLOBS], rule, x, 1.0, 12), centroids(x, x[:BLOBS])) <= 1e-9


def test_the_nearest_unit_finds_centroids_that_directions_do_not() -> None:
    x, _ = shells()
    start = x[:4]
    want = centroids(x, start)
    for response in (Euclidean(), RBF(0.5)):
        assert error(trained(start, Instar(Hard(), response=response), x, 1.0, 12), want) <= 1e-12
    assert error(trained(start, Instar(Hard(), response=Cosine()), x, 1.0, 12), want) > 0.1


@pytest.mark.parametrize("response", [Cosine(), RaisedCosine(2.0), RaisedCosine(0.5), Angular()], ids=str)
def test_who_wins_by_direction_knows_no_scale(response: fasthebb.response.Response) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(40, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    a, b = torch.rand(40, 1).double() + 0.1, torch.rand(5, 1).double() + 0.1
    plain = learned(HardWTA(response=response), dense(w), x)
    wins = torch.cosine_similarity(x[:, None], w[None], dim=2).argmax(dim=1)
    assert error((plain + w)[wins[0]], x[wins == wins[0]].mean(dim=0)) <= 1e-12
    stretched = learned(HardWTA(response=response), dense(w), 3 * x)
    assert error(stretched + w, torch.where(plain == 0, w, 3 * (plain + w))) <= 1e-12
    longer = learned(HardWTA(response=response), dense(b * w), a * x)
    want = torch.stack([(a * x)[wins == i].mean(dim=0) if (wins == i).any() else (b * w)[i] for i in range(5)])
    assert error(longer + b * w, want) <= 1e-12


@pytest.mark.parametrize(
    ("rule", "stretched"),
    [
        (SoftHebb(0.4), SoftHebb(1.2)),  # the temperature is in units of the response
        (SoftHebb(0.4, prior_rate=0.5), SoftHebb(1.2, prior_rate=0.5)),
        (Krotov(0.3, 3), Krotov(0.3, 3)),
        (Krotov(response=Lebesgue(3.0)), Krotov(response=Lebesgue(3.0))),
    ],
    ids=str,
)
def test_three_times_the_input_is_three_times_the_update(rule: fasthebb.Rule, stretched: fasthebb.Rule) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(40, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    assert error(learned(stretched, dense(w), 3 * x), 3 * learned(rule, dense(w), x)) <= 1e-12


@pytest.mark.parametrize(
    ("response", "x_by", "w_by", "y_by"),
    [
        (Dot(), 3, 2, 6),
        (Projection(), 3, 2, 3),
        (Cosine(), 3, 2, 1),
        (RaisedCosine(3.0), 3, 2, 1),
        (Angular(), 3, 2, 1),
        (Lebesgue(2.0), 3, 2, 6),
        (Lebesgue(3.5), 3, 2, 3 * 2**2.5),
        (Lebesgue(1.0), 3, 2, 3),
    ],
    ids=str,
)
def test_scaling_laws_of_responses(response: fasthebb.response.Response, x_by: float, w_by: float, y_by: float) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(40, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    rule = fasthebb.Hebb(response=response)  # E[y x]
    want = x_by * y_by * learned(rule, dense(w), x)
    assert error(learned(rule, dense(w_by * w), x_by * x), want) <= 1e-12


def test_rbf_sees_distances_only() -> None:
    torch.manual_seed(0)
    x, w, shift = (torch.randn(n, 6, dtype=torch.float64) for n in (40, 5, 1))
    plain = learned(Instar(response=RBF(1.5)), dense(w), x)
    assert error(learned(Instar(response=RBF(1.5)), dense(w + shift), x + shift), plain) <= 1e-10
    assert error(learned(Instar(response=RBF(4.5)), dense(3 * w), 3 * x), 3 * plain) <= 1e-10


def test_lebesgue_2_is_the_dot_product_and_costs_nothing() -> None:
    dot = torch.randn(2, 1, 3, 4)
    assert Lebesgue(2.0)(dot, torch.randn(1, 3, 5), None) is dot


def test_one_unit_alone_learns_as_these_do() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(40, 6, dtype=torch.float64), torch.randn(1, 6, dtype=torch.float64)
    y = x @ w.T
    always = (x - y * w).mean(dim=0, keepdim=True)  # it wins whatever its response
    for rule in (SoftHebb(), Krotov(), SoftHebb(prior_rate=0.5)):
        assert error(learned(rule, dense(w), x), always) <= 1e-12
    assert isinstance(Krotov(), Oja)


def test_softhebb_and_krotov_can_be_modulated_but_for_the_prior() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(40, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    factor = torch.randn(40, dtype=torch.float64)
    for rule in (SoftHebb(0.5), Krotov()):
        apart = torch.stack([learned(rule, dense(w), x_n) for x_n in x.split(1)])
        want = (factor[:, None, None] * apart).mean(dim=0)
        assert error(learned(fasthebb.Modulated(rule), dense(w), x, signals=[factor]), want) <= 1e-12
    with pytest.raises(ValueError, match=r"SoftHebb\(prior_rate=0.1\): only terms\(\) sees the prior"):
        learned(fasthebb.Modulated(SoftHebb(prior_rate=0.1)), dense(w), x, signals=[factor])
