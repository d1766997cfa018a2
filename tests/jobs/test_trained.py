"""Commands take an exported net, or ready weights by their name, where they take a run."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from tiny import NET, equal, fails, weights, write_images

from fasthebb.cli import main
from fasthebb.models import load


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whitened run and its fine-tuning, cut at depth 1, and in ready/ both of them exported."""
    root = tmp_path_factory.mktemp("made")
    start = (*NET, "--data", f"folder:{write_images(root / 'images')}", "--epochs", "1", "--batch-size", "16")
    assert main(["pretrain", *start, "--rule", "SoftWTA", "--whiten", "--out", f"{root / 'run'}", "--quiet"]) == 0
    assert main(["finetune", *tuned(f"{root / 'run'}"), "--out", f"{root / 'tuned'}", "--quiet"]) == 0
    for name in ("run", "tuned"):
        assert main(["export", "--run", f"{root / name}", "--out", f"{root / 'ready' / name}", "--quiet"]) == 0
    return root


def tuned(run: str) -> list[str]:
    return ["--run", run, "--labels", "12", "--min-steps", "1", "--epochs", "2", "--depth", "1", "--trust"]


def predicted(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, str]]:
    capsys.readouterr()
    assert main(["predict", *words]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_predict(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = str(made / "images")
    rows = predicted(capsys, "--run", str(made / "tuned"), images)
    assert len(rows) == 36
    assert predicted(capsys, "--run", str(made / "ready" / "tuned"), images, "--trust") == rows


def test_ready_weights_by_name(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTHEBB_WEIGHTS", str(made / "ready"))
    embed = ["embed", "--images", str(made / "images"), "--trust", "--quiet", "--out"]
    for run in ("run", str(made / "run")):
        assert main([*embed, f"{tmp_path / 'x'}{len(run)}.npz", "--run", run]) == 0
    one, two = (np.load(file)["features"] for file in sorted(tmp_path.glob("*.npz")))
    np.testing.assert_array_equal(one, two)
    assert "is an exported net, not a run: say with --out where to write" in fails(
        capsys, 1, *embed[:-1], "--run", "run"
    )
    said = fails(capsys, 1, *embed[:-1], "--run", "other")
    assert "other: there is no such run folder" in said
    assert "or the name of ready weights (there are " in said


def test_finetune(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["finetune", *tuned(str(made / "ready" / "run")), "--data", f"folder:{made / 'images'}"]
    assert "say with --out where to write" in fails(capsys, 1, *words)
    assert main([*words, "--out", str(tmp_path / "tuned"), "--quiet"]) == 0
    assert equal(weights(tmp_path / "tuned"), weights(made / "tuned"))


def test_images_of_another_machine_are_to_be_named(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, 1, "evaluate", "--run", made / "ready" / "run", "--knn", "--trust")
    assert said == f"error: {made / 'ready' / 'run'} does not say where its images are: give them with --data\n"


def test_evaluate_keeps_no_results_in_it(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ready = made / "ready" / "tuned"
    before = sorted(ready.iterdir())
    data = ["--data", f"folder:{made / 'images'}", "--knn", "--trust"]
    assert main(["evaluate", "--run", str(made / "tuned"), *data]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("finetune", "knn"))]
    assert main(["evaluate", "--run", str(ready), *data]) == 0
    again = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("finetune", "knn"))]
    assert len(rows) >= 2
    assert again == rows
    assert sorted(ready.iterdir()) == before


def test_an_exported_net_is_exported_again(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    assert (
        main(["export", "--run", str(made / "ready" / "run"), "--out", str(out), "--half", "--trust", "--quiet"]) == 0
    )
    results = [
        (folder / "README.md").read_text().partition("## Results")[2].partition("## Files")[0]
        for folder in (made / "ready" / "run", out)
    ]
    assert results[0] == results[1] != ""
    assert (out / "model.safetensors").stat().st_size < (made / "ready" / "run" / "model.safetensors").stat().st_size


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "whitening.safetensors"])
def test_a_damaged_one(name: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (made / "ready" / "tuned").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 10 if file.name == name else None])
    assert str(tmp_path) in fails(capsys, 1, "predict", "--run", tmp_path, made / "images", "--trust")


def test_a_study_is_no_run(tmp_path: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cells").mkdir()
    said = fails(capsys, 1, "predict", "--run", tmp_path, made / "images")
    assert said.endswith(f"{tmp_path} is a study: give the folder of one of its nets\n")
    (tmp_path / "cells" / "finetune-hpca-12-s0").symlink_to(made / "tuned")
    said = fails(capsys, 1, "predict", "--run", tmp_path, made / "images")
    assert said.endswith(f"one of its nets, such as {tmp_path}/cells/finetune-hpca-12-s0\n")


def test_code_of_others_is_not_run(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ready = made / "ready" / "tuned"
    said = fails(capsys, 1, "predict", "--run", ready, made / "images")
    assert said == (
        f"error: {ready} is built by tiny:net, code of its author's: if you trust it, say --trust, or load(..., "
        "trust=True)\n"
    )
    with pytest.raises(ValueError, match=r"is built by tiny:net, code of its author's"):
        load(ready)
