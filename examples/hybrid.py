"""Rules beside the loss: fine-tune on few labels, while layers also follow what a Hebbian rule says.

Here no rule classifies better than the loss alone: seeds differ by more. Rules of the hidden layer make its units
describe images that nobody labelled. Run it with `python examples/hybrid.py`; it takes seconds.
"""

from __future__ import annotations

import torch
from torch import nn

import fasthebb
from fasthebb import HPCA, Prototypes, SoftWTA, Taught
from fasthebb.data import Loader, channel_statistics, few_labels, load
from fasthebb.training.finetune import accuracy

LABELS, SEEDS, CLASSES = 50, 5, 10
WAYS = {  # rules by layer, of which 1 is the hidden one and 3 the head; and their weight beside the loss
    "the loss alone": (None, 0.0),
    "and HPCA": ({"1": HPCA("tanh"), "*": None}, 0.01),
    "and a taught SoftWTA": ({"1": Taught(SoftWTA(temperature=0.05), CLASSES), "*": None}, 0.3),
    "and class means": ({"3": Prototypes(), "*": None}, 0.03),
}


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    hidden, head = nn.Linear(256, 20, bias=False), nn.Linear(20, CLASSES, bias=False)
    return nn.Sequential(nn.Flatten(), hidden, nn.Tanh(), head)


def captured(weight: torch.Tensor, x: torch.Tensor) -> float:
    """How much of the energy of images x lies in the span of the hidden units, in percent."""
    basis, _ = torch.linalg.qr(weight.detach().T)
    return 100 * float((x.flatten(1) @ basis).norm() / x.norm()) ** 2


if __name__ == "__main__":
    digits = load("digits", image_size=16, channels=1)
    mean, std = channel_statistics(digits.train)
    test = Loader(digits.test, 500, mean=mean, std=std, shuffle=False)
    x_test = next(iter(test))[0]
    for name, (rules, local) in WAYS.items():
        found = []
        for seed in range(SEEDS):
            chosen = few_labels(digits.train.labels, LABELS, seed=seed)
            train = Loader(digits.train, 25, mean=mean, std=std, indices=chosen, seed=seed)
            model = net(seed)
            hebb = fasthebb.attach(model, rules) if rules else None
            fasthebb.finetune(model, train, epochs=30, lr=0.02, hebb=hebb, local=local)
            found.append((accuracy(model, test), captured(model[1].weight, x_test)))
        right, span = zip(*found, strict=True)
        print(
            f"{name:21} {sum(right) / SEEDS:.0f} % right ({min(right):.0f} to {max(right):.0f} by seed); "
            f"hidden units span {sum(span) / SEEDS:.0f} % of new images"
        )
