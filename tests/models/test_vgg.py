"""VGG nets have the published shapes, and share their state between twins."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fasthebb.models import TWINS, VariancePreservingBatchNorm1d, VariancePreservingBatchNorm2d, vgg


@pytest.mark.parametrize(("depth", "convolutions"), [(11, 8), (13, 10), (16, 13), (19, 16)])
def test_published_shapes(depth: int, convolutions: int) -> None:
    with torch.device("meta"):
        net = vgg(depth)
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    assert len(layers) == convolutions
    assert len([module for module in net.features if isinstance(module, nn.MaxPool2d)]) == 5
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(25088, 4096), (4096, 1000)]
    assert net.features(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 512, 7, 7)
    assert all(layer.bias is None for layer in (*layers, linear[0]))


@pytest.mark.parametrize("forward", ["relu", "unit_norm_relu"])
def test_twins_share_their_state(forward: str) -> None:
    nets = [vgg(11, 5, image_size=32, width=0.05, forward=forward, twin=twin) for twin in TWINS]
    nets[1].load_state_dict(nets[0].state_dict())
    assert nets[0](torch.randn(2, 3, 32, 32)).shape == (2, 5)
    kinds = (VariancePreservingBatchNorm1d, VariancePreservingBatchNorm2d)
    preserving = [[name for name, module in net.named_modules() if isinstance(module, kinds)] for net in nets]
    assert preserving == [["bn9"], []]


def test_other_sizes() -> None:
    net = vgg(11, 3, image_size=70, channels=1, width=0.05)
    assert net(torch.randn(2, 1, 70, 70)).shape == (2, 3)


@pytest.mark.parametrize(
    ("depth", "wrong", "words"),
    [
        (12, {}, "VGG depth 12 is unknown: choose from 11, 13, 16, 19"),
        (11, {"image_size": 31}, "image_size 31.*32 px"),
        (11, {"width": 0}, "width 0 is not positive"),
        (11, {"twin": "both"}, "twin 'both' is unknown"),
        (11, {"forward": "tan"}, "did you mean 'tanh'"),
    ],
)
def test_wrong_arguments(depth: int, wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        vgg(depth, **wrong)
