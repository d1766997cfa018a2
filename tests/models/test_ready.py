"""`models.load`: what it gives is what the run's net gives, wherever the files lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import NET, QUIET, write_images

from fasthebb.cli import main
from fasthebb.evaluation import extract
from fasthebb.jobs.trained import read_net
from fasthebb.models import Program, load

RUNS = ["run", "tuned", "cut"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whitened run, its fine-tuning whole and cut at depth 1, and each exported beside it, at 32 and at 16 bits."""
    root = tmp_path_factory.mktemp("made")
    start = (*NET, "--data", f"folder:{write_images(root / 'images')}", "--epochs", "1", "--batch-size", "16")
    assert main(["pretrain", *start, "--rule", "SoftWTA", "--whiten", "--out", f"{root / 'run'}", "--quiet"]) == 0
    tune = ("--labels", "12", "--min-steps", "1", "--epochs", "2")
    for name, depth in (("tuned", ()), ("cut", ("--depth", "1"))):
        assert main(["finetune", "--run", f"{root / 'run'}", *tune, *depth, "--out", f"{root / name}", "--quiet"]) == 0
    for name in RUNS:
        for half in ((), ("--half",)):
            out = root / f"exported{'-half' * bool(half)}" / name
            assert main(["export", "--run", f"{root / name}", "--out", f"{out}", *half, "--quiet"]) == 0
    return root


def images(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def wanted(run: Path) -> torch.Tensor:
    """Scores, or what enters the head, by the way that commands take."""
    net, model = read_net(run, QUIET)
    mean, std = (torch.tensor(values)[:, None, None] for values in (net.mean, net.std))
    assert net.whitening is not None
    x = net.whitening((images() - mean) / std)
    with torch.no_grad():
        return model.eval()(x) if net.classifier else extract(model, net.head, [(x, torch.zeros(len(x)))])[0]


def given(program: Program) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = program(images())
    return found


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("folder", [".", "exported"])
def test_a_run_folder_and_an_exported_one(run: str, folder: str, made: Path) -> None:
    program = load(made / folder / run, trust=True)
    assert not program.training
    assert program.about["classes"] == ["blue", "green", "red"]
    assert torch.allclose(given(program), wanted(made / run), atol=1e-5)
    assert torch.equal(given(program), given(load(str(made / folder / run), trust=True))), (
        "the second forward and a fresh net"
    )


@pytest.mark.parametrize("run", RUNS)
def test_half_the_size_and_nearly_the_same(run: str, made: Path) -> None:
    program = load(made / "exported-half" / run, trust=True)
    assert all(p.dtype == torch.float32 for p in program.parameters())
    whole, half = (load_file(made / f"exported{kind}" / run / "model.safetensors") for kind in ("", "-half"))
    assert any("running" in name for name in whole)
    for name in whole:
        counted = "running" in name or "num_batches" in name
        assert half[name].dtype == (whole[name].dtype if counted else torch.float16)
        assert torch.equal(half[name], whole[name].to(half[name].dtype))
    off = given(program) - wanted(made / run)
    assert 0 < off.abs().max() < 1e-2 * wanted(made / run).abs().max()


def test_images_of_other_number_formats(made: Path) -> None:
    program = load(made / "exported" / "tuned", trust=True)
    with torch.no_grad():
        assert torch.equal(program(images().double()), program(images()))


def test_by_name(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="'tuned' is neither a folder nor the name of ready weights: "):
        load("tuned", trust=True)
    shutil.copytree(made / "exported", tmp_path / "weights")
    assert torch.equal(given(load("tuned", trust=True)), wanted(made / "tuned"))
    monkeypatch.setenv("FASTHEBB_WEIGHTS", str(made / "exported-half"))
    assert not torch.equal(given(load("tuned", trust=True)), wanted(made / "tuned")), (
        "the folder of the variable comes first"
    )
    with pytest.raises(ValueError, match=r"'tunde' is neither .*: there are .*cut, run, tuned"):
        load("tunde")


def test_what_is_no_net(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no net: name a folder that `fasthebb export`"):
        load(tmp_path)
    unfinished = shutil.copytree(made / "run", tmp_path / "unfinished")
    (unfinished / "checkpoints" / "last.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no checkpoints/last.safetensors: finish the run by --resume"):
        load(unfinished)


def test_files_that_do_not_fit(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "exported" / "tuned", tmp_path / "tuned")
    config = (folder / "config.json").read_text()
    whole = json.loads(config)
    wrong = [{"width": 2.0}, {"std": [1.0]}, {"std": [0.0, 1.0, 1.0]}, {"mean": "abc"}, {"head": "nope"}]
    without = [{k: v for k, v in whole.items() if k != name} for name in ("std", "head", "classifier", "resize")]
    for text in ("{", "[]", "{}", *(json.dumps({**whole, **part}) for part in wrong), *map(json.dumps, without)):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match="holds no net of this version") as error:
            load(folder, trust=True)
        assert "\n" not in str(error.value)
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(b"\x01" * 30)
    with pytest.raises(ValueError, match="holds no net of this version"):
        load(folder, trust=True)


@pytest.mark.parametrize("name", sorted(path.name for path in (Path(__file__).parents[2] / "weights").iterdir()))
def test_the_ready_weights(name: str) -> None:
    net = load(name)
    side = net.about["image_size"]
    images = torch.rand(2, len(net.about["mean"]), side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = net(images)
    assert features.isfinite().all()
    assert (features[0] - features[1]).abs().mean() > 0.1 * features.abs().mean()


def test_a_model_that_is_not_there_is_named(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "exported" / "tuned", tmp_path / "net")
    config = tmp_path / "net" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model": "nowhere:net"}))
    with pytest.raises(ValueError, match=r"^model 'nowhere:net': importing 'nowhere' failed"):
        load(tmp_path / "net", trust=True)


def test_it_reads_files_as_commands_do(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted((made / "images").rglob("*.png"))
    program = load(made / "tuned")
    images = program.read(*files[:3])
    assert (images.shape, images.dtype) == ((3, 3, 12, 12), torch.float32)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    with torch.no_grad():
        numbers = program(images).argmax(1)
    capsys.readouterr()
    for file, number in zip(files, numbers):
        assert main(["predict", "--run", str(made / "tuned"), str(file)]) == 0
        assert capsys.readouterr().out.splitlines()[1].split(",")[1] == program.about["classes"][number]
    assert program.read().shape == (0, 3, 12, 12)


def test_files_and_images_that_it_cannot_take(made: Path, tmp_path: Path) -> None:
    program = load(made / "tuned")
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"x\.png cannot be read \(no image of a known kind\): check the file"):
        program.read(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"none\.png cannot be read"):
        program.read(tmp_path / "none.png")
    for wrong in (images().byte(), images()[:, :1], images()[0]):
        with pytest.raises(ValueError, match=r"the net takes floats \[N, 3, H, W\] in \[0, 1\]"):
            program(wrong)
