"""FixMatch: the loss is the formula, only what is sure counts, both views are of one image, few labels go further."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import equal, images, net
from torch import Tensor, nn

from fasthebb.data import ImageSet, Loader
from fasthebb.training.finetune import accuracy, finetune
from fasthebb.training.fixmatch import cosine, fixmatch, fixmatch_loss
from fasthebb.training.loop import Progress, Watcher


def softmax(row: list[float]) -> list[float]:
    total = sum(map(math.exp, row))
    return [math.exp(value) / total for value in row]


@pytest.mark.parametrize("threshold", [0.0, 0.9, 0.95, 1.1])
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_the_loss_is_the_formula(threshold: float, weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, weak, strong = (3 * torch.randn(n, 3, generator=generator).double() for n in (4, 9, 9))
    labels = torch.tensor([0, 2, 1, 2])
    supervised = sum(-math.log(softmax(row)[y]) for row, y in zip(scores.tolist(), labels.tolist())) / 4
    consistency, sure = 0.0, 0
    for w, s in zip(weak.tolist(), strong.tolist()):
        p = softmax(w)
        if max(p) >= threshold:
            sure += 1
            consistency -= math.log(softmax(s)[p.index(max(p))]) / 9
    found = fixmatch_loss(scores, labels, weak, strong, threshold=threshold, weight=weight)
    assert float(found.value) == pytest.approx(supervised + weight * consistency)
    assert float(found.sure) == pytest.approx(sure / 9)
    assert {0.0: sure == 9, 0.9: 0 < sure < 9, 0.95: 0 < sure < 9, 1.1: sure == 0}[threshold]


def test_no_gradient_through_what_the_net_is_sure_of() -> None:
    scores, weak, strong = (torch.randn(5, 3, requires_grad=True) for _ in range(3))
    fixmatch_loss(scores, torch.zeros(5).long(), weak, strong, threshold=0.0).value.backward()  # type: ignore[no-untyped-call]
    assert weak.grad is None
    assert strong.grad is not None
    assert strong.grad.any()
    strong.grad = None
    sure = torch.tensor([True, False, True, False, False])
    weak = torch.where(sure[:, None], torch.tensor([9.0, 0, 0]), torch.tensor([1.0, 0, 0]))
    fixmatch_loss(scores, torch.zeros(5).long(), weak, strong).value.backward()  # type: ignore[no-untyped-call]
    assert torch.equal(strong.grad.any(1), sure)


def loaders(count: int = 23, **more: int) -> tuple[Loader, Loader, Loader]:
    norm = {"mean": [0.4] * 3, "std": [0.2] * 3}
    return (
        Loader(images(count), 3, indices=[0, 1, 2, 3, 4, 5, 6], augment="light", **norm),
        Loader(images(count), 6, augment="light", **norm),
        Loader(images(count), 6, augment="hard", **norm, **more),
    )


class Recording(nn.Module):
    """A linear classifier that keeps what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 144, 3)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        out: Tensor = self.fc(x.flatten(1))
        return out


def test_what_a_step_sees() -> None:
    """The batches of the three loaders together, one after the other, each going round at its own pace."""
    model = Recording()
    history = fixmatch(model, *loaders(), steps=10, lr=0.01)
    few, weak, strong = ([x for epoch in range(5) for x, _ in loader.batches(epoch)] for loader in loaders())
    assert (len(loaders()[0]), len(loaders()[1])) == (2, 4)
    for seen, parts in zip(model.seen, zip(few, weak, strong)):
        assert torch.equal(seen, torch.cat(parts))
    assert len(model.seen) == 10
    assert [r["step"] for r in history] == [2, 4, 6, 8, 10]
    assert [r["lr"] for r in history] == pytest.approx(
        [0.01 * math.cos(7 * math.pi * k / 160) for k in (1, 3, 5, 7, 9)]
    )
    assert cosine(0, 9) == 1
    assert 0.19 < cosine(999, 1000) < 0.2


def test_one_step_of_plain_descent() -> None:
    torch.manual_seed(0)
    model, twin = Recording(), Recording()
    twin.load_state_dict(model.state_dict())
    more = {"threshold": 0.4, "weight": 2.0}
    fixmatch(model, *loaders(), steps=1, lr=0.01, momentum=0.0, weight_decay=0.1, **more)
    (x, y), (u, _), (v, _) = (next(iter(loader)) for loader in loaders())
    loss = fixmatch_loss(twin(x), y, twin(u), twin(v), **more)
    assert loss.sure > 0
    loss.value.backward()  # type: ignore[no-untyped-call]
    for name, p in twin.named_parameters():
        assert p.grad is not None
        want = p - 0.01 * (p.grad + 0.1 * p)
        torch.testing.assert_close(dict(model.named_parameters())[name], want, rtol=1e-4, atol=1e-6)


def test_hidden_layers_have_a_rate_of_their_own() -> None:
    class Two(Recording):
        def __init__(self) -> None:
            super().__init__()
            del self.fc
            self.hidden = nn.Linear(3 * 144, 3 * 144)
            self.fc = nn.Linear(3 * 144, 3)  # the last one, so the head

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.hidden(x.flatten(1)))

    moved: dict[float, dict[str, Tensor]] = {}
    for rate in (1.0, 5.0, 0.0):
        torch.manual_seed(0)
        model = Two()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        fixmatch(model, *loaders(), steps=1, lr=0.01, hidden_rate=rate, momentum=0.0)
        moved[rate] = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    for name in before:
        factor = 1.0 if name.startswith("fc") else 5.0
        torch.testing.assert_close(moved[5.0][name], factor * moved[1.0][name], rtol=1e-3, atol=1e-6)
        assert bool(moved[0.0][name].any()) == name.startswith("fc")
    with pytest.raises(ValueError, match=r"hidden_rate=-1.0: give a number of 0 or more"):
        fixmatch(Two(), *loaders(), steps=1, hidden_rate=-1.0)


class Noting(Watcher):
    """Keeps the weights of every step."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def stepped(self, parts, progress):  # type: ignore[no-untyped-def]
        self.weights.append(parts["model"].state_dict()["fc.weight"].clone())


def test_ends_with_the_moving_average_of_its_weights() -> None:
    def weights(steps: int, decay: float) -> list[Tensor]:
        torch.manual_seed(0)
        noting = Noting()
        fixmatch(Recording(), *loaders(), steps=steps, lr=0.01, decay=decay, watcher=noting)
        return noting.weights

    every = weights(12, 0.0)[:-1]  # of decay 0 the last is that of its step, whose rate depends on how many there are
    mean = every[0]
    for number, now in enumerate([*every, weights(12, 0.0)[-1]]):
        mean = mean + max(1 - 0.5, 9 / (number + 9)) * (now - mean)
    torch.testing.assert_close(weights(12, 0.5)[-1], mean, rtol=1e-5, atol=1e-7)
    assert not torch.equal(weights(12, 0.5)[-1], weights(12, 0.0)[-1])


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
    runs, watcher = [], Stopping()
    for stops in (False, True):
        torch.manual_seed(0)
        model = net()
        model[7].p = 0.0  # nothing random but the order
        if stops:
            with pytest.raises(InterruptedError):
                fixmatch(model, *loaders(), steps=11, watcher=watcher)
        fixmatch(model, *loaders(), steps=11, watcher=watcher if stops else None)
        runs.append(model.state_dict())
    assert equal(*runs)


def coloured(count: int, seed: int) -> ImageSet:
    """Noise, in the channel of an image's class a little brighter."""
    pixels = torch.randint(0, 200, (count, 3, 12, 12), generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % 3
    pixels[torch.arange(count), labels] += 20
    return ImageSet(pixels.to(torch.uint8), labels)


def test_few_labels_go_further() -> None:
    """Two labels a class: what images without labels add to what the labels alone teach in as many steps."""
    norm = {"mean": [0.4] * 3, "std": [0.2] * 3}
    train, test = coloured(300, 0), Loader(coloured(300, 1), 300, **norm)
    few = Loader(train, 6, indices=range(6), augment="light", **norm)
    blind = ImageSet(train.images, torch.full((300,), -1))
    weak, strong = (Loader(blind, 30, augment=name, **norm) for name in ("light", "hard"))
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(net())
        models[-1][7].p = 0.0
    finetune(models[0], few, epochs=100, lr=0.03, weight_decay=5e-4)
    history = fixmatch(models[1], few, weak, strong, steps=100)
    assert history[-1]["sure"] > 20 > history[0]["sure"]
    assert accuracy(models[1], test) > accuracy(models[0], test) + 5


def test_views_of_other_images_are_refused() -> None:
    few, weak, _ = loaders()
    for strong in (loaders(seed=1)[2], loaders(22)[2], Loader(images(23), 5)):
        with pytest.raises(ValueError, match="weak and strong give other images: make both loaders of one set, seed"):
            fixmatch(net(), few, weak, strong, steps=1)
    with pytest.raises(ValueError, match="max_steps=0: take at least one step"):
        fixmatch(net(), *loaders(), steps=0)


def test_a_rate_that_diverges_names_a_layer() -> None:
    with pytest.raises(FloatingPointError, match=r"from layer '\d' on: lower the learning rate 1e\+30"):
        fixmatch(net(), *loaders(), steps=20, lr=1e30)
