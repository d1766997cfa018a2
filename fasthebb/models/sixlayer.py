"""The six-layer net of the published experiments, as a Hebbian or a backprop twin with the same state-dict keys.

conv5 3→96, act, pool2, BN | conv3 96→128, act, BN | conv3 128→192, act, pool2, BN* | conv3 192→256, act, BN* |
fc 2304→4096, act, BN* | dropout, fc →classes. BN* is variance-preserving in the Hebbian twin and plain in the other; no
padding. Source: Lagani, Gennaro, Fassold, Amato 2022 (arXiv 2207.03172).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from fasthebb.models.blocks import FORWARDS, batch_norm, block, one_of, scaled

MIN_IMAGE_SIZE = 24

# units, kernel size, max-pool, variance-preserving batch norm
_CONVOLUTIONS = ((96, 5, 2, False), (128, 3, None, False), (192, 3, 2, True), (256, 3, None, True))


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
    one_of("forward", forward, FORWARDS)
    if image_size < MIN_IMAGE_SIZE:
        raise ValueError(
            f"image_size {image_size} is too small for sixlayer: enlarge the images to {MIN_IMAGE_SIZE} px at least"
        )
    parts: list[tuple[str, nn.Module]] = []
    fan_in, side = channels, image_size
    for index, (units, kernel, pool, preserving) in enumerate(_CONVOLUTIONS, start=1):
        units = scaled(units, width)
        layer = nn.Conv2d(fan_in, units, kernel, bias=bias)
        norm = batch_norm(units, 2, twin=twin, preserving=preserving)
        parts += block(index, layer, norm, forward=forward, pool=pool)
        fan_in, side = units, (side - kernel + 1) // (pool or 1)
    hidden = scaled(4096, width)
    parts.append(("flatten", nn.Flatten()))
    layer5 = nn.Linear(fan_in * side * side, hidden, bias=bias)
    parts += block(5, layer5, batch_norm(hidden, 1, twin=twin, preserving=True), forward=forward)
    parts += [("dropout", nn.Dropout(dropout)), ("fc6", nn.Linear(hidden, classes))]
    return SixLayer(OrderedDict(parts))
