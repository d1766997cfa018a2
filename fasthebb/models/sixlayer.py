"""The six-layer net of the published experiments, as a Hebbian or a backprop twin with the same state-dict keys.

conv5 3→96, act, pool2, BN | conv3 96→128, act, BN | conv3 128→192, act, pool2, BN* | conv3 192→256, act, BN* |
fc 2304→4096, act, BN* | dropout, fc →classes. BN* is variance-preserving in the Hebbian twin and plain in the other; no
padding. Source: Lagani, Gennaro, Fassold, Amato 2022 (arXiv 2207.03172).
"""

from __future__ import annotations

from torch import nn

from fasthebb.models.stack import Convolution, stack

_CONVOLUTIONS = (
    Convolution(96, 5, pool=2),
    Convolution(128, 3),
    Convolution(192, 3, pool=2, preserving=True),
    Convolution(256, 3, preserving=True),
)


class SixLayer(nn.Sequential):
    """conv1 … conv4, fc5, fc6 with bn1 … bn5 in one sequence: images [N, channels, H, W] to scores [N, classes].

    Being one flat sequence, nothing holds an activation once the next module has read it.
    """


def sixlayer(
    classes: int = 10,
    *,
    channels: int = 3,
    image_size: int = 32,
    width: float = 1.0,
    forward: str = "relu",
    twin: str = "hebbian",
    bias: bool = False,
    dropout: float = 0.5,
) -> SixLayer:
    """Build the six-layer net, weights drawn from U(−1/√K, 1/√K), K the fan-in (PyTorch's own default).

    `image_size` in pixels, square; `width` scales the hidden units; `forward` is one of FORWARDS, `twin` of TWINS;
    `bias` is for the hidden layers (the published nets have none), the head always has one. Twins and forwards share
    state-dict keys and shapes. Raises ValueError for an unknown name, a width ≤ 0 or images under 24 px.
    """
    return SixLayer(
        stack(
            "sixlayer", _CONVOLUTIONS, classes=classes, channels=channels, image_size=image_size, width=width,
            forward=forward, twin=twin, bias=bias, dropout=dropout,
        )
    )  # fmt: skip
