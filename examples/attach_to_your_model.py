"""Attach rules to a model of your own, train it without labels, and see what a layer has learnt.

Run it with `python examples/attach_to_your_model.py`; it takes seconds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fasthebb
from fasthebb import HPCA, SoftWTA
from fasthebb.data import Loader, channel_statistics, load


class Net(nn.Module):
    """Any module will do: this one has a skip connection and a grouped convolution, and knows nothing of Hebb."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 5, bias=False)
        self.mix = nn.Conv2d(6, 12, 3, groups=2, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(6), nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(torch.relu(self.stem(x)))
        x = self.norm2(torch.relu(self.mix(x)) + x[:, :, 1:-1, 1:-1].repeat(1, 2, 1, 1))
        return self.head(x.mean(dim=(2, 3)))


def captured(weight: Tensor, x: Tensor) -> float:
    """How much of the energy of the patches of x lies in the span of a convolution's weights, in percent."""
    patches = F.unfold(x, weight.shape[2:]).mT.flatten(0, 1)
    basis, _ = torch.linalg.qr(weight.detach().flatten(1).T)
    return 100 * float((patches @ basis).norm() / patches.norm()) ** 2


if __name__ == "__main__":
    torch.manual_seed(0)
    digits = load("digits", image_size=16, channels=1)
    mean, std = channel_statistics(digits.train)
    train, test = (Loader(part, 64, mean=mean, std=std) for part in (digits.train, digits.test))
    x_test, model = next(iter(test))[0], Net()
    print(f"before: 6 units of the stem span {captured(model.stem.weight, x_test):.0f} % of new patches")

    hebb = fasthebb.attach(model, {"head": None, "stem": HPCA("identity"), "*": SoftWTA(temperature=0.05)})
    optimizer = torch.optim.SGD(hebb.parameters(), lr=1e-2)
    for epoch in range(3):
        train.set_epoch(epoch)
        for x, _ in train:
            with torch.no_grad():
                model(x)
            hebb.write_grad()
            optimizer.step()
    print(hebb.summary())
    hebb.detach()
    print(f"after:  they span {captured(model.stem.weight, x_test):.0f} %")
