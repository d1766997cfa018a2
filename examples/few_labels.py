"""Few labels: features that were learnt without labels, with a ridge on top, against training from scratch.

All nets are the same, and so are the labels. The ridge brings much of the gain, learnt filters bring the rest. Run it
with `python examples/few_labels.py`; it takes half a minute.
"""

from __future__ import annotations

import torch
from torch import nn

import fasthebb
from fasthebb import HPCA
from fasthebb.data import Loader, channel_statistics, few_labels, load
from fasthebb.models import Triangle
from fasthebb.training.finetune import accuracy

BUDGETS, SEEDS, STEPS, UNITS = (20, 50, 200), range(3), 150, 64
WAYS = ("HPCA, then a ridge", "random features, then a ridge", "from scratch")


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    conv = nn.Conv2d(1, UNITS, 7, padding=3, bias=False)
    head = nn.Linear(UNITS * 16, 10)
    return nn.Sequential(nn.BatchNorm2d(1, affine=False), conv, Triangle(0.7), nn.AvgPool2d(4), nn.Flatten(), head)


def pretrained(seed: int, images: Loader, lr: float) -> nn.Sequential:
    """The net after two passes over images whose labels nobody reads; with no rate, its statistics alone."""
    model = net(seed)
    hebb = fasthebb.attach(model, {"5": None, "*": HPCA("relu")})
    fasthebb.pretrain(model, hebb, images, torch.optim.SGD(hebb.parameters(), lr=lr), epochs=2)
    hebb.detach()
    return model


if __name__ == "__main__":
    digits = load("digits", image_size=16, channels=1)
    mean, std = channel_statistics(digits.train)
    test = Loader(digits.test, 500, mean=mean, std=std, shuffle=False)
    right = torch.zeros(len(WAYS), len(BUDGETS), len(SEEDS))
    for s, seed in enumerate(SEEDS):
        images = Loader(digits.train, 20, mean=mean, std=std, seed=seed)
        frozen = [pretrained(seed, images, lr) for lr in (0.03, 0.0)]
        for b, labels in enumerate(BUDGETS):
            chosen = few_labels(digits.train.labels, labels, seed=seed)
            few = Loader(digits.train, 20, mean=mean, std=std, indices=chosen, seed=seed)
            for w, model in enumerate(frozen):
                probe = fasthebb.linear_probe(*fasthebb.extract(model, "5", few))
                right[w, b, s] = probe.score(*fasthebb.extract(model, "5", test))
            scratch = net(seed)
            fasthebb.finetune(scratch, few, epochs=STEPS, lr=0.03, max_steps=STEPS)
            right[2, b, s] = accuracy(scratch, test)
    print(f"{'right, in %':30}" + "".join(f"{labels:5} labels" for labels in BUDGETS))
    for name, row in zip(WAYS, right.mean(2), strict=True):
        print(f"{name:30}" + "".join(f"{value:12.1f}" for value in row.tolist()))
