"""What rules that remember are known to learn: selectivity, covariance, invariance over time, and maps."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from cases import error, learned
from sklearn.cluster import KMeans
from test_theory import aligned, components, gaussian, trained
from torch import Tensor, nn

import fasthebb
from fasthebb import competition, finish
from fasthebb.response import RBF, Cosine
from fasthebb.rules.trace import trace
from reference import som, update
from reference.responses import raised_cosine

SQUARE, LINE, CUBE = (8, 8), (20,), (4, 4, 4)


def dense(w: Tensor) -> nn.Linear:
    """A layer with these weights [units, fan-in]."""
    layer = nn.Linear(*w.T.shape, bias=False).double()
    layer.weight.data = w.clone()
    return layer


def train(layer: nn.Module, rule: fasthebb.Rule, batches: Iterable[Tensor], lr: float) -> Tensor:
    """Weights [units, fan-in] after a step for each batch."""
    hebb = fasthebb.attach(layer, rule)
    optimizer = torch.optim.SGD(hebb.parameters(), lr=lr)
    for batch in batches:
        with torch.no_grad():
            layer(batch)
        hebb.write_grad()
        optimizer.step()
    hebb.detach()
    return layer.weight.detach().flatten(1)


@pytest.mark.parametrize("patterns", [4, 10])
def test_bcm_becomes_selective(patterns: int) -> None:
    torch.manual_seed(3)
    x = torch.rand(patterns, patterns).double() + torch.eye(patterns)
    x /= x.norm(dim=1, keepdim=True)
    assert (x @ x.T).min() > 0.15  # independent, but none are orthogonal
    start = torch.rand(12, patterns).double() / 2
    y = train(dense(start), fasthebb.BCM(0.2), [x] * 1500, lr=0.2) @ x.T
    others = y.scatter(1, y.argmax(dim=1, keepdim=True), 0)
    assert (y.amax(dim=1) / patterns - 1).abs().max() <= 0.05  # θ = E[y²] = y²/patterns, and y = θ
    assert others.abs().max() <= 0.05 * patterns
    selectivity = 1 - y.mean(dim=1) / y.amax(dim=1)  # 1 − 1/patterns is the most there can be
    assert selectivity.min() >= 0.98 * (1 - 1 / patterns)
    assert (1 - (start @ x.T).mean(dim=1) / (start @ x.T).amax(dim=1)).max() <= 0.5


def test_covariance_finds_the_first_component_of_data_that_is_not_centred() -> None:
    x = gaussian()
    mean = 3 * components(x, 8)[5]
    rules = fasthebb.Covariance(0.2, finish=finish.tangent), fasthebb.Hebb(finish=finish.tangent)
    torch.manual_seed(1)
    start = torch.randn(3, 8)
    covariance, hebb = (trained(dense(start).float(), rule, x + mean, lr=0.02, epochs=30) for rule in rules)
    assert aligned(covariance, components(x, 1).expand(3, 8)).min() >= 0.999
    assert aligned(hebb, mean.expand(3, 8)).min() >= 0.999


def sweeps(seed: int, kinds: int = 4, shifts: int = 8) -> Tensor:
    """Patterns that move across a retina, one a sample, either way: [60, shifts, kinds·shifts].

    As in Földiák's simulation, cells answer to one pattern in one place: no two moments of a sweep overlap.
    """
    forth = torch.eye(kinds * shifts).double().view(kinds, shifts, -1)[torch.arange(60) % kinds]
    either = torch.rand(60, 1, 1, generator=torch.Generator().manual_seed(seed)) < 0.5
    return torch.where(either, forth, forth.flip(1))


def winners(w: Tensor) -> Tensor:
    """The unit of the largest cosine for every pattern in every place, [kinds, shifts]."""
    return (w / w.norm(dim=1, keepdim=True)).argmax(dim=0).view(4, 8)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", [nn.Linear, nn.Conv1d])
def test_trace_makes_units_answer_to_a_pattern_wherever_it_is(kind: type[nn.Module], seed: int) -> None:
    torch.manual_seed(seed)
    start = torch.rand(4, 32).double() / 10
    layer, batches = dense(start), [sweeps(step) for step in range(200)]
    if kind is nn.Conv1d:
        layer, batches = nn.Conv1d(32, 4, 1, bias=False).double(), [x.mT for x in batches]
        layer.weight.data = start.clone().unsqueeze(-1)
    won = winners(train(layer, fasthebb.Trace(rate=0.1), batches, lr=0.2))
    assert (won == won[:, :1]).all()
    assert won[:, 0].unique().numel() == 4
    without = winners(train(dense(start), fasthebb.HardWTA(), [sweeps(step) for step in range(200)], lr=0.2))
    assert (without == without.mode(dim=1, keepdim=True).values).double().mean() < 0.7


def test_without_a_trace_it_is_the_instar() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(7, 5, bias=False).double(), torch.randn(3, 6, 7).double()
    for contest in (competition.Hard(), competition.Softmax(0.1), None):
        got, want = (learned(rule, layer, x) for rule in (fasthebb.Trace(contest, 1.0), fasthebb.Instar(contest)))
        assert error(got, want) <= 1e-12


@pytest.mark.parametrize("rate", [1e-3, 0.2, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("units_last", [False, True])
def test_the_trace_of_a_long_sequence(units_last: bool, rate: float) -> None:
    torch.manual_seed(0)
    a = torch.rand(2, 1, 3, 1500).double()
    want, before = torch.empty_like(a), torch.zeros(2, 1, 3).double()
    for t in range(1500):
        before = (1 - rate) * before + rate * a[..., t]
        want[..., t] = before
    assert error(trace(a.mT.contiguous().mT if units_last else a, rate), want) <= 1e-14
    assert error(trace(a.float(), rate), want) <= 1e-6


def uniform(shape: tuple[int, ...], n: int = 2000) -> Tensor:
    """Points of a box with sides as the grid's, the longest 1: [n, sides]."""
    return torch.rand(n, len(shape)).double() * torch.tensor(shape) / max(shape)


def sphere(n: int = 2000) -> Tensor:
    """Points of the unit sphere, [n, 3]."""
    x = torch.randn(n, 3).double()
    return x / x.norm(dim=1, keepdim=True)


def topographic_error(distances: Tensor, shape: tuple[int, ...]) -> float:
    """Share of points, by distances [n, units], whose two nearest units are no neighbours, not even diagonal ones."""
    places = torch.cartesian_prod(*(torch.arange(n) for n in shape)).view(distances.shape[1], -1)
    first, second = distances.topk(2, dim=1, largest=False).indices.T
    return float(((places[first] - places[second]).abs().amax(dim=1) > 1).double().mean())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("shape", "kernel"), [(SQUARE, "gaussian"), (SQUARE, "exponential"), (CUBE, "gaussian")])
def test_a_map_keeps_neighbourhoods(shape: tuple[int, ...], kernel: str, seed: int) -> None:
    torch.manual_seed(seed)
    x, start = uniform(shape), uniform(shape, 64)
    batches = [x[torch.randint(len(x), (200,))] for _ in range(150)]
    w = train(dense(start), fasthebb.SOM(shape, kernel, steps=100, response=RBF(1.0)), batches, lr=0.5)
    assert topographic_error(torch.cdist(x, start), shape) > 0.5
    assert topographic_error(torch.cdist(x, w), shape) <= 0.1
    best = KMeans(64, n_init=1, random_state=0).fit(x.numpy()).cluster_centers_
    nearest, least = (torch.cdist(x, c).amin(dim=1).mean() for c in (w, torch.from_numpy(best)))
    assert nearest <= 1.25 * least  # no neighbourhoods at the price of a bad fit


def test_inhibition_keeps_neighbourhoods_too() -> None:
    torch.manual_seed(0)
    x, start = sphere(), sphere(64)
    rule = fasthebb.SOM(SQUARE, "difference", final_radius=1.5, steps=150, response=Cosine())
    w = train(dense(start), rule, [x[torch.randint(len(x), (200,))] for _ in range(200)], lr=0.5)
    before, after = (topographic_error(-x @ v.T / v.norm(dim=1), SQUARE) for v in (start, w))
    assert before > 0.5
    assert after <= 0.1


@pytest.mark.parametrize("seed", [0, 1])
def test_a_line_orders_itself(seed: int) -> None:
    torch.manual_seed(seed)
    x, start = uniform(LINE), uniform(LINE, 20)
    rule = fasthebb.SOM(LINE, steps=100, response=RBF(1.0))
    w = train(dense(start), rule, [x[torch.randint(len(x), (200,))] for _ in range(150)], lr=0.5)
    steps = w.flatten().diff()
    assert (steps > 0).all() or (steps < 0).all()
    assert start.flatten().diff().sign().unique().numel() == 2


@pytest.mark.parametrize("kernel", ["gaussian", "difference", "exponential"])
@pytest.mark.parametrize("shape", [(12,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("samples", [2, 30])  # fewer than units, and more
def test_grids_of_one_to_three_sides(samples: int, shape: tuple[int, ...], kernel: str) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 12, bias=False).double(), torch.randn(samples, 6).double()
    got = learned(fasthebb.SOM(shape, kernel), layer, x)
    want = update(layer, x, som.som(shape, getattr(som, kernel), max(shape) / 2), response=raised_cosine(2.0))
    assert error(got, want) <= 1e-12


def test_a_map_without_a_neighbourhood_is_hard_winner_take_all() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 12, bias=False).double(), torch.randn(40, 6).double()
    got = learned(fasthebb.SOM(radius=0.01, final_radius=0.01), layer, x)
    assert error(got, learned(fasthebb.HardWTA(), layer, x)) <= 1e-12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fasthebb.BCM(0), r"BCM\(rate=0\): the sliding mean moves"),
        (lambda: fasthebb.Covariance(1.5), r"Covariance\(rate=1.5\)"),
        (lambda: fasthebb.Trace(rate=float("nan")), r"Trace\(rate=nan\)"),
        (lambda: fasthebb.SOM((2, 2, 2, 2)), r"SOM\(shape=\(2, 2, 2, 2\)\): give a map 1 to 3 sides"),
        (lambda: fasthebb.SOM(()), r"SOM\(shape=\(\)\)"),
        (lambda: fasthebb.SOM((0, 3)), r"SOM\(shape=\(0, 3\)\)"),
        (lambda: fasthebb.SOM(kernel="hat"), "choose gaussian, difference, exponential"),
        (lambda: fasthebb.SOM(radius=0), r"SOM\(radius=0\): it must be above 0"),
        (lambda: fasthebb.SOM(final_radius=float("inf")), r"SOM\(final_radius=inf\)"),
        (lambda: fasthebb.SOM(steps=0), r"SOM\(steps=0\)"),
        (
            lambda: fasthebb.attach(nn.Linear(4, 5, bias=False), fasthebb.SOM((2, 3))),
            "that is 6 units, and the layer has 5 a group",
        ),
    ],
)
def test_bad_arguments(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
