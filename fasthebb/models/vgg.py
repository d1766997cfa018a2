"""VGG11, 13, 16 and 19 as Hebbian or backprop twins with the same state-dict keys.

conv3 pad 1, act, [pool2 at the usual five places], BN …; fc 25088→4096 (at 224 px), act, BN*, dropout, fc →classes.
BN* is variance-preserving in the Hebbian twin and plain in the other. Source: Simonyan & Zisserman 2014 for the
convolutions; Lagani et al. 2022 (arXiv 2207.03172) for the rest.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from fasthebb.models.blocks import FORWARDS, batch_norm, block, check_image_size, one_of, scaled

MIN_IMAGE_SIZE = 32

# how many convolutions of each of the five stages, by depth
_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_UNITS = (64, 128, 256, 512, 512)


class VGG(nn.Sequential):
    """`features` (the convolutional part), flatten, one hidden fc, head: images [N, channels, H, W] to [N, classes]."""

    features: nn.Sequential


def vgg(
    depth: int,
    classes: int = 1000,
    *,
    image_size: int = 224,
    channels: int = 3,
    width: float = 1.0,
    forward: str = "relu",
    twin: str = "hebbian",
    bias: bool = False,
    dropout: float = 0.5,
) -> VGG:
    """Build VGG `depth` (11, 13, 16 or 19), weights drawn from U(−1/√K, 1/√K), K the fan-in (PyTorch's own default).

    `image_size` in pixels, square; `width` scales the hidden units; `forward` is one of FORWARDS, `twin` of TWINS;
    `bias` is for the hidden layers, the head always has one. Layers are numbered through: features.conv1 …, two fc.
    Raises ValueError for another depth, an unknown name, a width ≤ 0 or images under 32 px.
    """
    one_of("forward", forward, FORWARDS)
    if depth not in _STAGES:
        raise ValueError(f"VGG depth {depth} is unknown: choose from {', '.join(map(str, _STAGES))}")
    check_image_size(f"vgg{depth}", image_size, MIN_IMAGE_SIZE)
    parts: list[tuple[str, nn.Module]] = []
    fan_in, index = channels, 0
    for convolutions, units in zip(_STAGES[depth], _UNITS):
        units = scaled(units, width)
        for place in range(1, convolutions + 1):
            index += 1
            layer = nn.Conv2d(fan_in, units, 3, padding=1, bias=bias)
            pool = 2 if place == convolutions else None
            parts += block(index, layer, batch_norm(units, 2, twin=twin), forward=forward, pool=pool)
            fan_in = units
    hidden = scaled(4096, width)
    fc = nn.Linear(fan_in * (image_size // 32) ** 2, hidden, bias=bias)
    return VGG(
        OrderedDict[str, nn.Module](
            [
                ("features", nn.Sequential(OrderedDict(parts))),
                ("flatten", nn.Flatten()),
                *block(index + 1, fc, batch_norm(hidden, 1, twin=twin, preserving=True), forward=forward),
                ("dropout", nn.Dropout(dropout)),
                (f"fc{index + 2}", nn.Linear(hidden, classes)),
            ]
        )
    )
