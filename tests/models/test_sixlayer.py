"""The six-layer net is the published one, whatever the twin, forward, width and image size."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fasthebb.models import FORWARDS, TWINS, SixLayer, VariancePreservingBatchNorm1d, VariancePreservingBatchNorm2d
from fasthebb.models import sixlayer as build

POOLED = (1, 3)


def literal(net: SixLayer, x: Tensor, forward: str) -> Tensor:
    """The net as the protocol writes it: layer, act, pool, BN; in training mode without dropout."""
    act = {"relu": F.relu, "tanh": torch.tanh, "identity": lambda y: y, "unit_norm_relu": F.relu}[forward]
    for index in range(1, 6):
        layer = net.get_submodule(f"conv{index}" if index < 5 else "fc5")
        y = layer(x.flatten(1) if index == 5 else x)
        if forward == "unit_norm_relu":
            y = y / layer.weight.flatten(1).norm(dim=1).view(-1, *(1,) * (y.dim() - 2))
        y = act(y)
        if index in POOLED:
            y = F.max_pool2d(y, 2)
        x = net.get_submodule(f"bn{index}")(y)
    return net.get_submodule("fc6")(x)


def test_published_shapes() -> None:
    net = build(image_size=32)
    shapes = {name: tuple(weight.shape) for name, weight in net.named_parameters() if weight.dim() > 1}
    assert shapes == {
        "conv1.weight": (96, 3, 5, 5),
        "conv2.weight": (128, 96, 3, 3),
        "conv3.weight": (192, 128, 3, 3),
        "conv4.weight": (256, 192, 3, 3),
        "fc5.weight": (4096, 2304),
        "fc6.weight": (10, 4096),
    }
    assert [name for name, _ in net.named_parameters() if name.startswith(("conv", "fc")) and "bias" in name] == [
        "fc6.bias"
    ]


def test_initial_weights_are_uniform_to_the_fan_in() -> None:
    torch.manual_seed(0)
    for layer in build():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            bound = layer.weight[0].numel() ** -0.5
            assert layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)


def test_twins_and_forwards_share_their_state() -> None:
    nets = [build(width=0.05, forward=forward, twin=twin) for forward in FORWARDS for twin in TWINS]
    state = nets[0].state_dict()
    for net in nets[1:]:
        assert [(key, value.shape) for key, value in net.state_dict().items()] == [
            (key, value.shape) for key, value in state.items()
        ]
        net.load_state_dict(state)


def test_only_the_hebbian_twin_preserves_variance() -> None:
    kinds = (VariancePreservingBatchNorm1d, VariancePreservingBatchNorm2d)
    for twin, expected in (("hebbian", ["bn3", "bn4", "bn5"]), ("backprop", [])):
        net = build(width=0.05, twin=twin)
        assert [name for name, module in net.named_children() if isinstance(module, kinds)] == expected


@pytest.mark.parametrize("forward", FORWARDS)
@pytest.mark.parametrize("twin", TWINS)
def test_pooling_before_the_activation_changes_nothing(forward: str, twin: str) -> None:
    torch.manual_seed(0)
    net = build(width=0.1, forward=forward, twin=twin, dropout=0.0).double()
    other = copy.deepcopy(net)
    x = torch.randn(6, 3, 32, 32, dtype=torch.float64)
    y, expected = net(x), literal(other, x, forward)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(net(x), literal(other, x, forward), rtol=1e-9, atol=1e-12)
    y.square().sum().backward()
    expected.square().sum().backward()
    for (name, mine), theirs in zip(net.named_parameters(), other.parameters()):
        assert (mine.grad - theirs.grad).norm() <= 1e-9 * theirs.grad.norm(), name
    for (name, mine), theirs in zip(net.named_buffers(), other.buffers()):
        torch.testing.assert_close(mine, theirs, msg=name)


@pytest.mark.parametrize("image_size", [24, 25, 28, 33, 48])
def test_any_size_from_the_smallest(image_size: int) -> None:
    net = build(7, channels=1, image_size=image_size, width=0.05)
    assert net(torch.randn(2, 1, image_size, image_size)).shape == (2, 7)


def test_channels_last_is_the_same_net() -> None:
    torch.manual_seed(0)
    net = build(width=0.1, forward="unit_norm_relu").eval()
    x = torch.randn(4, 3, 32, 32)
    expected = net(x)
    net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x.contiguous(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"image_size": 23}, "image_size 23.*24 px"),
        ({"width": 0.0}, "width 0.0 is not positive"),
        ({"width": -1.0}, "width -1.0 is not positive"),
        ({"forward": "rleu"}, "'rleu' is unknown: did you mean 'relu'"),
        ({"twin": "hebian"}, "'hebian' is unknown: did you mean 'hebbian'"),
    ],
)
def test_wrong_arguments(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(**wrong)
