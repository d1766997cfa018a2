"""Nets that are cut at a depth, and nets of whitened images, through every command that reads a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import NET, QUIET, fails, weights, write_images

from fasthebb.cli import main
from fasthebb.jobs.trained import read_net


def done(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), each=20)


@pytest.fixture(scope="module")
def whitened(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A net pre-trained on whitened images."""
    run = tmp_path_factory.mktemp("runs") / "run"
    cache = tmp_path_factory.mktemp("cache")
    words = ("--data", f"folder:{data}", "--whiten", "--max-steps", 4, "--batch-size", 16, "--cache-dir", cache)
    done("pretrain", *NET, *words, "--rule", "SoftWTA", "--out", run)
    assert [file.name.startswith("whitening-") for file in cache.iterdir()] == [True]
    return run


@pytest.fixture(scope="module")
def cut(whitened: Path) -> Path:
    """That net, cut at depth 1 and fine-tuned."""
    done("finetune", "--run", whitened, "--labels", "12", "--depth", 1, "--min-steps", 8, "--epochs", 1)
    return whitened / "finetune-12-depth1-s0"


def test_whitened_images_are_what_the_net_sees(whitened: Path) -> None:
    net, _ = read_net(whitened, QUIET)
    assert net.whitened
    assert net.whitening is not None
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 3, 12, 12, generator=generator)
    assert not torch.allclose(net.whitening(x), x)


def test_a_whitening_that_is_gone_is_named(whitened: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(whitened, run)
    (run / "whitening.safetensors").unlink()
    assert "whitening.safetensors is not a whitening" in fails(capsys, 1, "evaluate", "--run", run, "--knn")


def test_a_cut_net_keeps_what_is_before(cut: Path, whitened: Path) -> None:
    before, after = weights(whitened), weights(cut)
    assert {name for name in after if "body" not in name} == {"head.weight", "head.bias"}
    assert {name for name in after if "body" in name} == {
        f"body.{name}" for name in before if name.startswith(("0.", "2."))
    }
    assert after["head.weight"].shape == (3, before["0.weight"].shape[0] * 9)
    assert not torch.equal(after["body.0.weight"], before["0.weight"]), "fine-tuned end to end"


def test_steps_are_no_fewer_than_asked_for(cut: Path) -> None:
    last = json.loads((cut / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 8, "12 images are one batch an epoch"


def test_every_command_takes_it(cut: Path, data: Path, tmp_path: Path) -> None:
    done("evaluate", "--run", cut)
    (record,) = json.loads((cut / "results.json").read_text())
    assert (record["method"], record["depth"], record["labels"]) == ("finetune", 1, 12)
    alone = tmp_path / "alone"
    shutil.copytree(cut, alone)  # nothing but the run folder
    done("predict", "--run", alone, data / "red", "--out", tmp_path / "red.csv")
    assert len((tmp_path / "red.csv").read_text().splitlines()) == 21
    done("export", "--run", alone, "--out", tmp_path / "model", "--formats", "torch")
    assert (tmp_path / "model" / "model.pt2").exists()


def test_a_depth_that_is_not_there(whitened: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, 1, "finetune", "--run", whitened, "--labels", "12", "--depth", 9)
    assert "depth 9: tiny:net has depths 1 to 2" in said
    assert not (whitened / "finetune-12-depth9-s0").exists()


def test_a_study_cuts_too(data: Path, tmp_path: Path) -> None:
    words = ("--data", f"folder:{data}", "--methods", "hpca", "scratch", "--budgets", "12", "--seeds", 0, "--epochs", 1)
    done("study", *NET, *words, "--finetune-steps", 2, "--finetune-depths", 1, "--out", tmp_path / "study")
    found = {(r["method"], r["depth"]) for r in json.loads((tmp_path / "study" / "results.json").read_text())}
    assert {(method, depth) for method in ("HPCA fine-tuned", "scratch") for depth in (None, 1)} <= found
    net, _ = read_net(tmp_path / "study" / "cells" / "finetune-hpca-12-depth1-s0", QUIET)
    assert (net.depth, net.head) == (1, "head")


def test_a_signal_before_anything_has_begun(tmp_path: Path) -> None:
    words = [sys.executable, "-X", "importtime", "-m", "fasthebb", "pretrain", "--data", "digits", "--out", "run"]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stderr is not None
    for line in process.stderr:  # torch is on its way: the command has been read, nothing else
        if "torch" in line:
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 75, rest[-400:]
    assert "Traceback" not in rest
    assert not (tmp_path / "run").exists()


def test_curves_for_tensorboard(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ("--data", f"folder:{data}", "--epochs", 3, "--batch-size", 16, "--tensorboard")
    done("pretrain", *NET, *words, "--out", tmp_path / "run")
    curves = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    curves.Reload()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [event.step for event in curves.Scalars("update/0")] == [row["step"] for row in rows]
    assert [event.value for event in curves.Scalars("update/0")] == pytest.approx([row["update/0"] for row in rows])


def test_a_study_of_a_depth_that_is_not_there_begins_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", f"folder:{data}", "--methods", "hpca", "--budgets", "12", "--finetune-depths", 9)
    said = fails(capsys, 1, "study", *NET, *words, "--out", tmp_path / "study")
    assert "depth 9: tiny:net has depths 1 to 2" in said
    assert not (tmp_path / "study").exists()


def test_a_budget_is_counted_on_the_images_that_it_was_of(data: Path, tmp_path: Path) -> None:
    done("pretrain", *NET, "--data", f"folder:{data}", "--max-steps", 2, "--out", tmp_path / "run")
    tuned = tmp_path / "tuned"
    done("finetune", "--run", tmp_path / "run", "--labels", "50%", "--min-steps", 2, "--epochs", 1, "--out", tuned)
    few = write_images(tmp_path / "few", each=5)
    done("evaluate", "--run", tuned, "--data", f"folder:{few}")
    done("evaluate", "--run", tuned, "--labels", "0.5", "--knn")
    records = json.loads((tuned / "results.json").read_text())
    assert {r["labels"] for r in records if r["method"] == "finetune"} == {24}
    assert {r["dataset"] for r in records} == {f"folder:{data}", f"folder:{few}"}
