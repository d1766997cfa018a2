"""Options that a user typed: those that nothing reads are refused, and the default stands where it was typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fasthebb.cli import main
from fasthebb.jobs.evaluate import EvaluateOptions
from fasthebb.jobs.options import FinetuneOptions, PretrainOptions
from fasthebb.options import parse
from fasthebb.study.options import StudyOptions
from fasthebb.typed import typed

RIDGE = "finetune --run x --classifier ridge"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"{RIDGE} --lr 0.1", "--lr 0.1 is of no effect with --classifier ridge: leave it out"),
        (f"{RIDGE} --augment=light", "--augment light is of no effect with --classifier ridge"),
        (f"{RIDGE} --head-steps 5", "--head-steps 5 is of no effect with --classifier ridge"),
        (
            "finetune --run x --head-only --head-steps 5",
            "--head-steps 5 is of no effect with --head-only: leave it out",
        ),
        ("finetune --run x --head-only --hidden-rate 3", "--hidden-rate 3.0 is of no effect with --head-only"),
        (f"{RIDGE} --head-only", "--head-only is of no effect with --classifier ridge"),
        (
            'pretrain --rule Oja --rule.finish fasthebb.finish.fan_in --layer-rules {"conv*":"HPCA"}',
            "--rule Oja is of no effect with --layer-rules: leave it out",
        ),
        ("embed --run x --images y --part test", "--part test is of no effect with --images: leave it out"),
        ("evaluate --run x --knn --probe-epochs 3", "--probe-epochs 3 is of no effect without --probe: leave it out"),
        ("evaluate --run x --probe --probe-epochs 3", "--probe-epochs 3 is of no effect with --probe-method ridge"),
        ("evaluate --run x --probe --k 1", "--k 1 is of no effect without --knn, --propagate or --retrieval"),
        ("embed --run x --images y --max-bad 0.5", "--max-bad 0.5 is of no effect with --images: leave it out"),
        ("data check digits --short-side 9", "--short-side 9 is of no effect with data check, which writes nothing"),
        ("evaluate --run x --knn --mirror", "--mirror is of no effect without --probe or --together"),
        ("evaluate --run x --probe-depths 1 2", "--probe-depths 1 2 is of no effect without a read-out such as"),
    ],
)
def test_an_option_that_nothing_reads_is_refused(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (FinetuneOptions, "--run x --lr 0.1 --augment light"),
        (PretrainOptions, "--rule Oja"),
        (EvaluateOptions, "--run x --probe --probe-method adam --probe-epochs 3 --pool 2"),
        (EvaluateOptions, "--run x --together --mirror --probe-depths 1 2"),
        (EvaluateOptions, "--run x --propagate --k 3"),
        (EvaluateOptions, "--run x --retrieval --k 3"),
        (EvaluateOptions, "--run x --knn --no-mirror"),
        (FinetuneOptions, "--run x --classifier ridge --no-head-only --tensorboard"),
    ],
)
def test_what_is_read_is_taken(kind: type[Any], words: str) -> None:
    parse("fasthebb", kind, words.split())


def test_what_a_file_says_is_not_typed(tmp_path: Path) -> None:
    whole = {"run": "x", "lr": 0.1, "classifier": "ridge"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(whole))
    assert parse("fasthebb", FinetuneOptions, ["--config", str(tmp_path / "config.yaml")]).lr == 0.1


def test_typed_names() -> None:
    words = ["--seeds", "0", "1", "2", "--lr=0.001", "--no-finetune", "--model", "sixlayer"]
    assert typed(parse("fasthebb", StudyOptions, words)) == {"seeds", "lr", "finetune", "model"}
    assert typed(StudyOptions(lr=0.5)) == {"lr"}
