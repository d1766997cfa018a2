"""What Hebbian pre-training costs on many GPUs: data, compute and sums over ranks; and how a rate follows the batch.

Work and bytes are computed from the nets; what a GPU, a wire or a core does is assumed, in ASSUMED: put your own there.
Run it with `python examples/scale_simulation.py`; docs/scale.md discusses what it prints.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

import fasthebb
from fasthebb.data import Loader, channel_statistics, load
from fasthebb.models import build, head_name

ASSUMED = {
    "flop/s of a GPU, sustained in bf16": 150e12,
    "bytes/s of sums inside a machine": 200e9,
    "bytes/s of sums between machines": 40e9,
    "seconds until sums begin": 50e-6,
    "bytes of an image": 110e3,
    "images/s that a core decodes": 150.0,
    "hours until one GPU fails": 50e3,
    "bytes/s of checkpoints": 1e9,
}
IMAGENET, BILLION, BATCH = 1_281_167, 1_000_000_000, 64  # images; images a GPU and step


class Net(NamedTuple):
    """The hidden layers of a net: multiply-adds an image and a step, and how many numbers ranks sum in a step."""

    name: str
    per_image: float
    per_step: float
    summed: int


def layers(model: nn.Module, x: torch.Tensor) -> list[tuple[int, int, int]]:
    """Units, fan-in and locations of the layers that a forward calls."""
    seen: list[tuple[int, int, int]] = []

    def note(layer: nn.Conv2d | nn.Linear, _: object, out: torch.Tensor) -> None:
        seen.append((len(layer.weight), layer.weight[0].numel(), out[0].numel() // len(layer.weight)))

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and name != head_name(model):
            layer.register_forward_hook(note)
    model.eval()(x)
    return seen


def hebbian(name: str, side: int) -> Net:
    """HPCA on a net: forward and correlation cost as much as each other, then yᵀy of every image and its use on W."""
    with torch.device("meta"):
        found = layers(build(name, classes=1000, image_size=side), torch.empty(1, 3, side, side))
    each = sum(2 * units * fan_in * places + units**2 * places for units, fan_in, places in found)
    once = sum(min(units, BATCH * places) * units * fan_in for units, fan_in, places in found)
    return Net(f"{name}, {side} px", each, once, sum(units * (fan_in + 2) for units, fan_in, _ in found))


def plan(net: Net, gpus: int) -> dict[str, float]:
    """What so many GPUs do with BATCH images each a step, eight to a machine."""
    compute = 2 * (BATCH * net.per_image + net.per_step) / ASSUMED["flop/s of a GPU, sustained in bf16"]
    size, wire = 4 * net.summed, f"bytes/s of sums {'inside a machine' if gpus <= 8 else 'between machines'}"
    sums = 2 * (gpus - 1) / gpus * size / ASSUMED[wire] + ASSUMED["seconds until sums begin"]
    rate = gpus * BATCH / (compute + sums)
    failing, saving = 3600 * ASSUMED["hours until one GPU fails"] / gpus, size / ASSUMED["bytes/s of checkpoints"]
    return {
        "GPUs": gpus, "compute ms": 1e3 * compute, "sums ms": 1e3 * sums, "summed MB": size / 1e6, "images/s": rate,
        "data GB/s": rate * ASSUMED["bytes of an image"] / 1e9, "cores": rate / ASSUMED["images/s that a core decodes"],
        "h ImageNet": 20 * IMAGENET / rate / 3600, "h 10^9": BILLION / rate / 3600,
        "save min": math.sqrt(2 * failing * saving) / 60,
    }  # fmt: skip


def learnt(batch: int, rate: float) -> torch.Tensor:
    """A layer's weights after two epochs of HPCA on digits."""
    digits = load("digits", image_size=16)
    mean, std = channel_statistics(digits.train)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 16, 5, bias=False))
    hebb = fasthebb.attach(model, fasthebb.HPCA("identity"))
    images = Loader(digits.train, batch, mean=mean, std=std)
    fasthebb.pretrain(model, hebb, images, torch.optim.SGD(hebb.parameters(), lr=rate), epochs=2)
    return model[0].weight.detach().flatten()


if __name__ == "__main__":
    for net in (hebbian("tenlayer", 210), hebbian("vgg16", 224)):
        for row in (plan(net, gpus) for gpus in (8, 64)):
            print(net.name, *(f"{name} {value:.4g}" for name, value in row.items()), sep=", ")
    small = learnt(16, 1e-3)
    for batch, rate in ((64, 1e-3), (64, 4e-3), (256, 1e-3), (256, 16e-3)):
        off = float((learnt(batch, rate) - small).norm() / (small - learnt(16, 0.0)).norm())
        print(f"batch {batch}, rate {rate:g}: {100 * off:.0f} % off the way that batches of 16 go at rate 0.001")
