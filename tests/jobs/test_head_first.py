"""`finetune` with the classifier first, and hidden layers at a rate of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import HEAD, NET, equal, fails, weights, write_images

from fasthebb.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    data = f"folder:{write_images(folder / 'images', each=20)}"
    words = ["--data", data, "--max-steps", "4", "--batch-size", "16", "--out", str(folder / "run")]
    assert main(["pretrain", *NET, *words]) == 0
    return folder / "run"


def changed(run: Path, out: Path, *words: str) -> set[str]:
    """Parameters that fine-tuning in 6 steps has changed."""
    more = ["--labels", "12", "--batch-size", "6", "--epochs", "3", "--min-steps", "6", "--out", str(out), "--quiet"]
    assert main(["finetune", "--run", str(run), "--lr", "0.05", "--weight-decay", "0", *more, *words]) == 0
    before, after = weights(run), weights(out)
    return {
        name for name, value in after.items() if name.endswith(("weight", "bias")) and not value.equal(before[name])
    }


def test_the_classifier_first(run: Path, tmp_path: Path) -> None:
    head = {f"{HEAD}.weight", f"{HEAD}.bias"}
    assert changed(run, tmp_path / "head", "--head-steps", "6") == head
    assert changed(run, tmp_path / "all", "--head-steps", "5") > head | {"0.weight", "4.weight"}
    assert changed(run, tmp_path / "only", "--head-only") == head
    assert equal(weights(tmp_path / "head"), weights(tmp_path / "only"))


def test_hidden_layers_at_a_rate_of_their_own(run: Path, tmp_path: Path) -> None:
    before, moved = weights(run), []
    for rate in ("0", "0.01", "1"):
        changed(run, tmp_path / rate, "--hidden-rate", rate)
        moved.append(float((weights(tmp_path / rate)["0.weight"] - before["0.weight"]).norm()))
    assert moved[0] == 0
    assert 0 < moved[1] < 0.05 * moved[2]
    assert not torch.equal(weights(tmp_path / "0")["2.running_mean"], before["2.running_mean"]), "unlike --head-only"


@pytest.mark.parametrize("option", ["--head-steps", "--hidden-rate"])
def test_negative_numbers(run: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{option} -1" in fails(capsys, 2, "finetune", "--run", run, option, -1)
