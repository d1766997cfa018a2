"""`export`: files that give what the run's net gives, or none at all."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import NET, QUIET, equal, fails, weights, write_images

from fasthebb.cli import main
from fasthebb.evaluation import extract
from fasthebb.jobs import export
from fasthebb.jobs.net import Net
from fasthebb.jobs.trained import read_net
from fasthebb.models import FORWARDS, head_name

RUNS = ["run", "tuned", "cut"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whitened run of unit-norm layers, and its fine-tuning, whole and cut at depth 1."""
    root = tmp_path_factory.mktemp("made")
    start = (*NET, "--data", f"folder:{write_images(root / 'images')}", "--epochs", "1", "--batch-size", "16")
    assert main(["pretrain", *start, "--rule", "SoftWTA", "--whiten", "--out", f"{root / 'run'}", "--quiet"]) == 0
    tune = ("--labels", "12", "--min-steps", "1", "--epochs", "2")
    for name, depth in (("tuned", ()), ("cut", ("--depth", "1"))):
        assert main(["finetune", "--run", f"{root / 'run'}", *tune, *depth, "--out", f"{root / name}", "--quiet"]) == 0
    return root


def wanted(run: Path, images: torch.Tensor) -> torch.Tensor:
    """What the net of a run says of images in [0, 1]: scores, or what enters its head."""
    net, model = read_net(run, QUIET)
    mean, std = (torch.tensor(values)[:, None, None] for values in (net.mean, net.std))
    assert net.whitening is not None
    x = net.whitening((images - mean) / std)
    with torch.no_grad():
        return model.eval()(x) if net.classifier else extract(model, net.head, [(x, torch.zeros(len(x)))])[0]


def images(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def exported(run: Path, out: Path, *formats: str) -> Path:
    assert main(["export", "--run", str(run), "--out", str(out), "--quiet", "--formats", "safetensors", *formats]) == 0
    return out


def test_weights_card_and_config(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--run", f"{made / 'tuned'}", "--out", f"{tmp_path / 'new' / 'out'}"]) == 0
    assert "model.safetensors: differs from the net by 0.0e+00 of its largest output" in capsys.readouterr().out
    out = tmp_path / "new" / "out"
    assert {p.name for p in out.iterdir()} == {"model.safetensors", "whitening.safetensors", "config.json", "README.md"}
    assert equal(
        dict(sorted(load_file(out / "model.safetensors").items())), dict(sorted(weights(made / "tuned").items()))
    )
    config = json.loads((out / "config.json").read_text())
    kept = json.loads((made / "tuned" / "model.json").read_text())
    assert config == {**kept, "dataset": "folder:images", "source": {}}
    with safe_open(out / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["about"]) == config
    card = (out / "README.md").read_text()
    (result,) = json.loads((made / "tuned" / "results.json").read_text())
    assert str(made) not in card + json.dumps(config)
    for fact in ("SoftWTA", "blue, green, red", f"{result['top1']:.2f}", "12, balanced, seed 0", "0.0e+00", "2 steps"):
        assert fact in card
    assert not [p.name for p in out.parent.iterdir() if p != out]


@pytest.mark.parametrize("run", RUNS)
def test_the_code_of_the_card_runs(run: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported(made / run, tmp_path / "out"))
    (code,) = re.findall(r"^```python\n(.*?)^```", Path("README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), found)
    given = found["features"] if run == "run" else found["scores"]
    assert torch.allclose(given, wanted(made / run, found["images"]), atol=1e-5)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("count", [1, 5])
def test_a_program_of_torch_gives_what_the_net_gives(run: str, count: int, made: Path, tmp_path: Path) -> None:
    out = exported(made / run, tmp_path / "out", "torch")
    program = torch.export.load(out / "model.pt2").module()
    assert torch.allclose(program(images(count)), wanted(made / run, images(count)), atol=1e-5)


@pytest.mark.parametrize("run", RUNS)
def test_a_program_of_onnx_gives_what_the_net_gives(run: str, made: Path, tmp_path: Path) -> None:
    reference = pytest.importorskip("onnx.reference")
    pytest.importorskip("onnxscript")
    out = exported(made / run, tmp_path / "out", "onnx")
    (found,) = reference.ReferenceEvaluator(str(out / "model.onnx")).run(None, {"images": images(5).numpy()})
    assert np.allclose(found, wanted(made / run, images(5)), atol=1e-5)


def small(model: str, forward: str, image_size: int) -> Net:
    """A net of three classes without a run."""
    return Net(
        dataset="none", source={}, classes=("a", "b", "c"), mean=(0.4,) * 3, std=(0.2,) * 3, image_size=image_size,
        resize="crop", model=model, width=0.05, forward=forward, twin="hebbian", head="", rule="HPCA", validation=0.1,
        seed=0, classifier="finetune",
    )  # fmt: skip


SLOW = pytest.mark.slow
NETS = [
    *(("sixlayer", forward, 32) for forward in FORWARDS),
    ("vgg11", "unit_norm_relu", 32),
    ("deephebb", "relu", 32),
    pytest.param("tenlayer", "unit_norm_relu", 210, marks=SLOW),
]


@pytest.mark.parametrize(("model", "forward", "image_size"), NETS)
def test_every_net_can_be_a_program(model: str, forward: str, image_size: int, tmp_path: Path) -> None:
    net = small(model, forward, image_size)
    module = net.build().eval()
    net = replace(net, head=head_name(module))
    x = torch.rand(4, 3, image_size, image_size)
    for kind in (net, replace(net, classifier=None)):
        found = export._write_torch(tmp_path / "model.pt2", kind, module, x)
        with torch.no_grad():
            x_net = (x - 0.4) / 0.2
            said = module(x_net) if kind.classifier else extract(module, net.head, [(x_net, torch.zeros(4))])[0]
        assert (found - said[: len(found)]).abs().max() < 1e-4 * said.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["sixlayer", "vgg11", "deephebb"])
def test_every_net_can_be_a_program_of_onnx(model: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    net = small(model, "unit_norm_relu", 32)
    module = net.build().eval()
    x = torch.rand(4, 3, 32, 32)
    found = export._write_onnx(tmp_path / "model.onnx", net, module, x)
    with torch.no_grad():
        said = module((x - 0.4) / 0.2)
    assert (found - said[: len(found)]).abs().max() < 1e-4 * said.abs().max()


def test_what_differs_is_not_exported(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "_write_torch", lambda _, net, model, x: export._outputs(net, model, x) * 1.01)
    said = fails(capsys, 1, "export", "--run", made / "tuned", "--out", tmp_path / "out", "--formats", "torch")
    assert "model.pt2 differs from the net by 1.0e-02 of its largest output: nothing is exported" in said
    assert list(tmp_path.iterdir()) == []


def test_a_net_that_is_no_fixed_graph(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def branching(self: export.Program, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) if float(x.sum()) > 0 else x.flatten(1) * 2

    monkeypatch.setattr(export.Program, "forward", branching)
    said = fails(capsys, 1, "export", "--run", made / "tuned", "--out", tmp_path / "out", "--formats", "torch")
    assert "tiny:net cannot be made a program" in said
    assert list(tmp_path.iterdir()) == []


def test_onnx_without_its_packages(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    said = fails(capsys, 1, "export", "--run", made / "tuned", "--out", tmp_path / "out", "--formats", "onnx")
    assert "needs onnx: pip install 'fasthebb[onnx]'" in said
    assert list(tmp_path.iterdir()) == []


def test_a_full_folder_is_refused_and_an_empty_one_filled(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    exported(made / "tuned", tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    said = fails(capsys, 1, "export", "--run", made / "tuned", "--out", tmp_path / "out")
    assert "it is there already, and not an empty folder; name another" in said
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    (tmp_path / "file").write_text("")
    assert "it is there already" in fails(capsys, 1, "export", "--run", made / "tuned", "--out", tmp_path / "file")


def test_a_run_without_results_says_so(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "tuned", tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    assert "Not measured." in (exported(tmp_path / "run", tmp_path / "out") / "README.md").read_text()


def test_the_card_leaves_out_what_was_measured_on_other_data(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "tuned", tmp_path / "run")
    results = tmp_path / "run" / "results.json"
    (own,) = json.loads(results.read_text())
    results.write_text(json.dumps([{**own, "dataset": "folder:/other/images", "method": "knn"}, own]))
    card = (exported(tmp_path / "run", tmp_path / "out") / "README.md").read_text()
    assert "| finetune |" in card
    assert "| knn |" not in card


def test_the_card_of_a_study_s_cell(tmp_path: Path) -> None:
    words = ("--methods", "hpca", "--budgets", "20", "--seeds", "0", "--epochs", "1", "--no-finetune", "--no-knn")
    assert main(["study", *NET, "--data", "digits", *words, "--out", f"{tmp_path / 'study'}", "--quiet"]) == 0
    card = (exported(tmp_path / "study" / "cells" / "pretrain-hpca-s0", tmp_path / "out") / "README.md").read_text()
    records = json.loads((tmp_path / "study" / "results.json").read_text())
    listed = [f"| {r['method']} | {r['depth']} | 20 | {r['top1']:.2f} |" for r in records if r["depth"]]
    assert len(listed) == 2
    assert [line[: len(listed[0])] for line in card.splitlines() if line.startswith("| HPCA")] == listed
