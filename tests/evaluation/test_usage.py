"""Unit usage: each unit's share of the locations at which it responds most, and what became of a layer's units."""

from __future__ import annotations

import pytest
import torch
from tiny import HEAD, LAYERS, images, net
from torch import nn

from fasthebb import HPCA, Oja, Rule, SoftWTA
from fasthebb.diagnostics import cka, effective_rank
from fasthebb.evaluation import usage
from fasthebb.evaluation.usage import LayerUnits, layer_units, unit_usage
from fasthebb.response import Cosine


def pixels(count: int = 20) -> torch.Tensor:
    return images(count).images.float() / 255


def test_shares_of_a_linear_layer_by_hand() -> None:
    layer = nn.Linear(2, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [10.0, 10.0]]))
        layer.bias.copy_(torch.tensor([0.0, 1000.0, 0.0]))  # no part of a response
    x = torch.tensor([[1.0, 0.1], [0.1, 1.0], [0.9, 1.0], [2.0, 0.2]])
    model = nn.Sequential(layer)
    assert unit_usage(model, {"0": HPCA()}, x)["0"].tolist() == [0, 0, 1]
    assert unit_usage(model, {"0": HPCA(response=Cosine())}, x)["0"].tolist() == [0.5, 0.25, 0.25]


@pytest.mark.parametrize("rule", [Oja(), SoftWTA()], ids=str)
def test_shares_are_those_of_patches(rule: Rule) -> None:
    torch.manual_seed(0)
    model, x = net().eval(), pixels()
    w = model[0].weight.detach().flatten(1)
    patches = nn.functional.unfold(x, 5, stride=3)  # [N, K, L]
    if isinstance(rule, SoftWTA):
        w, patches = nn.functional.normalize(w, dim=1), nn.functional.normalize(patches, dim=1)
    wins = torch.bincount((w @ patches).argmax(1).flatten(), minlength=len(w))
    shares = unit_usage(model, dict.fromkeys(LAYERS, rule), x)
    assert list(shares) == list(LAYERS)
    assert torch.allclose(shares["0"], wins / wins.sum())
    assert all(float(share.sum()) == pytest.approx(1) for share in shares.values())


def test_groups_share_apart() -> None:
    share = unit_usage(nn.Sequential(nn.Conv2d(4, 6, 3, groups=2)), {"0": Oja()}, torch.randn(5, 4, 8, 8))["0"]
    assert share.view(2, 3).sum(1).tolist() == pytest.approx([1, 1])


def test_units_of_a_linear_layer_by_hand() -> None:
    layer = nn.Linear(2, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [2.0, 0.1]]))
        layer.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0]))
    x = torch.tensor([[3.0, 0.0], [0.0, 4.0], [2.0, 2.0]])
    found, activity = layer_units(nn.Sequential(layer, nn.ReLU(inplace=True)), ["0"], x)
    a = torch.tensor([[3.0, 0, 0, 6], [0, 4, 0, 0.4], [2, 2, 0, 4.2]])  # the bias is too low to wake the third unit
    assert torch.allclose(activity["0"], a)
    rank, sparsity = float(effective_rank(a - a.mean(0))), [2 - row.sum() / row.norm() for row in a]
    assert found["0"] == LayerUnits(4, 1, 1, pytest.approx(rank), 2, pytest.approx(float(sum(sparsity)) / 3))  # type: ignore[arg-type]
    assert 1 < rank < 2


def test_units_of_a_convolution_are_seen_at_every_location(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU()), torch.randn(5, 4, 8, 8)
    with torch.no_grad():
        model[0].weight[4] = -2 * model[0].weight[3]
        model[0].weight[1], model[0].bias[1] = 0, -1
        out = model(x)
    found, activity = layer_units(model, ["0"], x)
    assert found["0"][:3] == (6, 1, 1)
    assert found["0"].most == 6
    assert torch.equal(activity["0"], out.movedim(1, -1).flatten(0, 2))
    monkeypatch.setattr(usage, "ROWS", 5)
    few, some = layer_units(model, ["0"], x)
    assert torch.equal(some["0"], activity["0"][::36])
    assert few["0"][:3] == (6, 1, 1), "dead and twins are of everything"
    assert few["0"].most == 4
    assert few["0"].rank <= 4


class Named(nn.Module):
    """Calls its layer by the name of its argument."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(input=x)
        return out


def test_a_layer_may_be_called_by_the_name_of_its_argument() -> None:
    torch.manual_seed(0)
    model, x = Named(), torch.randn(9, 3)
    plain = nn.Sequential(model.fc)
    assert torch.equal(unit_usage(model, {"fc": Oja()}, x)["fc"], unit_usage(plain, {"0": Oja()}, x)["0"])
    assert torch.equal(layer_units(model, ["fc"], x)[1]["fc"], layer_units(plain, ["0"], x)[1]["0"])


def test_rows_of_twins_can_be_compared() -> None:
    torch.manual_seed(0)
    model, other = net(), net()
    _, rows = layer_units(model, LAYERS, pixels())
    _, others = layer_units(other, LAYERS, pixels())
    assert list(rows) == list(LAYERS)
    assert all(0 < float(cka(rows[layer], others[layer])) < 0.99 for layer in LAYERS)


def test_the_model_stays_as_it_was() -> None:
    model = net().train()
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    unit_usage(model, {HEAD: Oja()}, pixels())
    layer_units(model, [HEAD], pixels())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model] == [True, True, False, *[True] * 6]
    assert not any(module._forward_hooks for module in model.modules())
