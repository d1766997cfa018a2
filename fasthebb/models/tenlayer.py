"""The ten-layer net of the ImageNet experiments, as a Hebbian or a backprop twin with the same state-dict keys.

conv7 3→96, act, pool3, BN | conv3 96→128, act, BN | conv3 128→192, act, pool2, BN | conv3 192→192, act, BN |
conv3 192→256, act, pool2, BN | conv3 256→256, act, BN | conv3 256→384, act, pool2, BN* | conv3 384→512, act, BN* |
fc 4608→4096 (at 210 px), act, BN* | dropout, fc →classes. BN* is variance-preserving in the Hebbian twin and plain in
the other; stride 1, no padding. Source: Lagani, Gennaro, Fassold, Amato 2022 (arXiv 2207.03172).
"""

from __future__ import annotations

from torch import nn

from fasthebb.models.stack import Convolution, stack

_CONVOLUTIONS = (
    Convolution(96, 7, pool=3),
    Convolution(128, 3),
    Convolution(192, 3, pool=2),
    Convolution(192, 3),
    Convolution(256, 3, pool=2),
    Convolution(256, 3),
    Convolution(384, 3, pool=2, preserving=True),
    Convolution(512, 3, preserving=True),
)


class TenLayer(nn.Sequential):
    """conv1 … conv8, fc9, fc10 with bn1 … bn9 in one sequence: images [N, channels, H, W] to scores [N, classes]."""


def tenlayer(
    classes: int = 1000,
    *,
    channels: int = 3,
    image_size: int = 210,
    width: float = 1.0,
    forward: str = "relu",
    twin: str = "hebbian",
    bias: bool = False,
    dropout: float = 0.5,
) -> TenLayer:
    """Build the ten-layer net; arguments and initial weights as in `sixlayer`.

    Raises ValueError for an unknown name, a width ≤ 0 or images under 162 px.
    """
    return TenLayer(
        stack(
            "tenlayer", _CONVOLUTIONS, classes=classes, channels=channels, image_size=image_size, width=width,
            forward=forward, twin=twin, bias=bias, dropout=dropout,
        )
    )  # fmt: skip
