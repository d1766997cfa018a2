"""Before fine-tuning: responses of variance 1, statistics of all images, units that do nothing made useful."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import LAYERS, LayerCase
from tiny import HEAD, images, loader, net
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from fasthebb import Hebb, attach
from fasthebb.diagnostics import dead, duplicates
from fasthebb.layers import units_of
from fasthebb.models.blocks import UnitNorm, VariancePreservingBatchNorm2d
from fasthebb.training.prepare import renew_statistics, rescale, revive


def pixels(count: int = 40) -> Tensor:
    return (images(count).images.float() / 255 - 0.4) / 0.2


def responses(model: nn.Module, layer: str, x: Tensor) -> Tensor:
    """y [N, G, C, L] of a layer, as its units show it."""
    found: list[Tensor] = []
    hook = model.get_submodule(layer).register_forward_hook(lambda _, __, out: found.append(out))
    with torch.no_grad():
        model(x)
    hook.remove()
    units = units_of(model.get_submodule(layer))
    return units.view(units.batched(found[0]))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_every_unit_of_every_layer_has_variance_one(case: LayerCase) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(case.make()).double()
    layer, x = model[0], torch.randn(case.input, dtype=torch.float64)
    before = responses(model, "0", x)
    spread = before.var((0, 3), correction=0)
    rescale(model, ["0"], x)
    after = responses(model, "0", x)
    if case.name == "linear-vector":  # one response a unit has no variance
        assert torch.equal(after, before)
        return
    torch.testing.assert_close(after.var((0, 3), correction=0), torch.ones_like(spread))
    torch.testing.assert_close(after, before / spread.sqrt()[..., None])  # weight and bias alike
    assert not layer._forward_hooks


def test_a_layer_sees_what_the_scaled_ones_before_it_give() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    with torch.no_grad():
        model[0].weight.mul_(torch.tensor([100.0, 1.0, 0.01, 3.0])[:, None])
    x = torch.randn(60, 5)
    twin = copy.deepcopy(model)
    with torch.no_grad():  # by hand, one layer and one forward after the other
        for layer in (twin[0], twin[2]):
            y = responses(twin, "0" if layer is twin[0] else "2", x)[:, 0, :, 0]
            layer.weight.div_(y.std(0, correction=0)[:, None])
            layer.bias.div_(y.std(0, correction=0))
    rescale(model, ["2", "0"], x)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


def test_batch_norms_take_the_statistics_of_the_images() -> None:
    torch.manual_seed(0)
    model, x = net().train(), pixels()
    model[6].eval()
    before = state(model)
    rescale(model, ["0", "4"], x)
    y = responses(model.eval(), "0", x)
    torch.testing.assert_close(y.var((0, 3), correction=0), torch.ones(1, 6))
    seen = y.relu().movedim(2, 0).flatten(1)
    torch.testing.assert_close(model[2].running_mean, seen.mean(1))
    torch.testing.assert_close(model[2].running_var, seen.var(1))
    variance = responses(model, "4", x).var((0, 3), correction=0)  # batch norms keep the unbiased one of 40 × 9 values
    torch.testing.assert_close(variance, torch.full((1, 8), 359 / 360))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if name.startswith(HEAD))


def test_modes_are_kept() -> None:
    model, x = net().train(), pixels()
    model[6].eval()
    modes = [module.training for module in model.modules()]
    for prepare in (
        lambda: rescale(model, ["0"], x),
        lambda: renew_statistics(model, loader()),
        lambda: revive(model, ["0"], x, seed=0),
    ):
        prepare()
        assert [module.training for module in model.modules()] == modes
        assert [model[2].momentum, model[6].momentum] == [0.1, 0.1]


def test_constant_units_stay() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0, 0.7
        model[0].weight[2], model[0].bias[2] = 0, 0
    before = state(model)
    rescale(model, ["0"], torch.randn(20, 3))
    assert torch.equal(model[0].weight[1:], before["0.weight"][1:])
    assert torch.equal(model[0].bias[1:], before["0.bias"][1:])
    assert not torch.equal(model[0].weight[0], before["0.weight"][0])


def test_behind_a_unit_norm_scales_make_no_difference() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, bias=False)
    model, x = nn.Sequential(layer, UnitNorm(layer)), torch.randn(5, 3, 6, 6)
    before = model(x)
    rescale(model, ["0"], x)
    torch.testing.assert_close(model(x), before)


def test_a_layer_that_is_called_twice_is_scaled_once() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    model, x = nn.Sequential(layer, layer), torch.randn(30, 4)
    rescale(model, ["0"], x)
    torch.testing.assert_close(layer(x).var(0, correction=0), torch.ones(4))


@pytest.mark.parametrize("prepare", [rescale, lambda *words: revive(*words, seed=0)])
def test_layers_that_cannot_be_prepared(prepare) -> None:  # type: ignore[no-untyped-def]
    x = pixels(4)
    with pytest.raises(ValueError, match="layer 'fc' is not there: name Linear or convolution layers"):
        prepare(net(), ["fc"], x)
    with pytest.raises(ValueError, match="layer '2' is a BatchNorm2d"):
        prepare(net(), ["2"], x)
    with pytest.raises(ValueError, match=r"layer '4' cannot be changed: its weight is computed"):
        prepare(nn.Sequential(*net()[:4], weight_norm(net()[4])), ["4"], x)
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "spare": nn.Linear(2, 2)})
    model.forward = model["used"].forward
    with pytest.raises(ValueError, match="layer 'spare' is not called by the forward"):
        prepare(model, ["spare"], torch.randn(3, 2))
    assert not any(module._forward_hooks for module in model.modules())


def test_responses_that_are_not_finite() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(FloatingPointError, match="response of layer '0' is not finite"):
        rescale(model, ["0"], torch.full((3, 2), float("nan")))
    assert model[0].weight.isfinite().all()


def test_statistics_of_all_images() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 5, bias=False), VariancePreservingBatchNorm2d(6), nn.Dropout(0.5), nn.BatchNorm2d(6)
    )
    before = state(model)
    hebb = attach(model, {"0": Hebb()})
    model.train()
    random = torch.get_rng_state()
    renew_statistics(model, loader(20, 5, shuffle=False))
    assert torch.equal(torch.get_rng_state(), random), "no dropout"
    with pytest.raises(ValueError, match="train"):
        hebb.write_grad()  # no rule has listened
    means, variances = [], []
    with torch.no_grad():
        for x, _ in loader(20, 5, shuffle=False):
            y = model[0](x).movedim(1, 0).flatten(1)
            means.append(y.mean(1))
            variances.append(y.var(1))
    torch.testing.assert_close(model[1].running_mean, torch.stack(means).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.stack(variances).mean(0))
    assert not torch.equal(model[3].running_var, before["3.running_var"])
    assert torch.equal(model[0].weight, before["0.weight"])
    renewed = state(model)
    renew_statistics(model, loader(20, 5, shuffle=False))
    torch.testing.assert_close(model[1].running_var, renewed["1.running_var"])  # nothing of before
    with pytest.raises(ValueError, match="no images to take statistics of"):
        renew_statistics(model, [])


def test_dead_units_and_twins_get_patches_of_their_input() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, bias=False))
    conv, x = model[0], torch.rand(10, 3, 8, 8) + 0.5
    with torch.no_grad():
        conv.weight[1], conv.bias[1] = 0, -1  # dead
        conv.weight[4] = -2 * conv.weight[3]  # a twin
        conv.bias[[0, 2, 3, 5]] = 3  # alive
    before = state(model)
    lengths = conv.weight.flatten(1).norm(dim=1)
    assert revive(model, ["2", "0"], x, seed=0) == {"0": 2, "2": int(_idle(model, "2", x, before).sum())}
    new = conv.weight[[1, 4]].flatten(1)
    torch.testing.assert_close(new.norm(dim=1), lengths[lengths > 0].median().expand(2))
    patches = nn.functional.unfold(x, 3).movedim(1, 2).flatten(0, 1)
    patches = nn.functional.normalize(patches - patches.mean(1, keepdim=True))
    likeness = nn.functional.normalize(new) @ patches.T
    torch.testing.assert_close(likeness.max(dim=1).values, torch.ones(2))
    assert conv.bias[[1, 4]].tolist() == [0, 0]
    rest = [0, 2, 3, 5]
    assert torch.equal(conv.weight[rest], before["0.weight"][rest])
    assert torch.equal(conv.bias[rest], before["0.bias"][rest])
    y = responses(model, "0", x)
    assert not dead(y).any()
    assert not duplicates(conv.weight.flatten(1)[None]).any()


def _idle(model: nn.Module, layer: str, x: Tensor, before: dict[str, Tensor]) -> Tensor:
    """Units of a layer, with its former weight, that are dead or have a twin."""
    twin = copy.deepcopy(model)
    twin.load_state_dict({**model.state_dict(), f"{layer}.weight": before[f"{layer}.weight"]})
    weight = twin.get_submodule(layer).weight
    return dead(responses(twin, layer, x)) | duplicates(weight.flatten(1)[None])


@pytest.mark.parametrize(
    "layer", [nn.Linear(12, 6), nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="reflect"), nn.Conv1d(4, 6, 2)],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_every_kind_of_layer_is_revived(layer: nn.Module) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(layer).to(memory_format=torch.channels_last)
    shape = {nn.Linear: (30, 12), nn.Conv2d: (9, 4, 5, 5), nn.Conv1d: (9, 4, 8)}[type(layer)]
    x = torch.randn(shape)
    with torch.no_grad():
        layer.weight[2:4], layer.bias[2:4] = 0, -1
        layer.bias[[0, 1, 4, 5]] = 2
    first, again, other = (copy.deepcopy(model) for _ in range(3))
    assert revive(first, ["0"], x, seed=0) == {"0": 2}
    assert not dead(responses(first, "0", x)).any()
    revive(again, ["0"], x, seed=0)
    revive(other, ["0"], x, seed=1)
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


def test_what_cannot_be_revived() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    with torch.no_grad():
        model[0].weight.zero_()
    assert revive(model, ["0"], torch.ones(5, 4), seed=0) == {"0": 0}, "flat patches have no direction"
    assert revive(model, ["0"], torch.eye(4)[:2], seed=0) == {"0": 2}, "a patch is given once"
    assert model[0].weight.norm(dim=1).sort().values.tolist() == pytest.approx([0, 1, 1])
    with pytest.raises(ValueError, match="layer '0' is a ConvTranspose2d, whose patches are not known"):
        revive(nn.Sequential(nn.ConvTranspose2d(1, 1, 2)), ["0"], torch.randn(2, 1, 3, 3), seed=0)
