"""Competitions as objects: what those around another one do, what they remember, and how a command line names them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import error
from nets import images, net, same, written
from test_theory import blobs, step
from torch import Tensor, nn

import fasthebb
from fasthebb import Instar
from fasthebb.cli import main
from fasthebb.competition import Competition, Every, Hard, KWinners, Power, Softmax, Threshold, hard, power, softmax
from fasthebb.conscience import Abstaining, Conscience, Homeostasis
from fasthebb.jobs.options import PretrainOptions
from fasthebb.ops import least
from fasthebb.options import Usage, parse, to_yaml
from fasthebb.response import Cosine


def train(layer: nn.Linear, competition: Competition, batches: list[Tensor], lr: float) -> fasthebb.Hebbian:
    hebb = fasthebb.attach(layer, Instar(competition))
    optimizer = torch.optim.SGD(hebb.parameters(), lr=lr)
    for x in batches:
        with torch.no_grad():
            layer(x)
        hebb.write_grad()
        optimizer.step()
    return hebb


def dead_but_one() -> tuple[nn.Linear, Tensor]:
    """Five units of which one points to the middle of five clusters and the others away from it; and the clusters."""
    x, _ = blobs()
    layer = nn.Linear(8, 5, bias=False).double()
    middle = x.mean(dim=0)
    torch.manual_seed(5)
    layer.weight.data = torch.cat([middle[None], -middle + 0.1 * torch.randn(4, 8)])
    return layer, x


@pytest.mark.parametrize(
    ("competition", "revives"),
    [
        (Hard(), False),
        (Conscience(), True),
        (Conscience(Softmax(0.02), gain=2.0), True),
        (Homeostasis(), True),
        (Conscience(gain=0.0), False),
    ],
    ids=str,
)
def test_dead_units_are_revived(competition: Competition, revives: bool) -> None:
    layer, x = dead_but_one()
    train(layer, competition, [x] * 100, lr=0.5)
    centroids = torch.stack([x[i::5].mean(dim=0) for i in range(5)])
    reached = torch.cdist(centroids, layer.weight.detach()).min(dim=1).values < 0.01
    assert bool(reached.all()) == revives
    assert reached.any()


def shares(competition: Competition) -> Tensor:
    """What each of 8 units wins on average of points that crowd on one side of a circle, at the end of training."""
    generator = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * torch.rand(4000, generator=generator, dtype=torch.float64) ** 3
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    batches = [x[torch.randint(len(x), (100,), generator=generator)] for _ in range(1000)]
    torch.manual_seed(1)
    layer = nn.Linear(2, 8, bias=False).double()
    hebb = train(layer, competition, batches[:700], lr=0.05)
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.05)
    won = torch.zeros(8, dtype=torch.float64)
    for x_k in batches[700:]:
        s = (torch.cosine_similarity(x_k[:, None], layer.weight.detach(), dim=2) / 2 + 0.5) ** 2
        won += competition(s[:, None, :, None], hebb.state_dict()["layers"][""]).sum(dim=(0, 1, 3))
        layer(x_k)
        hebb.write_grad()
        optimizer.step()
    return won / won.sum()


def test_homeostasis_evens_the_shares() -> None:
    hard, conscience, homeostasis = (
        float((shares(competition) - 1 / 8).abs().max()) for competition in (Hard(), Conscience(), Homeostasis())
    )
    assert homeostasis < 0.005
    assert 0.02 < conscience < 0.1 < hard  # a conscience only leans towards even shares


def draws(p: float, steps: int = 2000, units: int = 50, seed: int = 0) -> Tensor:
    """Which units sit out which step, [steps, units]."""
    competition, s = Abstaining(Every(), p, seed), torch.zeros(1, 1, units, 1)
    r = [competition(s, {"steps": torch.tensor(float(step))}).flatten() for step in range(steps)]
    return 1 - torch.stack(r)


@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
def test_units_abstain_at_random(p: float) -> None:
    out = draws(p)
    spread = math.sqrt(p * (1 - p))
    assert abs(float(out.mean()) - p) < 4 * spread / math.sqrt(out.numel())
    assert (out.mean(dim=0) - p).abs().max() < 4.5 * spread / math.sqrt(len(out))  # every unit
    assert (out.mean(dim=1) - p).abs().max() < 6 * spread / math.sqrt(out.shape[1])  # every step
    centred = (out - p) / spread
    pairs = {
        "next step": centred[1:] * centred[:-1],
        "next unit": centred[:, 1:] * centred[:, :-1],
        "another seed": centred * (draws(p, seed=1) - p) / spread,
    }
    for what, products in pairs.items():
        assert abs(float(products.mean())) < 4 / math.sqrt(products.numel()), what


def test_nobody_abstains_with_probability_zero() -> None:
    x, _ = blobs()
    layer = nn.Linear(8, 5, bias=False).double()
    assert torch.equal(step(layer, Instar(Abstaining(Softmax(), p=0.0)), x), step(layer, Instar(Softmax()), x))


@pytest.mark.parametrize(
    "inner", [Hard(), KWinners(3), Softmax(), Power(), Every(), Threshold(Softmax(), 0.1)], ids=str
)
def test_where_all_abstain_nobody_moves(inner: Competition) -> None:
    x, _ = blobs()
    layer = nn.Linear(8, 5, bias=False).double()
    assert torch.equal(step(layer, Instar(Abstaining(inner, p=1 - 1e-9)), x), torch.zeros(5, 8).double())


def test_others_win_for_those_who_abstain() -> None:
    x, start = blobs()
    competition = Abstaining(Hard(), 0.5)
    s, state = (x @ start.T).T[None, None], {"steps": torch.tensor(0.0)}
    out = competition(s, state).sum(dim=-1).flatten() == 0
    assert 0 < out.sum() < 5
    assert torch.equal(competition(s, state).sum(dim=-2), torch.ones(1, 1, len(x)).double())
    assert torch.equal(competition(s, state)[:, :, ~out], Hard()(s[:, :, ~out], {}))


def test_memory_survives_a_checkpoint() -> None:
    rule = Instar(Conscience(Abstaining(Softmax(0.1), 0.5), gain=0.5))

    def trained(model: nn.Module, hebb: fasthebb.Hebbian, seeds: range) -> dict[str, Tensor]:
        for seed in seeds:
            model(images(seed=seed))
            hebb.write_grad()
        return written(model)

    model = net()
    hebb = fasthebb.attach(model, rule)
    trained(model, hebb, range(3))
    memory = hebb.state_dict()
    assert memory["layers"]["fc"].keys() == {"share", "steps"}
    want = trained(model, hebb, range(3, 6))
    again = fasthebb.attach(resumed := net(), rule)
    again.load_state_dict(memory)
    assert same(trained(resumed, again, range(3, 6)), want, tolerance=0)
    fresh = fasthebb.attach(other := net(), rule)
    assert not same(trained(other, fresh, range(3, 6)), want)


def test_only_units_above_a_threshold_move() -> None:
    x, start = blobs()
    layer = nn.Linear(8, 5, bias=False).double()
    layer.weight.data = start
    cosine = torch.cosine_similarity(x[:, None], start, dim=2)
    want = torch.stack([x[cosine[:, i] > 0.9].mean(dim=0) - start[i] for i in range(5)])
    assert error(step(layer, Instar(Threshold(level=0.9), response=Cosine()), x), want) <= 1e-12
    assert not step(layer, Instar(Threshold(level=1.1), response=Cosine()), x).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Threshold(level=math.nan), r"Threshold\(level=nan\): the level must be finite"),
        (lambda: Threshold("hard"), r"Threshold\(inner='hard'\): give an object of fasthebb.competition"),  # type: ignore[arg-type]
        (lambda: Abstaining(p=1.0), r"Abstaining\(p=1.0\): the probability must be from 0 to below 1"),
        (lambda: Abstaining(p=-0.1), r"Abstaining\(p=-0.1\)"),
        (lambda: Conscience(gain=-1.0), r"Conscience\(gain=-1.0\): the gain must be finite and not negative"),
        (lambda: Conscience(gain=math.inf), r"Conscience\(gain=inf\)"),
        (lambda: Conscience(rate=0.0), r"Conscience\(rate=0.0\)"),
        (lambda: Homeostasis(rate=0.0), r"Homeostasis\(rate=0.0\): the rate must be above 0 and finite"),
        (lambda: Homeostasis(rate=math.inf), r"Homeostasis\(rate=inf\)"),
    ],
)
def test_bad_arguments_are_named(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("wrapper", [Threshold, Abstaining, Conscience, Homeostasis])
def test_what_does_not_fit_the_layer_is_told(wrapper: type[Threshold]) -> None:
    with pytest.raises(
        ValueError, match=r"'' cannot learn by this rule: KWinners\(k=6\): the layer has 5 units a group"
    ):
        fasthebb.attach(nn.Linear(8, 5, bias=False), Instar(wrapper(KWinners(6))))


COMMANDS = [
    ("fasthebb.competition.Softmax", "--rule.competition.temperature 0.1", Softmax(0.1)),
    ("Softmax", "--rule.competition.temperature=0.1", Softmax(0.1)),
    ("KWinners", "--rule.competition.k 3", KWinners(3)),
    ("Abstaining", "--rule.competition.p 0.2 --rule.competition.seed 7", Abstaining(p=0.2, seed=7)),
    ("fasthebb.conscience.Homeostasis", "", Homeostasis()),
    (
        "Conscience",
        "--rule.competition.inner Threshold --rule.competition.inner.inner Softmax --rule.competition.inner.level 0.6",
        Conscience(Threshold(Softmax(), 0.6)),
    ),
]


@pytest.mark.parametrize(("name", "words", "competition"), COMMANDS, ids=[name for name, *_ in COMMANDS])
def test_a_command_line_names_competitions(
    name: str, words: str, competition: Competition, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["--rule", "Instar", "--rule.competition", name, *words.split()]
    found = parse("fasthebb", PretrainOptions, given)
    assert found.rule == Instar(competition)
    assert main(["pretrain", *given, "--print-config"]) == 0
    (tmp_path / "x.yaml").write_text(capsys.readouterr().out)
    assert parse("fasthebb", PretrainOptions, ["--config", str(tmp_path / "x.yaml")]) == found
    assert (tmp_path / "x.yaml").read_text() == to_yaml(found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("Nothing", r"--rule.competition Nothing"),
        ("Softmax --rule.competition.temperature -1", r"Softmax\(temperature=-1.0\): the temperature must be above 0"),
        ("Abstaining --rule.competition.q 1", r"--rule.competition"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_told(words: str, message: str) -> None:
    with pytest.raises(Usage, match=message):
        parse("fasthebb", PretrainOptions, ["--rule", "Instar", "--rule.competition", *words.split()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("units_together", [True, False])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("temperature", [0.02, 0.05, 1.0])
@pytest.mark.parametrize("shares", [softmax, power])
def test_shares_leave_out_what_no_normal_number_holds(
    shares: Callable[..., Tensor], temperature: float, squared: bool, units_together: bool, dtype: torch.dtype
) -> None:
    """A CPU is ten times slower with subnormal numbers."""
    s = torch.linspace(1e-3, 2, 2000, dtype=dtype).view(2, 1, 200, 5)
    s = s.mT.contiguous().mT if units_together else s
    r = shares(s, temperature, squared=squared)
    exact = s.double() / s.double().amax(-2, keepdim=True) if shares is power else s.double() - s.double().amax()
    exact = exact ** (1 / temperature) if shares is power else (exact / temperature).exp()
    exact = exact / exact.sum(-2, keepdim=True)
    assert float((r - exact).abs().max()) <= 1e-5
    kept = r > 0
    assert float(((r - exact) / exact)[kept].abs().max()) <= (1e-3 if dtype == torch.float32 else 1e-9)
    assert (r.square() if squared else r)[kept].min() >= torch.finfo(dtype).tiny
    assert exact[~kept].max() <= 1.01 * least(dtype, squared=squared) if (~kept).any() else True


@pytest.mark.parametrize("shares", [softmax, power])
def test_float16_has_no_room_for_leaving_out_shares_by_their_squares(shares: Callable[..., Tensor]) -> None:
    s = torch.tensor([1.0, 0.99, 0.98, 0.5]).view(1, 1, 4, 1)
    got = shares(s.half(), 0.05, squared=True)
    assert error(got.double(), shares(s.double(), 0.05)) <= 1e-2


def test_the_winner_of_a_hard_power_has_all() -> None:
    s = torch.tensor([0.5, 2.0, 1.999, -1.0]).view(1, 1, 4, 1)
    for temperature in (1e-12, 1e-30, 1e-4):
        assert power(s, temperature).flatten().tolist() == pytest.approx([0, 1, 0, 0], abs=0.01)
    many = torch.rand(2000, 3, 5, 1, generator=torch.Generator().manual_seed(0)) * 10
    assert torch.equal(power(many, 1e-12), hard(many))
    assert power(s, 1e30).flatten().tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
