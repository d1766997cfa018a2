"""SimCLR's training: its loss and steps written out, resumed bit for bit, ended by time, and what it leaves alone."""

from __future__ import annotations

import copy
import importlib
import math
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from tiny import QUIET, SIDE, equal, images, metrics, state
from torch import Tensor, nn

from fasthebb.data import Loader
from fasthebb.models import build, head_name
from fasthebb.training import checkpoint, loop
from fasthebb.training.loop import Progress, Stateful, Watcher
from fasthebb.training.run import RunFolder
from fasthebb.training.simclr import pretrain_simclr
from fasthebb.training.stop import Interrupted

pytest.importorskip("lightly", reason="lightly is not installed: pip install --no-deps lightly")


def fresh() -> nn.Sequential:
    torch.manual_seed(0)
    return tiny.net()


def loader(count: int = 23, side: int = SIDE, **more: Any) -> Loader:
    options: dict[str, Any] = {"mean": [0.4] * 3, "std": [0.2] * 3, "augment": "contrast", "views": 2}
    return Loader(images(count, side=side), 8, **(options | more))


class Doubles:
    """The same batches in float64, their labels nothing to compute with."""

    def __len__(self) -> int:
        return len(loader())

    def __iter__(self) -> Any:
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Any:
        return ((x.double(), object()) for x, _ in loader().batches(epoch, start))


class Spy(Watcher):
    """Keeps the net that training starts from, and the rate of every step."""

    def restore(self, parts: Mapping[str, Stateful]) -> Progress:
        self.start = copy.deepcopy(parts["model"])
        self.rates: list[float] = []
        return Progress()

    def stepped(self, parts: Mapping[str, Any], progress: Progress) -> None:
        self.rates.append(parts["optimizer"].param_groups[0]["lr"])


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Equation 1 of the paper, view by view: of all other views, which is of the same image."""
    views = [z / z.norm() for z in (*first, *second)]
    half, losses = len(first), []
    for i, view in enumerate(views):
        likeness = {k: ((view @ other) / temperature).exp() for k, other in enumerate(views) if k != i}
        losses.append(-(likeness[(i + half) % (2 * half)] / sum(likeness.values())).log())
    return torch.stack(losses).mean()


def test_training_is_the_loop_written_out() -> None:
    lr, momentum, decay, temperature, epochs = 0.05, 0.9, 1e-3, 0.4, 2
    model, spy = fresh().double(), Spy()
    history = pretrain_simclr(
        model, Doubles(), epochs=epochs, lr=lr, weight_decay=decay, temperature=temperature, watcher=spy
    )
    body, projection = nn.Sequential(*fresh().double()[:-2]).train(), spy.start.head.train()
    parameters = [*body.parameters(), *projection.parameters()]
    velocity = [torch.zeros_like(p) for p in parameters]
    for epoch in range(epochs):
        losses = []
        for batch, (x, _) in enumerate(Doubles().batches(epoch)):
            rate = lr * (1 + math.cos(math.pi * (3 * epoch + batch) / 6)) / 2
            embedded = projection(body(x))
            loss = nt_xent(embedded[: len(x) // 2], embedded[len(x) // 2 :], temperature)
            losses.append((loss.item() * len(x), len(x)))
            with torch.no_grad():
                for p, v, gradient in zip(parameters, velocity, torch.autograd.grad(loss, parameters)):
                    gradient = gradient + decay * p
                    v.mul_(momentum).add_(gradient)
                    p -= rate * (gradient + momentum * v)
        mean = sum(a for a, _ in losses) / sum(n for _, n in losses)
        assert history[epoch]["loss"] == pytest.approx(mean, rel=1e-9)
    trained = model.state_dict()
    for name, value in body.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-9, atol=1e-12, msg=name)
    assert [(r["epoch"], r["step"]) for r in history] == [(1, 3), (2, 6)]
    assert set(history[0]) == {"epoch", "step", "seconds", "loss"}


def test_the_projection_head() -> None:
    spy = Spy()
    pretrain_simclr(fresh(), loader(), epochs=1, max_steps=1, watcher=spy)
    shapes = [tuple(m.weight.shape) for m in spy.start.head.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(8, 8), (128, 8)]
    x = torch.randn(6, 3, SIDE, SIDE)
    assert torch.equal(spy.start.train()(x), spy.start.train()(x)), "no dropout right before it"


def test_it_learns() -> None:
    history = pretrain_simclr(fresh(), loader(60), epochs=12, lr=0.1)
    assert history[-1]["loss"] < history[0]["loss"] - 0.2


@pytest.mark.parametrize(("name", "side"), [("sixlayer", 24), ("deephebb", 16), ("tiny:net", SIDE)])
def test_the_head_of_any_net_stays(name: str, side: int) -> None:
    torch.manual_seed(0)
    model = build(name, classes=3, image_size=side, width=0.05 if ":" not in name else 1.0, twin="backprop")
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    pretrain_simclr(model, loader(8, side), epochs=1, lr=0.1)
    after, head = model.state_dict(), head_name(model)
    assert list(after) == list(before)
    assert modes == [module.training for module in model.modules()]
    for key in before:
        if key.startswith(f"{head}."):
            assert torch.equal(before[key], after[key]), key
        elif key.endswith("weight"):
            assert not torch.equal(before[key], after[key]), key


def trained(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    model = tiny.net()
    pretrain_simclr(model, loader(seed=seed), epochs=2)
    return model.state_dict()


def test_the_seed_decides() -> None:
    assert equal(trained(0), trained(0))
    assert not torch.equal(trained(0)["0.weight"], trained(1)["0.weight"])


def test_max_steps_end_it() -> None:
    assert pretrain_simclr(fresh(), loader(), epochs=9, max_steps=7)[-1]["step"] == 7


def test_time_ends_it_and_lowers_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))  # a step takes a second
    spy = Spy()
    history = pretrain_simclr(fresh(), loader(), epochs=100, lr=1.0, max_seconds=4.5, watcher=spy)
    assert [(r["epoch"], r["step"], r["seconds"]) for r in history] == [(1, 3, 3.0), (2, 5, 5.0)]
    assert spy.rates == pytest.approx([(1 + math.cos(math.pi * second / 4.5)) / 2 for second in range(5)])


def test_steps_may_end_before_the_time() -> None:
    spy = Spy()
    history = pretrain_simclr(fresh(), loader(), epochs=1, lr=1.0, max_seconds=1e6, watcher=spy)
    assert history[-1]["step"] == 3
    assert spy.rates == pytest.approx([(1 + math.cos(math.pi * step / 3)) / 2 for step in range(3)])


def test_what_cannot_be_trained() -> None:
    with pytest.raises(ValueError, match=r"The loader gives 1 views of an image; SimCLR takes views=2"):
        pretrain_simclr(fresh(), loader(views=1), epochs=1)
    with pytest.raises(ValueError, match=r"max_seconds=0: give a time above 0"):
        pretrain_simclr(fresh(), loader(), epochs=1, max_seconds=0)
    with pytest.raises(ValueError, match=r"no such layer"):
        pretrain_simclr(fresh(), loader(), epochs=1, head="fc9")
    model = fresh()
    nn.init.constant_(model[4].weight, float("nan"))  # type: ignore[arg-type]
    with pytest.raises(FloatingPointError, match=r"^The loss is nan in step 1, from layer 'body\.4' on: [^\n]*0\.06"):
        pretrain_simclr(model, loader(), epochs=1)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightly.loss.ntx_ent_loss", None)
    with pytest.raises(ValueError, match=r"^SimCLR needs lightly: pip install 'fasthebb\[simclr\]'$"):
        pretrain_simclr(fresh(), loader(), epochs=1)


def test_a_package_that_does_not_load_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: str) -> object:
        raise OSError(f"{module}:\nno such symbol")

    monkeypatch.setattr(importlib, "import_module", broken)
    words = r"^SimCLR needs lightly, but importing it failed with OSError: lightly\.loss\.ntx_ent_loss: no such symbol$"
    with pytest.raises(ValueError, match=words):
        pretrain_simclr(fresh(), loader(), epochs=1)


def go(path: Path, *, stop: int = 0, resume: bool = False) -> None:
    """Train from the start or from the checkpoint; a signal comes in a step."""
    with RunFolder(path, {}, resume=resume, console=QUIET) as folder:
        folder.write_config()
        checkpoint.seed_everything(0)
        watcher: Watcher = folder.watcher({}, 4)
        stepped = watcher.stepped

        def watched(parts: Mapping[str, Stateful], progress: Progress) -> None:
            if progress.step == stop:
                signal.raise_signal(signal.SIGTERM)
            stepped(parts, progress)

        watcher.stepped = watched  # type: ignore[method-assign]
        model = fresh()
        pretrain_simclr(model, loader(), epochs=3, watcher=watcher)
        torch.save(model.state_dict(), path / "net.pt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    go(path)
    return path


@pytest.mark.parametrize("stops", [(1,), (3, 5), (2, 8)], ids=str)
def test_interrupted_and_resumed_is_uninterrupted(whole: Path, tmp_path: Path, stops: tuple[int, ...]) -> None:
    run = tmp_path / "run"
    for number, stop in enumerate(stops):
        with pytest.raises(Interrupted):
            go(run, stop=stop, resume=number > 0)
        assert state(run)["progress"]["step"] == stop
    go(run, resume=True)
    assert equal(state(run), state(whole))
    assert metrics(run) == metrics(whole)
    assert equal(*(torch.load(path / "net.pt", weights_only=True) for path in (run, whole)))
