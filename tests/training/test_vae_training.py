"""The auto-encoder's training: its loss and steps written out, resumed bit for bit, and what a net takes of it."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from cases import error
from tiny import QUIET, equal, images, metrics, state
from torch import Tensor

from fasthebb.data import Loader
from fasthebb.models import VAE, sixlayer, vae
from fasthebb.training import checkpoint
from fasthebb.training.loop import Progress, Stateful, Watcher
from fasthebb.training.run import RunFolder
from fasthebb.training.stop import Interrupted
from fasthebb.training.vae import encoder_state, pretrain_vae

SIDE, WIDTH = 24, 0.03  # pixels; of the published units


def fresh() -> VAE:
    torch.manual_seed(0)
    return vae(image_size=SIDE, width=WIDTH)


def loader(augment: str = "none") -> Loader:
    return Loader(images(23, side=SIDE), 5, mean=[0.4] * 3, std=[0.2] * 3, augment=augment)


class Unlabelled:
    """The same images in float64, their labels nothing to compute with."""

    def __len__(self) -> int:
        return len(loader())

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, object]]:
        return ((x.double(), object()) for x, _ in loader().batches(epoch, start))


def test_training_is_the_loop_written_out() -> None:
    lr, momentum, epochs = 0.01, 0.9, 3
    model, want, losses = fresh().double(), fresh().double().train(), []
    noise = torch.get_rng_state()
    history = pretrain_vae(model, Unlabelled(), epochs=epochs, lr=lr)
    torch.set_rng_state(noise)
    velocity = {name: torch.zeros_like(p) for name, p in want.named_parameters()}
    for epoch in range(epochs):
        for batch, (x, _) in enumerate(Unlabelled().batches(epoch)):
            step = 5 * epoch + batch
            rate = lr * 0.5 ** max(0, 20 * step // (5 * epochs) - 9)
            decoded, mean, log_variance = want(x)
            divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
            loss = ((x - decoded) ** 2).mean() + 0.5 * divergence
            losses.append((loss.item() * len(x), len(x)))
            names, parameters = zip(*want.named_parameters())
            with torch.no_grad():
                for name, p, gradient in zip(names, parameters, torch.autograd.grad(loss, parameters)):
                    velocity[name] = momentum * velocity[name] + gradient
                    p -= rate * (gradient + momentum * velocity[name])
    for name, value in model.state_dict().items():
        assert error(value.double(), want.state_dict()[name].double()) < 1e-9, name
    assert [(r["epoch"], r["step"]) for r in history] == [(e + 1, 5 * e + 5) for e in range(epochs)]
    for record, part in zip(history, (losses[i : i + 5] for i in range(0, 15, 5))):
        assert record["loss"] == pytest.approx(sum(a for a, _ in part) / sum(n for _, n in part), rel=1e-9)
    assert set(history[0]) == {"epoch", "step", "seconds", "loss"}


def test_it_learns() -> None:
    history = pretrain_vae(fresh(), loader(), epochs=6, lr=0.01)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]


def test_max_steps_end_it() -> None:
    assert pretrain_vae(fresh(), loader(), epochs=9, max_steps=7)[-1]["step"] == 7


def test_a_loss_that_is_not_finite_is_said_in_one_line() -> None:
    with pytest.raises(
        FloatingPointError, match=r"The loss is (nan|inf) in step \d+.*: lower the learning rate 1000000\.0"
    ):
        pretrain_vae(fresh(), loader(), epochs=5, lr=1e6)
    model = fresh()
    torch.nn.init.constant_(model.mean.weight, float("nan"))
    with pytest.raises(FloatingPointError, match=r"^The loss is nan in step 1, from layer 'mean' on: [^\n]*$"):
        pretrain_vae(model, loader(), epochs=1)


def test_a_sixlayer_net_takes_the_encoder() -> None:
    model = fresh()
    pretrain_vae(model, loader(), epochs=1)
    net = sixlayer(image_size=SIDE, width=WIDTH, twin="backprop")
    missing, unexpected = net.load_state_dict(encoder_state(model), strict=False)
    assert (missing, unexpected) == (["fc6.weight", "fc6.bias"], [])
    x = torch.randn(4, 3, SIDE, SIDE)
    assert torch.equal(net.eval()[:-2](x), model.eval().encode(x)[0])
    taken = encoder_state(model)
    torch.nn.init.zeros_(model.encoder.conv1.weight)  # type: ignore[union-attr, arg-type]
    assert taken["conv1.weight"].abs().min() > 0, "what was taken stays"


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
        pretrain_vae(fresh(), loader("light"), epochs=3, lr=0.01, watcher=watcher)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    go(path)
    return path


@pytest.mark.parametrize("stops", [(1,), (5, 8), (2, 3, 12)], ids=str)
def test_interrupted_and_resumed_is_uninterrupted(whole: Path, tmp_path: Path, stops: tuple[int, ...]) -> None:
    for number, stop in enumerate(stops):
        with pytest.raises(Interrupted):
            go(tmp_path / "run", stop=stop, resume=number > 0)
        assert state(tmp_path / "run")["progress"]["step"] == stop
    go(tmp_path / "run", resume=True)
    assert equal(state(tmp_path / "run"), state(whole))
    assert metrics(tmp_path / "run") == metrics(whole)
