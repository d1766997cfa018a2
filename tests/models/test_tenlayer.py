"""The ten-layer net is the published one, whatever the twin, forward, width and image size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fasthebb.models import (
    FORWARDS,
    TWINS,
    TenLayer,
    VariancePreservingBatchNorm1d,
    VariancePreservingBatchNorm2d,
    tenlayer,
)

POOLS = {1: 3, 3: 2, 5: 2, 7: 2}
SMALLEST = 162


def literal(net: TenLayer, x: Tensor, forward: str) -> Tensor:
    """The net as the protocol writes it: layer, act, pool, BN; without dropout."""
    act = {"relu": F.relu, "tanh": torch.tanh, "identity": lambda y: y, "unit_norm_relu": F.relu}[forward]
    for index in range(1, 10):
        layer = net.get_submodule(f"conv{index}" if index < 9 else "fc9")
        y = layer(x.flatten(1) if index == 9 else x)
        if forward == "unit_norm_relu":
            y = y / layer.weight.flatten(1).norm(dim=1).view(-1, *(1,) * (y.dim() - 2))
        y = act(y)
        if index in POOLS:
            y = F.max_pool2d(y, POOLS[index])
        x = net.get_submodule(f"bn{index}")(y)
    return net.get_submodule("fc10")(x)


def test_published_shapes() -> None:
    with torch.device("meta"):
        net = tenlayer()
    shapes = {name.split(".")[0]: tuple(weight.shape) for name, weight in net.named_parameters() if weight.dim() > 1}
    assert shapes == {
        "conv1": (96, 3, 7, 7),
        "conv2": (128, 96, 3, 3),
        "conv3": (192, 128, 3, 3),
        "conv4": (192, 192, 3, 3),
        "conv5": (256, 192, 3, 3),
        "conv6": (256, 256, 3, 3),
        "conv7": (384, 256, 3, 3),
        "conv8": (512, 384, 3, 3),
        "fc9": (4096, 4608),
        "fc10": (1000, 4096),
    }
    assert [name for name, module in net.named_children() if getattr(module, "bias", None) is not None] == [
        *(f"bn{index}" for index in range(1, 10)),
        "fc10",
    ]


def test_published_maps() -> None:
    with torch.device("meta"):
        net = tenlayer().eval()
    maps: dict[str, int] = {}
    for name, module in net.named_children():
        if name.startswith(("conv", "pool")):
            module.register_forward_hook(lambda _, __, out, name=name: maps.update({name: out.shape[-1]}))
    assert net(torch.empty(2, 3, 210, 210, device="meta")).shape == (2, 1000)
    assert maps == {
        "conv1": 204, "pool1": 68, "conv2": 66, "conv3": 64, "pool3": 32, "conv4": 30, "conv5": 28, "pool5": 14,
        "conv6": 12, "conv7": 10, "pool7": 5, "conv8": 3,
    }  # fmt: skip


@pytest.mark.parametrize("forward", FORWARDS)
def test_it_is_the_literal_net(forward: str) -> None:
    torch.manual_seed(0)
    net = tenlayer(5, image_size=SMALLEST, width=0.05, forward=forward).double().eval()
    for norm in net:
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    x = torch.randn(2, 3, SMALLEST, SMALLEST, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(x), literal(net, x, forward), rtol=1e-9, atol=1e-12)


def test_twins_share_their_state_and_only_one_preserves_variance() -> None:
    nets = {twin: tenlayer(5, image_size=SMALLEST, width=0.05, twin=twin) for twin in TWINS}
    nets["backprop"].load_state_dict(nets["hebbian"].state_dict())
    kinds = (VariancePreservingBatchNorm1d, VariancePreservingBatchNorm2d)
    preserving = {
        twin: [name for name, module in net.named_children() if isinstance(module, kinds)] for twin, net in nets.items()
    }
    assert preserving == {"hebbian": ["bn7", "bn8", "bn9"], "backprop": []}


@pytest.mark.parametrize("image_size", [SMALLEST, 171, 224])
def test_any_size_from_the_smallest(image_size: int) -> None:
    net = tenlayer(7, channels=1, image_size=image_size, width=0.02)
    assert net(torch.randn(2, 1, image_size, image_size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"image_size": SMALLEST - 1}, "image_size 161 is too small for tenlayer.*162 px"),
        ({"width": -1.0}, "width -1.0 is not positive"),
        ({"forward": "rleu"}, "'rleu' is unknown: did you mean 'relu'"),
        ({"twin": "hebian"}, "'hebian' is unknown: did you mean 'hebbian'"),
    ],
)
def test_wrong_arguments(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tenlayer(**wrong)
