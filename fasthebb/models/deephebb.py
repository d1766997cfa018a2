"""The deep convolutional net of SoftHebb: normalised inputs, wide layers, Triangle activations.

BN, conv5 3→96, Triangle(0.7), max-pool 4/2 | BN, conv3 96→384, Triangle(1.4), max-pool 4/2 | BN, conv3 384→1536,
Triangle(1), average-pool 2 | dropout, fc →classes. BN has no affine part, convolutions keep the size of their maps by
reflection. Source: Journé, Garcia Rodriguez, Guo, Moraitis 2023, "Hebbian deep learning without feedback" (ICLR;
arXiv 2209.11883).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from fasthebb.models.blocks import FORWARDS, TWINS, Triangle, check_image_size, one_of, scaled

MIN_IMAGE_SIZE = 8
INITIAL = 25.0  # deviation of a unit's initial weights, times √K

# units, kernel size, power of the Triangle
_CONVOLUTIONS = ((96, 5, 0.7), (384, 3, 1.4), (1536, 3, 1.0))


class DeepHebb(nn.Sequential):
    """conv1 … conv3, fc4, bn1 … bn3 before the convolutions: images [N, channels, H, W] to scores [N, classes]."""


def deephebb(
    classes: int = 10,
    *,
    channels: int = 3,
    image_size: int = 32,
    width: float = 1.0,
    forward: str = "relu",
    twin: str = "hebbian",
    dropout: float = 0.5,
) -> DeepHebb:
    """Build SoftHebb's net: convolutions without bias drawn from N(0, 25²/K), K the fan-in; the head as PyTorch does.

    `image_size` in pixels, square; `width` scales the hidden units. The activation is always the Triangle: every
    `forward` of FORWARDS and every `twin` of TWINS gives this same net. Raises ValueError for an unknown name, a
    width ≤ 0 or images under 8 px.
    """
    one_of("forward", forward, FORWARDS)
    one_of("twin", twin, TWINS)
    check_image_size("deephebb", image_size, MIN_IMAGE_SIZE)
    parts: list[tuple[str, nn.Module]] = []
    fan_in = channels
    for index, (units, kernel, power) in enumerate(_CONVOLUTIONS, start=1):
        units = scaled(units, width)
        layer = nn.Conv2d(fan_in, units, kernel, padding=kernel // 2, padding_mode="reflect", bias=False)
        nn.init.normal_(layer.weight, std=INITIAL / (fan_in * kernel**2) ** 0.5)
        last = index == len(_CONVOLUTIONS)
        parts += [
            (f"bn{index}", nn.BatchNorm2d(fan_in, affine=False)),
            (f"conv{index}", layer),
            (f"act{index}", Triangle(power)),
            (f"pool{index}", nn.AvgPool2d(2) if last else nn.MaxPool2d(4, stride=2, padding=1)),
        ]
        fan_in = units
    side = image_size // 2 ** len(_CONVOLUTIONS)  # every pool halves, and rounds down
    head = nn.Linear(fan_in * side**2, classes)
    parts += [("flatten", nn.Flatten()), ("dropout", nn.Dropout(dropout)), (f"fc{len(_CONVOLUTIONS) + 1}", head)]
    return DeepHebb(OrderedDict(parts))
