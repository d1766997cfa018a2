"""Pre-training: all layers at once or one after the other, and never a look at a label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import torch
from tiny import HEAD, LAYERS, equal, loader, net
from torch import Tensor, nn

import fasthebb
from fasthebb import HPCA, Oja, Rule, SoftWTA
from fasthebb.training.loop import Progress, Stateful, Watcher
from fasthebb.training.pretrain import pretrain

RULES: list[Rule] = [HPCA(), SoftWTA(0.02), Oja()]


class Unlabelled:
    """Images whose labels cannot be used for anything."""

    def __init__(self, count: int = 23) -> None:
        self._loader = loader(count)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Tensor, object]]:
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, object]]:
        return ((x, object()) for x, _ in self._loader.batches(epoch, start))


def train(
    rules: Rule | Mapping[str, Rule | None], *, epochs: int, model: nn.Module | None = None, **more: object
) -> nn.Module:
    """A net trained by the package."""
    if model is None:
        torch.manual_seed(0)
        model = net()
    hebb = fasthebb.attach(model, {HEAD: None, **(rules if isinstance(rules, Mapping) else {"*": rules})})
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.01)
    pretrain(model, hebb, more.pop("loader", Unlabelled()), optimizer, epochs=epochs, **more)  # type: ignore[arg-type]
    hebb.detach()
    return model


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_joint_is_the_plain_loop(rule: Rule) -> None:
    torch.manual_seed(0)
    model = net()
    hebb = fasthebb.attach(model, {HEAD: None, "*": rule})
    optimizer, batches = torch.optim.SGD(hebb.parameters(), lr=0.01), loader()
    for epoch in range(2):
        for x, _ in batches.batches(epoch):
            with torch.no_grad():
                model(x)
            hebb.write_grad()
            optimizer.step()
    assert equal(train(rule, epochs=2).state_dict(), model.state_dict())


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_layerwise_is_one_layer_after_the_other_on_what_stands_before_it_in_eval_mode(rule: Rule) -> None:
    torch.manual_seed(0)
    model = net()
    hebb = fasthebb.attach(model, {HEAD: None, "*": rule})
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.01)
    for phase, (layer, before) in enumerate(zip(LAYERS, (model[:0], model[:4]))):
        hebb.focus(layer)
        model.train()
        before.eval()
        for epoch in range(2):
            for x, _ in loader().batches(2 * phase + epoch):
                with torch.no_grad():
                    (model if phase else model[:4])(x)  # the first phase leaves the second layer's statistics alone
                hebb.write_grad()
                optimizer.step()
    assert equal(train(rule, epochs=2, order="layerwise").state_dict(), model.state_dict())


def test_a_phase_keeps_the_statistics_that_follow_its_layer_and_no_others() -> None:
    steps: list[list[int]] = []

    class Counts(Watcher):
        def stepped(self, parts: Mapping[str, Stateful], progress: Progress) -> None:
            steps.append([int(v) for n, v in parts["model"].state_dict().items() if n.endswith("num_batches_tracked")])

    model = nn.Sequential(nn.BatchNorm2d(3, affine=False), *net())
    hebb = fasthebb.attach(model, {"9": None, "*": HPCA()})
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.01)
    pretrain(model, hebb, loader(), optimizer, epochs=1, order="layerwise", max_steps=2, watcher=Counts())
    assert steps == [[1, 1, 0], [2, 2, 0], [2, 2, 1], [2, 2, 2]]
    assert all(module.training for module in model.modules()), "left in training mode"


class Seen(Watcher):
    """Which weights each step changed."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.changed: list[list[str]] = []

    def stepped(self, parts: Mapping[str, Stateful], progress: Progress) -> None:
        now = {name: p.clone() for name, p in parts["model"].state_dict().items() if name in self.weights}
        self.changed.append([name for name, value in now.items() if not torch.equal(value, self.weights[name])])
        self.weights = now


@pytest.mark.parametrize(
    ("order", "max_steps", "wanted"),
    [
        ("joint", 3, [["0.weight", "4.weight"]] * 3),
        ("layerwise", 3, [["0.weight"]] * 3 + [["4.weight"]] * 3),
        ("layerwise", None, [["0.weight"]] * 10 + [["4.weight"]] * 10),
    ],
)
def test_which_layer_learns_when(order: str, max_steps: int | None, wanted: list[list[str]]) -> None:
    torch.manual_seed(0)
    model = net()
    seen = Seen(model)
    train(SoftWTA(0.02), epochs=2, model=model, order=order, max_steps=max_steps, watcher=seen)
    assert seen.changed == wanted


def test_history_and_mode() -> None:
    model = net().eval()
    hebb = fasthebb.attach(model, {HEAD: None, "*": HPCA()})
    history = pretrain(model, hebb, loader(), torch.optim.SGD(hebb.parameters(), lr=0.01), epochs=2)
    assert [(r["epoch"], r["step"]) for r in history] == [(1, 5), (2, 10)]
    assert set(history[0]) == {"epoch", "step", "seconds", *(f"{k}/{n}" for k in ("update", "dead") for n in LAYERS)}
    assert all(record["update/0"] > 0 for record in history)
    assert model.training


def test_an_unknown_order() -> None:
    with pytest.raises(ValueError, match="order 'sideways' is unknown: choose joint or layerwise"):
        train(HPCA(), epochs=1, order="sideways")


def test_a_broken_image_names_the_layer_and_frees_the_handle() -> None:
    torch.manual_seed(0)
    model = net()
    before = {name: p.clone() for name, p in model.named_parameters()}
    hebb = fasthebb.attach(model, {HEAD: None, "*": HPCA()})
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.1)
    nan = [(torch.full((4, 3, 12, 12), float("nan")), torch.zeros(4))]
    with pytest.raises(FloatingPointError, match="layer '0'"):
        pretrain(model, hebb, nan, optimizer, epochs=1, order="layerwise")
    assert equal(before, dict(model.named_parameters()))
    model.load_state_dict(net().state_dict())
    with torch.no_grad():
        model(next(iter(loader()))[0])
    hebb.write_grad()
    assert all(p.grad is not None for p in hebb.parameters()), "both layers learn again"


def test_images_without_labels_are_enough() -> None:
    batches = list(loader(23))
    wanted = train(Oja(), epochs=2, loader=batches)
    for alone in ([x for x, _ in batches], [(x,) for x, _ in batches]):
        assert equal(train(Oja(), epochs=2, loader=alone).state_dict(), wanted.state_dict())


@pytest.mark.parametrize(
    ("given", "said"),
    [([], "The loader gives no batch"), ((batch for batch in loader()), "type generator, has no length")],
)
def test_a_loader_that_cannot_be_gone_through(given: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train(Oja(), epochs=2, loader=given)


class Aside(nn.Module):
    """A net with one layer that it calls in training mode alone."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.aside = (nn.Linear(4, 4, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x)
        return self.aside(y) if self.training else y


def test_a_layer_without_a_phase_is_named() -> None:
    model, data = Aside(), [(torch.randn(8, 4),)]
    hebb = fasthebb.attach(model, Oja())
    opt = torch.optim.SGD(hebb.parameters(), lr=1e-2)
    with pytest.raises(ValueError, match=r"^aside took no part in a forward in eval mode"):
        pretrain(model, hebb, data, opt, epochs=1, order="layerwise")
    pretrain(model, hebb, data, opt, epochs=1)


def test_what_does_not_belong_to_the_model() -> None:
    model, other, data = Aside(), Aside(), [(torch.randn(8, 4),)]
    hebb = fasthebb.attach(model, Oja())
    with pytest.raises(
        ValueError, match=r"^main\.weight learns by a rule, but the optimizer lacks it: make it of hebb"
    ):
        pretrain(model, hebb, data, torch.optim.SGD(other.parameters()), epochs=1)
    with pytest.raises(ValueError, match=r"^main\.weight of the handle is of another model"):
        pretrain(other, hebb, data, torch.optim.SGD(other.parameters()), epochs=1)
    hebb.detach()
    with pytest.raises(ValueError, match="handle is detached"):
        pretrain(model, hebb, data, torch.optim.SGD(hebb.parameters()), epochs=1)


def test_what_was_heard_before_does_not_count() -> None:
    data, moved = loader(8), []
    for tried in (False, True):
        torch.manual_seed(0)
        model = net()
        hebb = fasthebb.attach(model, {HEAD: None, "*": Oja()})
        if tried:
            for layer in hebb.layers:  # no batch norm keeps its statistics
                model.eval().get_submodule(layer).train()
                model(torch.randn(3, *next(iter(data))[0].shape[1:]))
        pretrain(model, hebb, data, torch.optim.SGD(hebb.parameters(), lr=1e-2), epochs=1)
        moved.append(model.state_dict())
    assert equal(*moved)
