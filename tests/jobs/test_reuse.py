"""A run used again: on other data, by other labels, before it has ended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny import HEAD, NET, fails, snapshot, weights, write_images

from fasthebb.cli import main


def done(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{write_images(tmp_path_factory.mktemp('images'))}"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net pre-trained on ten classes of digits."""
    run = tmp_path_factory.mktemp("digits") / "run"
    done("pretrain", *NET, "--data", "digits", "--max-steps", 2, "--out", run)
    return run


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, data: str, digits: Path) -> Path:
    """That net, fine-tuned on three classes of colours."""
    run = tmp_path_factory.mktemp("colours") / "run"
    done("finetune", "--run", digits, "--data", data, "--labels", 9, "--max-steps", 2, "--head-only", "--out", run)
    return run


def test_another_data_set_gets_a_head_of_its_own(digits: Path, tuned: Path, data: str) -> None:
    before, after = weights(digits), weights(tuned)
    assert before[f"{HEAD}.weight"].shape == (10, 8)
    assert after[f"{HEAD}.weight"].shape == (3, 8)
    assert all(torch.equal(after[name], value) for name, value in before.items() if not name.startswith(HEAD))
    nets = [json.loads((run / "model.json").read_text()) for run in (digits, tuned)]
    assert nets[0]["mean"] == nets[1]["mean"], "normalised as in pre-training"
    assert [len(net["classes"]) for net in nets] == [10, 3]
    done("evaluate", "--run", tuned, "--probe")
    assert {r["dataset"] for r in json.loads((tuned / "results.json").read_text())} == {data}


def test_what_is_said_of_the_data_counts_without_their_name(
    tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = fails(capsys, 1, "evaluate", "--run", tuned, "--labels-file", tmp_path / "nothere.csv")
    assert "nothere.csv" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("evaluate", "--data", "digits"),
            "digits: its classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, the run's blue, green",
        ),
        (("evaluate", "--probe", "--labels", "12"), "was fine-tuned with labels=9, not 12: leave --labels out"),
        (("evaluate", "--probe", "--seed", "5"), "was fine-tuned with seed=0, not 5: leave --seed out"),
        (("evaluate", "--knn", "--no-balanced"), "was fine-tuned with balanced=True, not False: leave --balanced out"),
        (("finetune", "--labels", "12"), "is fine-tuned already, on labels of its own: give the run of a pre-training"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_a_fine_tuned_net_keeps_its_labels(
    words: tuple[str, ...], said: str, tuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def known() -> dict[str, tuple[int, bytes]]:
        return {name: found for name, found in snapshot(tuned).items() if name != ".lock"}

    before = known()
    assert said in fails(capsys, 1, *words, "--run", tuned)
    assert known() == before


def test_a_head_of_too_few_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--model", "tiny:three", "--image-size", 12, "--data", "digits", "--max-steps", 1)
    done("pretrain", *words, "--out", tmp_path / "run")
    said = fails(capsys, 1, "finetune", "--run", tmp_path / "run", "--out", tmp_path / "out")
    assert "The head '8' of tiny:three has 3 outputs for 10 classes: let its function take `classes`" in said
    assert not (tmp_path / "out").exists()


def test_images_that_changed_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, run = write_images(tmp_path / "images"), tmp_path / "run"
    done("pretrain", *NET, "--data", f"folder:{images}", "--max-steps", 2, "--out", run)
    evaluate = ("evaluate", "--run", run, "--knn", "--labels", 9)
    capsys.readouterr()
    done(*evaluate)
    assert capsys.readouterr().err == ""
    first = next(images.rglob("*.png"))
    shutil.copy(first, first.with_name("another.png"))
    done(*evaluate)
    assert f"are not those that {run} saw" in capsys.readouterr().err
    done(*evaluate, "--data", f"folder:{write_images(tmp_path / 'others')}")
    assert capsys.readouterr().err == ""


def test_an_unfinished_run_is_used_with_a_warning(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(digits, run)
    (run / "checkpoints" / "last.safetensors").unlink()
    done("evaluate", "--run", run, "--knn", "--labels", 10)
    assert capsys.readouterr().err == f"warning: {run} is not finished: its net is as of step 2\n"
    done("evaluate", "--run", digits, "--knn", "--labels", 10)
    assert capsys.readouterr().err == ""
