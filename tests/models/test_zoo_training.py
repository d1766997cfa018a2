"""A ResNet-18 of a library on a folder of images, through the commands: pre-trained, fine-tuned, measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny import fails, weights, write_images

from fasthebb.cli import main

RESNET = "torchvision:resnet18"
pytestmark = pytest.mark.usefixtures("torchvision_loads")


def done(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.mark.parametrize("model", [RESNET, pytest.param("timm:resnet18", marks=pytest.mark.slow)])
def test_a_resnet_goes_through_every_stage(model: str, tmp_path: Path) -> None:
    if model.startswith("timm"):
        pytest.importorskip("timm")
    images, run = write_images(tmp_path / "images", each=6), tmp_path / "run"
    words = ("--model", model, "--image-size", 32, "--rule", "HPCA", "--batch-size", 8, "--max-steps", 2)
    done("pretrain", "--data", f"folder:{images}", *words, "--out", run)
    epoch = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    moved = {name.removeprefix("update/"): size for name, size in epoch.items() if name.startswith("update/")}
    assert len(moved) == 20, "every convolution, and not the head"
    assert min(moved.values()) > 0
    assert json.loads((run / "model.json").read_text())["head"] == "fc"

    tuned = tmp_path / "tuned"
    done("finetune", "--run", run, "--labels", "50%", "--max-steps", 2, "--lr", 0.01, "--out", tuned)
    before, after = weights(run), weights(tuned)
    assert before.keys() == after.keys()
    assert not [name for name in after if name.endswith("weight") and torch.equal(before[name], after[name])]

    done("evaluate", "--run", tuned, "--knn")
    rows = json.loads((tuned / "results.json").read_text())
    assert {row["method"] for row in rows} == {"finetune", "knn"}
    assert sorted(row["depth"] for row in rows if row["method"] == "knn" and row["depth"]) == list(range(1, 21))


@pytest.mark.slow
def test_layer_by_layer(tmp_path: Path) -> None:
    images, run = write_images(tmp_path / "images", each=4), tmp_path / "run"
    words = ("--model", RESNET, "--image-size", 32, "--order", "layerwise", "--epochs", 1, "--max-steps", 1)
    done("pretrain", "--data", f"folder:{images}", *words, "--out", run)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 20


def test_a_width_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_images(tmp_path / "images", each=2)
    words = ("pretrain", "--model", RESNET, "--width", 0.5, "--data", f"folder:{images}", "--out", tmp_path / "run")
    assert "width 0.5 does not apply" in fails(capsys, 1, *words)
