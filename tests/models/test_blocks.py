"""The unit-norm forward and the variance-preserving batch norm, against their formulas."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from fasthebb.models import SixLayer, UnitNorm, VariancePreservingBatchNorm1d, VariancePreservingBatchNorm2d, activation
from fasthebb.models import sixlayer as build

LAYERS = [
    (nn.Linear(5, 4), (3, 5)),
    (nn.Linear(5, 4, bias=False), (3, 2, 5)),
    (nn.Conv1d(4, 6, 3, groups=2), (2, 4, 7)),
    (nn.Conv2d(3, 4, 3, padding=1, bias=False), (2, 3, 6, 6)),
    (nn.Conv2d(3, 4, 3), (3, 6, 6)),
    (nn.Conv3d(2, 4, 2), (2, 2, 4, 4, 4)),
    (nn.ConvTranspose1d(4, 6, 3, groups=2, bias=False), (2, 4, 5)),
    (nn.ConvTranspose2d(3, 4, 3, stride=2), (2, 3, 4, 4)),
    (nn.ConvTranspose3d(2, 4, 2, bias=False), (1, 2, 3, 3, 3)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: type(value).__name__)
def test_unit_norm_equals_normalised_weights(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """The layer with each unit's weights divided by their norm gives the same output."""
    layer = copy.deepcopy(layer).double()
    x = torch.randn(shape, dtype=torch.float64)
    normalised = copy.deepcopy(layer)
    with torch.no_grad():
        if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            units, per_group = layer.out_channels, layer.out_channels // layer.groups
            for unit in range(units):
                group, place = divmod(unit, per_group)
                size = layer.in_channels // layer.groups
                normalised.weight[group * size : (group + 1) * size, place] /= layer.weight[
                    group * size : (group + 1) * size, place
                ].norm()
        else:
            for unit in range(len(layer.weight)):
                normalised.weight[unit] /= layer.weight[unit].norm()
        torch.testing.assert_close(UnitNorm(layer)(layer(x)), normalised(x), rtol=1e-12, atol=1e-12)


def test_unit_norm_of_a_zero_unit_is_zero_and_has_finite_gradients() -> None:
    layer = nn.Conv2d(2, 3, 3, bias=False)
    with torch.no_grad():
        layer.weight[1] = 0
    y = UnitNorm(layer)(layer(torch.randn(2, 2, 5, 5)))
    assert y[:, 1].abs().max() == 0
    y.square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()


def test_gradients_flow_through_the_norm() -> None:
    layer = nn.Linear(3, 2).double()
    both = nn.Sequential(layer, UnitNorm(layer))
    x = torch.randn(4, 3, dtype=torch.float64)

    def f(weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(both, {"0.weight": weight, "0.bias": bias}, (x,))

    weight, bias = (parameter.detach().requires_grad_() for parameter in layer.parameters())
    assert torch.autograd.gradcheck(f, (weight, bias))


def test_unit_norm_leaves_the_state_alone_and_is_copied_with_its_model() -> None:
    net = build(width=0.05, forward="unit_norm_relu")
    assert not [key for key in net.state_dict() if "norm" in key]
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for twin in (copy.deepcopy(net), torch.load(file, weights_only=False)):
        assert isinstance(twin, SixLayer)
        assert twin.conv1.weight is not net.conv1.weight
        norm = twin.get_submodule("norm1")
        assert isinstance(norm, UnitNorm)
        before = norm(torch.ones(1, 5, 2, 2))
        with torch.no_grad():
            twin.conv1.weight.mul_(2)
        torch.testing.assert_close(norm(torch.ones(1, 5, 2, 2)), before / 2)
        assert len(list(twin.modules())) == len(list(net.modules()))


def test_unit_norm_refuses_other_modules() -> None:
    with pytest.raises(ValueError, match=r"UnitNorm\(ReLU\): give it a Linear or convolution"):
        UnitNorm(nn.ReLU())


SHAPES = [
    (VariancePreservingBatchNorm1d, nn.BatchNorm1d, (7, 5)),
    (VariancePreservingBatchNorm1d, nn.BatchNorm1d, (4, 5, 3)),
    (VariancePreservingBatchNorm2d, nn.BatchNorm2d, (4, 5, 3, 2)),
]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(("kind", "plain_kind", "shape"), SHAPES)
def test_variance_preserving_batch_norm_is_its_formula(
    kind: type[nn.Module], plain_kind: type[nn.Module], shape: tuple[int, ...], grad: bool, affine: bool
) -> None:
    torch.manual_seed(0)
    mine, plain = kind(5, affine=affine).double(), plain_kind(5, affine=affine).double()
    if affine:
        nn.init.uniform_(mine.weight)
        nn.init.normal_(mine.bias)
    plain.load_state_dict(mine.state_dict())
    spread = torch.arange(1.0, 6.0, dtype=torch.float64).view(1, 5, *(1,) * (len(shape) - 2))
    for training in (True, True, False):
        x = (torch.randn(shape, dtype=torch.float64) * spread).requires_grad_()
        x2 = x.detach().clone().requires_grad_()
        mine.train(training)
        plain.train(training)
        with torch.set_grad_enabled(grad):
            y, expected = mine(x), plain(x2)
            var = plain.running_var + plain.eps
            expected = expected * (var / var.mean()).sqrt().view(spread.shape)
        torch.testing.assert_close(y, expected)
        for key, value in plain.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[key], value)
        if grad:
            weights = torch.randn_like(y)
            (y * weights).sum().backward()
            (expected * weights).sum().backward()
            torch.testing.assert_close(x.grad, x2.grad)
            for one, other in zip(mine.parameters(), plain.parameters()):
                torch.testing.assert_close(one.grad, other.grad)


def test_variance_preserving_batch_norm_keeps_relative_variances() -> None:
    norm = VariancePreservingBatchNorm1d(3, momentum=1.0)
    x = torch.randn(500, 3) * torch.tensor([1.0, 2.0, 4.0])
    with torch.no_grad():
        y = norm(x)
    torch.testing.assert_close(y.var(0) / y.var(0)[0], x.var(0) / x.var(0)[0], rtol=1e-3, atol=1e-3)
    assert y.var(0).mean().item() == pytest.approx(1.0, rel=1e-2)


def test_one_value_per_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="one value per channel"):
        VariancePreservingBatchNorm1d(3)(torch.randn(1, 3))


def test_activation_names() -> None:
    y = torch.tensor([-1.0, 2.0])
    for name, expected in (("relu", y.relu()), ("unit_norm_relu", y.relu()), ("tanh", y.tanh()), ("identity", y)):
        assert torch.equal(activation(name)(y), expected)
    assert torch.equal(y, torch.tensor([-1.0, 2.0]))
    with pytest.raises(ValueError, match="forward 'gelu' is unknown"):
        activation("gelu")
