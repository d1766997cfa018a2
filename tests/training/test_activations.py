"""Activations kept on disk: the same training as without them, resumed bit for bit, and never a file that lies."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from cases import error
from tiny import HEAD, QUIET, equal, images, loader, metrics, net, state
from torch import Tensor, nn

import fasthebb
from fasthebb.data import Loader
from fasthebb.models import sixlayer
from fasthebb.training import checkpoint
from fasthebb.training.activations import Activations, ImageNumbers
from fasthebb.training.forward import Tail
from fasthebb.training.loop import Progress, Stateful, Watcher, place
from fasthebb.training.pretrain import pretrain
from fasthebb.training.run import RunFolder
from fasthebb.training.stop import Interrupted

CPU = torch.device("cpu")


def three_layers() -> nn.Sequential:
    """Three layers to train, the second and third Linear; a dropout that each phase draws numbers for."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=3, bias=False), nn.ReLU(), nn.BatchNorm2d(6), nn.Flatten(),
        nn.Linear(54, 20, bias=False), nn.Dropout(0.1), nn.ReLU(), nn.BatchNorm1d(20),
        nn.Linear(20, 8, bias=False), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 3),
    )  # fmt: skip


def train(
    model: nn.Module, head: str, activations: Path | None, batches: Loader, rule: fasthebb.Rule, **more: object
) -> dict[str, Tensor]:
    """What a layer-wise training leaves of a model."""
    torch.manual_seed(1)
    hebb = fasthebb.attach(model, {head: None, "*": rule})
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.01, momentum=0.9)
    pretrain(model, hebb, batches, optimizer, epochs=3, order="layerwise", activations=activations, **more)  # type: ignore[arg-type]
    return model.state_dict()


def cases() -> Iterator[tuple[str, Callable[[], nn.Module], str, Callable[[], Loader]]]:
    large = images(23, side=24)
    yield "conv and fc", net, HEAD, lambda: loader(23)
    yield "a merged batch", net, HEAD, lambda: loader(21)
    yield "some images", net, HEAD, lambda: loader(23, indices=[7, 3, 22, 0, 11, 12, 5, 9])
    yield "fc after fc", three_layers, "11", lambda: loader(23)
    yield "no shuffling", three_layers, "11", lambda: loader(23, shuffle=False)
    yield "channels last", lambda: place(sixlayer(image_size=24, width=0.05), CPU), "fc6", lambda: Loader(large, 6)
    yield (
        "in bfloat16",
        lambda: place(sixlayer(image_size=24, width=0.05), CPU, "bf16"),
        "fc6",
        lambda: Loader(large, 6),
    )
    yield "channels first", lambda: sixlayer(image_size=24, width=0.05), "fc6", lambda: Loader(large, 6)


@pytest.mark.parametrize(("make", "head", "batches"), [c[1:] for c in cases()], ids=[c[0] for c in cases()])
@pytest.mark.parametrize("rule", [fasthebb.HPCA(), fasthebb.SoftWTA(0.02)], ids=["hpca", "swta"])
def test_kept_activations_change_nothing_but_rounding(
    tmp_path: Path, make: Callable[[], nn.Module], head: str, batches: Callable[[], Loader], rule: fasthebb.Rule
) -> None:
    finals = []
    for folder in (None, tmp_path / "kept"):
        torch.manual_seed(0)
        finals.append(train(make(), head, folder, batches(), rule))
    want, found = finals
    for name, value in found.items():
        assert error(value.double(), want[name].double()) < 1e-6, name
    assert list(tmp_path.iterdir()) == [], "nothing is left"


class Files(Watcher):
    """Which files there are after every step, and how often each was written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[list[str]] = []
        self.written: set[tuple[str, int]] = set()

    def stepped(self, parts: Mapping[str, Stateful], progress: Progress) -> None:
        files = list(self.folder.iterdir()) if self.folder.exists() else []
        self.seen.append([file.name.partition("-")[0] for file in files])
        self.written |= {(file.name, file.stat().st_mtime_ns) for file in files}


def test_the_inputs_of_the_layer_that_learns_are_written_once_and_no_others_kept(tmp_path: Path) -> None:
    files = Files(tmp_path / "kept")
    train(three_layers(), "11", files.folder, loader(), fasthebb.SoftWTA(0.02), watcher=files)
    assert files.seen == [[]] * 15 + [["4"]] * 15 + [["8"]] * 15
    assert len(files.written) == 2


def test_a_folder_of_others_keeps_what_is_theirs(tmp_path: Path) -> None:
    (tmp_path / "mine.npy").write_text("mine")
    train(net(), HEAD, tmp_path, loader(), fasthebb.SoftWTA(0.02))
    assert [file.name for file in tmp_path.iterdir()] == ["mine.npy"]


def go(path: Path, *, stop: int = 0, resume: bool = False, tamper: Callable[[Path], None] = lambda _: None) -> None:
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
        tamper(path / "kept")
        train(three_layers(), "11", path / "kept", loader(), fasthebb.SoftWTA(0.02), watcher=watcher)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    go(path)
    return path


def damage(how: str) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        for file in folder.glob("*.npy"):
            content = file.read_bytes()
            if how == "cut":
                file.write_bytes(content[:-4])
            elif how == "empty":
                file.write_bytes(b"")
            elif how == "nonsense":
                file.write_bytes(b"no array" * 50)
            elif how == "other shape":
                file.write_bytes(content.replace(b"(23, ", b"(22, "))
            elif how == "gone":
                file.unlink()
            elif how == "orphan":
                file.with_name(f".{file.name}.999999999.part").write_bytes(content[:100])

    return tamper


@pytest.mark.parametrize("stops", [(1,), (15,), (17,), (30,), (3, 18, 22, 37), (44,)], ids=str)
def test_interrupted_and_resumed_is_uninterrupted(whole: Path, tmp_path: Path, stops: tuple[int, ...]) -> None:
    for number, stop in enumerate(stops):
        with pytest.raises(Interrupted):
            go(tmp_path / "run", stop=stop, resume=number > 0)
        assert state(tmp_path / "run")["progress"]["step"] == stop
    go(tmp_path / "run", resume=True)
    assert equal(state(tmp_path / "run"), state(whole))
    assert metrics(tmp_path / "run") == metrics(whole)
    assert not (tmp_path / "run" / "kept").exists()


@pytest.mark.parametrize("how", ["cut", "empty", "nonsense", "other shape", "gone", "orphan"])
def test_a_file_that_is_not_whole_is_made_again(whole: Path, tmp_path: Path, how: str) -> None:
    with pytest.raises(Interrupted):
        go(tmp_path / "run", stop=18)
    assert len(list((tmp_path / "run" / "kept").iterdir())) == 1
    go(tmp_path / "run", resume=True, tamper=damage(how))
    assert equal(state(tmp_path / "run"), state(whole))
    assert not (tmp_path / "run" / "kept").exists()


def quiet(numbers: range, description: str) -> Iterable[int]:
    return numbers


def opened(folder: Path, model: nn.Module, batches: Loader) -> Activations:
    model.eval()
    kept = Activations(folder, model, batches, quiet)
    kept.open("4", Tail(model, "4", ("0", "4"), next(iter(batches))[0][:2]).example)
    return kept


def test_rows_are_what_enters_the_layer(tmp_path: Path) -> None:
    model, batches = net(), loader(23, indices=[20, 3, 7, 11, 2])
    kept = opened(tmp_path, model, batches)
    for number, _ in ImageNumbers(batches, epochs=0).batches(epoch=4):
        x = loader(23, batch_size=23, shuffle=False).batches(0)
        with torch.no_grad():
            want = model[:4](next(x)[0])[number]
        assert error(kept(number), want) < 1e-6


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda model: model[4].weight.data.add_(1), False),
        (lambda model: model[0].weight.data.add_(1e-6), True),
        (lambda model: model[2].running_mean.add_(1e-6), True),
        (lambda model: model[2].bias.data.add_(1e-6), True),
    ],
    ids=["the layer itself", "a weight before it", "a statistic before it", "a bias before it"],
)
def test_a_file_of_another_net_is_not_used(
    tmp_path: Path, change: Callable[[nn.Sequential], object], again: bool
) -> None:
    model = net()
    opened(tmp_path, model, loader())
    (before,) = tmp_path.iterdir()
    stamp = before.stat().st_mtime_ns
    change(model)
    opened(tmp_path, model, loader())
    (after,) = tmp_path.iterdir()
    assert ((after.name, after.stat().st_mtime_ns) != (before.name, stamp)) == again


@pytest.mark.parametrize(
    "more", [{"count": 22}, {"seed": 1}, {"batch_size": 6}, {"indices": range(22, -1, -1)}, {"shuffle": False}], ids=str
)
def test_a_file_of_other_images_is_not_used(tmp_path: Path, more: dict[str, int]) -> None:
    model = net()
    opened(tmp_path, model, loader())
    (before,) = tmp_path.iterdir()
    opened(tmp_path, model, loader(**more))
    assert [file.name for file in tmp_path.iterdir()] != [before.name]


@pytest.mark.parametrize("epoch", [0, 1, 2, 5])
def test_numbers_are_of_the_loaders_own_batches(epoch: int) -> None:
    batches = Loader(images(21), 5, seed=3)
    numbers = ImageNumbers(batches, epochs=2)
    pixels = images(21).images.float() / 255
    assert len(numbers) == len(batches) == 4
    for start in (0, 3, 4):
        pairs = list(zip(numbers.batches(epoch, start), batches.batches(epoch, start), strict=True))
        assert len(pairs) == 4 - start
        for (x, _), (want, _labels) in pairs:
            assert torch.equal(x if epoch < 2 else pixels[x], want)


def refused(model: nn.Module, batches: object, order: str = "layerwise") -> str:
    hebb = fasthebb.attach(model, {HEAD: None, "*": fasthebb.HPCA()})
    optimizer = torch.optim.SGD(hebb.parameters(), lr=0.01)
    with pytest.raises(ValueError) as caught:
        pretrain(model, hebb, batches, optimizer, epochs=1, order=order, activations=Path("kept"))  # type: ignore[arg-type]
    assert not Path("kept").exists()
    hebb.detach()
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith("leave --cache-activations out")
    return said


class Shifted(nn.Module):
    """`net()` with something between its layers that is no module."""

    def __init__(self) -> None:
        super().__init__()
        for name, module in net().named_children():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        for name, module in self.named_children():
            x = module(x) + (name == "5")
        return x


def test_what_activations_cannot_be_kept_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "order 'joint' changes" in refused(net(), loader(), order="joint")
    assert "augment 'light' makes other images every epoch" in refused(net(), loader(augment="light"))
    assert "list does not tell the order of its images" in refused(net(), list(loader()))
    assert "Shifted from '4' to '6' is not a plain chain of modules" in refused(Shifted(), loader())
