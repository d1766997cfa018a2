"""Students: what they are taught for which image, and that they learn it from images without labels."""

from __future__ import annotations

import pytest
import torch
from tiny import equal, images, loader, net, timeless
from torch import Tensor, nn
from torch.nn import functional as F

from fasthebb.data import ImageSet, Loader
from fasthebb.training.finetune import accuracy, finetune
from fasthebb.training.loop import Progress, Watcher
from fasthebb.training.student import soft_targets, teach


def fresh() -> nn.Sequential:
    torch.manual_seed(0)
    return net()


def test_soft_targets_by_hand() -> None:
    scores = torch.tensor([[1.0, -1.0], [0.0, 0.5], [2.0, 2.0]])
    found = soft_targets(scores, 0.5, torch.tensor([-1, 0, -1]))
    ratio = 1 / (1 + torch.tensor(-4.0).exp())
    torch.testing.assert_close(found, torch.tensor([[ratio, 1 - ratio], [1.0, 0.0], [0.5, 0.5]]))
    torch.testing.assert_close(soft_targets(scores, 0.5)[[0, 2]], found[[0, 2]])
    assert soft_targets(scores.double() * 1e6, 1e-3).tolist() == [[1, 0], [0, 1], [0.5, 0.5]]


def test_soft_targets_refuse() -> None:
    scores = torch.zeros(3, 2)
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="give a number above 0"):
            soft_targets(scores, temperature)
    with pytest.raises(ValueError, match="scores hold NaN"):
        soft_targets(scores / 0, 1.0)
    for labels in ([0, 1], [0, 1, 2]):
        with pytest.raises(ValueError, match=r"labels are .*: give \[M\] below the number of classes"):
            soft_targets(scores, 1.0, torch.tensor(labels))


class Numbers(nn.Module):
    """Gives each image the score of its number in the set alone, and remembers which it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(30, 30)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        numbers = (x[:, 0, 0, 0] * 255).round().long()
        self.seen.append(numbers)
        out: Tensor = self.fc(F.one_hot(numbers, 30).float())
        return out


@pytest.mark.parametrize("indices", [None, [4, 29, 7, 11, 2, 9, 20]])
def test_every_image_has_its_own_row(indices: list[int] | None) -> None:
    """Image i is all i; the first weights are 0, so that the loss is ln 30 but for what was learnt of i before."""
    pixels = torch.arange(30, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2).clone()
    numbered = Loader(ImageSet(pixels, torch.full((30,), -1)), 3, indices=indices, seed=1)
    model = Numbers()
    with torch.no_grad():
        model.fc.weight.zero_()
        model.fc.bias.zero_()
    targets = torch.eye(30).roll(1, dims=1)
    history = teach(model, numbered, targets, steps=5 * len(numbered), lr=200.0, momentum=0.0)
    assert set(torch.cat(model.seen).tolist()) == set(indices or range(30))
    chosen = torch.as_tensor(indices or range(30))
    assert model.fc.weight.argmax(0)[chosen].tolist() == ((chosen + 1) % 30).tolist()
    assert history[-1]["accuracy"] == 100


def test_it_is_finetune_on_labels_that_are_sure() -> None:
    runs = []
    for teaching in (False, True):
        model = fresh()
        torch.manual_seed(1)  # of the dropout
        if teaching:
            unknown = Loader(ImageSet(images(23).images, torch.full((23,), -1)), 5, mean=[0.4] * 3, std=[0.2] * 3)
            targets = F.one_hot(images(23).labels, 3).float()
            history = teach(model, unknown, targets, steps=12, lr=0.05, weight_decay=0.01)
        else:
            history = finetune(model, loader(), epochs=3, max_steps=12, lr=0.05, weight_decay=0.01)
        runs.append((model.state_dict(), history))
    for name, value in runs[0][0].items():
        torch.testing.assert_close(value, runs[1][0][name])
    assert [r["step"] for r in runs[1][1]] == [5, 10, 12]
    assert [r["accuracy"] for r in runs[0][1]] == [r["accuracy"] for r in runs[1][1]]


def test_a_student_learns_from_a_teachers_scores() -> None:
    brightness = images(60).images.float().mean((2, 3))  # the channel of its class is brighter
    targets = soft_targets(brightness - brightness.mean(1, keepdim=True), 50.0)
    assert targets.max() < 0.9
    model = fresh()
    teach(model, loader(60), targets, steps=200, lr=0.05)
    assert accuracy(model, loader(60)) > 90


class Stopping(Watcher):
    """Ends a stage at a step, and lets the next one go on from there."""

    def __init__(self) -> None:
        self.stop, self.saved, self.progress = 7, {}, Progress()

    def restore(self, parts):  # type: ignore[no-untyped-def]
        for name, state in self.saved.items():
            parts[name].load_state_dict(state)
        return self.progress

    def stepped(self, parts, progress):  # type: ignore[no-untyped-def]
        if progress.step == self.stop:
            self.saved, self.progress, self.stop = {n: p.state_dict() for n, p in parts.items()}, progress, 0
            raise InterruptedError


def test_resumed_in_the_middle_of_an_epoch() -> None:
    targets = torch.rand(23, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    whole, parted, watcher = fresh(), fresh(), Stopping()
    for model in (whole, parted):
        model[7].p = 0.0  # nothing random but the order
    history = teach(whole, loader(), targets, steps=12, lr=0.05)
    with pytest.raises(InterruptedError):
        teach(parted, loader(), targets, steps=12, lr=0.05, watcher=watcher)
    assert timeless(teach(parted, loader(), targets, steps=12, lr=0.05, watcher=watcher)) == timeless(history)
    assert equal(whole.state_dict(), parted.state_dict())


def test_targets_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"targets are \[22, 3\]: give a row for each image, up to number 22"):
        teach(fresh(), loader(), torch.zeros(22, 3), steps=1, lr=0.05)
    with pytest.raises(ValueError, match="views=2: a student sees an image once in a batch"):
        teach(fresh(), loader(views=2), torch.zeros(23, 3), steps=1, lr=0.05)
    with pytest.raises(ValueError, match=r"part=\(0, 2\): a student learns in one process"):
        teach(fresh(), loader(part=(0, 2)), torch.zeros(23, 3), steps=1, lr=0.05)
