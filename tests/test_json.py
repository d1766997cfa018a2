"""`--json`: with every command stdout holds one document, whatever else is said; errors stay one line and a code."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tiny import COLOURS, NET, fails, write_images

from fasthebb.cli import COMMANDS, main
from fasthebb.jobs.outcome import Outcome, as_json


class Made(NamedTuple):
    root: Path
    data: str

    def __str__(self) -> str:
        return str(self.root)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A pre-trained, a fine-tuned run and a study."""
    root = tmp_path_factory.mktemp("made")
    data = f"folder:{write_images(root / 'images')}"
    start = (*NET, "--data", data, "--epochs", "1", "--batch-size", "16", "--quiet")
    assert main(["pretrain", *start, "--out", f"{root}/run"]) == 0
    tune = ("--labels", "12", "--min-steps", "1", "--epochs", "2", "--quiet")
    assert main(["finetune", "--run", f"{root}/run", *tune, "--out", f"{root}/tuned"]) == 0
    few = ("--methods", "random", "--budgets", "6", "--seeds", "0", "--finetune-steps", "2")
    assert main(["study", *start, *few, "--out", f"{root}/study"]) == 0
    return Made(root, data)


Checks = dict[str, tuple[str, Callable[[Any], bool]]]
CASES: Checks = {
    "pretrain": (
        "--model tiny:net --image-size 12 --data {data} --epochs 1 --batch-size 16 --out {tmp}/out",
        lambda found: found["run"].endswith("out") and found["seconds"] > 0,
    ),
    "finetune": (
        "--run {made}/run --labels 12 --min-steps 1 --epochs 2 --out {tmp}/out",
        lambda found: found["run"].endswith("out") and found["results"][0]["labels"] == 12,
    ),
    "evaluate": (
        "--run {made}/tuned --knn",
        lambda found: [r["method"] for r in found["results"]] == ["finetune", "knn", "knn", "knn"],
    ),
    "study": (
        "--model tiny:net --image-size 12 --data {data} --epochs 1 --batch-size 16 --methods random --budgets 6 "
        "--seeds 0 --finetune-steps 2 --out {tmp}/out",
        lambda found: found["report"].endswith("report.html") and found["results"][0]["labels"] == 6,
    ),
    "report": (
        "--run {made}/study",
        lambda found: found["report"].endswith("report.html") and len(found["results"]) > 0,
    ),
    "embed": (
        "--run {made}/tuned --out {tmp}/x.npz",
        lambda found: (found["images"], found["features"], found["layer"]) == (36, 8, "8"),
    ),
    "predict": ("--run {made}/tuned {made}/images", lambda found: len(found["predictions"]) == 36),
    "export": ("--run {made}/tuned --out {tmp}/out", lambda found: found["differences"]["model.safetensors"] == 0),
    "data": ("check --data {data}", lambda found: list(found["parts"][0]["per_class"]) == sorted(COLOURS)),
    "bench": ("--rounds 1 --width 0.02 --batch-size 2 --no-naive", lambda found: isinstance(found, dict)),
    "completion": ("bash", lambda found: found["script"].endswith("complete -o default -F _fasthebb fasthebb\n")),
}


def test_every_command_has_its_case() -> None:
    assert CASES.keys() == COMMANDS.keys()


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=pytest.mark.slow) if name == "bench" else name for name in CASES]
)
def test_stdout_is_one_document(command: str, made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, holds = CASES[command]
    capsys.readouterr()
    given = words.format(made=made, data=made.data, tmp=tmp_path).split()
    assert main([command, *given, "--json"]) == 0
    assert holds(json.loads(capsys.readouterr().out))


def test_errors_stay_one_line(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, 2, "predict", "--json")
    fails(capsys, 1, "predict", "--json", "--run", made.root / "run", made.root / "images")
    assert capsys.readouterr().out == ""


def test_values_that_json_does_not_have() -> None:
    found = {"a": math.nan, "b": [math.inf, Path("x")], 3: ("y", None, True)}
    wanted = {"a": None, "b": [None, "x"], "3": ["y", None, True]}
    assert json.loads(as_json(found, None)) == json.loads(as_json(Outcome(found, "failed"), None)) == wanted
