"""SimCLR as a method of a study: its cells and records, its options, resumed, and what is said without lightly."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import HEAD, NET, QUIET, equal, fails, metrics, timeless, weights

from fasthebb.cli import main
from fasthebb.jobs.trained import read_net
from fasthebb.study import cells
from fasthebb.study.options import StudyOptions
from fasthebb.training.loop import Progress
from fasthebb.training.watch import RunWatcher

pytest.importorskip("lightly", reason="lightly is not installed: pip install --no-deps lightly")

WORDS = (
    "study", *NET, "--data", "digits", "--methods", "simclr", "--budgets", "20", "--seeds", "0", "--epochs", "2",
    "--max-steps", "7", "--finetune-steps", "3", "--no-knn", "--quiet",
)  # fmt: skip


def study(out: Path, *more: str) -> int:
    return main([*WORDS, "--out", str(out), *more])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "whole"
    assert study(out) == 0
    return out


def rows(out: Path) -> Any:
    return timeless(json.loads((out / "results.json").read_text()))


def test_cells_and_records(whole: Path) -> None:
    assert {p.name for p in (whole / "cells").iterdir()} == {
        "pretrain-simclr-s0", "frozen-simclr-s0", "finetune-simclr-20-s0",
    }  # fmt: skip
    found = {(r["method"], r["rule"], r["labels"], r["depth"]) for r in rows(whole)}
    probes = {("SimCLR probe", "", 20, depth) for depth in (1, 2, None)}
    assert found == {*probes, ("SimCLR fine-tuned", "", 20, None)}
    (record,) = metrics(whole / "cells" / "pretrain-simclr-s0")
    assert set(record) == {"epoch", "step"}
    assert [r["step"] for r in metrics(whole / "cells" / "pretrain-simclr-s0" / "simclr")] == [6, 7], "batches of 256"
    assert "SimCLR" in (whole / "report.html").read_text()


def test_the_net_is_the_encoder_of_a_backprop_twin(whole: Path) -> None:
    cell = whole / "cells" / "pretrain-simclr-s0"
    net, model = read_net(cell, QUIET)
    assert (net.twin, net.rule, net.head) == ("backprop", "", HEAD)
    encoder, state = weights(cell / "simclr"), model.state_dict()
    torch.manual_seed(0)
    start = net.build().state_dict()
    for name, value in state.items():
        if name.startswith(f"{HEAD}."):
            assert torch.equal(value, start[name]), name
        else:
            assert torch.equal(value, encoder[f"body.{name}"]), name
            assert not torch.equal(value, start[name]), name


def test_interrupted_and_resumed_is_uninterrupted(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stepped = RunWatcher.stepped

    def stopped(watcher: RunWatcher, parts: Any, progress: Progress) -> None:
        if progress.step == 4:
            signal.raise_signal(signal.SIGTERM)
        stepped(watcher, parts, progress)

    with monkeypatch.context() as patch:
        patch.setattr(RunWatcher, "stepped", stopped)
        assert study(tmp_path / "run") == 75
    assert study(tmp_path / "run", "--resume") == 0
    assert rows(tmp_path / "run") == rows(whole)
    for run in ("pretrain-simclr-s0", "pretrain-simclr-s0/simclr", "finetune-simclr-20-s0"):
        assert equal(*(weights(out / "cells" / run) for out in (whole, tmp_path / "run"))), run


def test_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def train(model: object, loader: Any, **options: Any) -> Any:
        seen.append(options | {"loader": loader})
        return [{"seconds": 1.0}]

    monkeypatch.setattr(cells, "pretrain_simclr", train)
    assert study(tmp_path / "plain") == 0
    own = {"simclr": {"batch_size": 32, "max_seconds": 9.5, "epochs": 3}}
    assert study(tmp_path / "own", "--own", json.dumps(own), "--rates", '{"simclr": 0.2}', "--batch-size", "100") == 0
    assert study(tmp_path / "study", "--batch-size", "100", "--lr", "0.5") == 0
    wanted = [(256, 0.06, 2, None), (32, 0.2, 3, 9.5), (256, 0.06, 2, None)]
    assert [(o["loader"].batch_size, o["lr"], o["epochs"], o["max_seconds"]) for o in seen] == wanted
    assert {(o["loader"].augment, o["loader"].views, o["head"], o["max_steps"]) for o in seen} == {
        ("contrast", 2, HEAD, 7)
    }


@pytest.mark.parametrize(("batch_size", "by"), [(64, "b"), (256, "simclr")])
def test_variants_share_its_pre_training_with_batches_as_large(batch_size: int, by: str) -> None:
    own = {"b": {"is": "simclr", "batch_size": batch_size, "pool": 2}}
    options = StudyOptions(methods=["simclr", "b"], own=own, batch_size=64)
    assert options.method("b").pretrained_by == by


def test_a_study_that_fails_at_once_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr("fasthebb.training.loop._batches", broken)
    assert study(tmp_path / "run") == 1
    assert not (tmp_path / "run").exists()


def test_without_lightly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "lightly", None)
    said = "--methods simclr: SimCLR needs lightly: pip install 'fasthebb[simclr]'"
    assert said in fails(capsys, 2, *WORDS[:-1], "--out", tmp_path / "run")
    with pytest.raises(ValueError, match="SimCLR needs lightly"):
        StudyOptions(methods=["hpca", "contrastive"], own={"contrastive": {"is": "simclr"}})
    StudyOptions(methods=["hpca"])


def test_time_must_be_something() -> None:
    with pytest.raises(ValueError, match=r"--max-seconds 0: give 1 or more"):
        StudyOptions(methods=["simclr"], max_seconds=0)
