"""The command line: help at once, every option as people type it, rules with their own defaults."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from cases import label

import fasthebb
from fasthebb import HPCA, KWTA, SoftWTA, finish
from fasthebb.cli import COMMANDS, main
from fasthebb.jobs.data import DataCommandOptions
from fasthebb.jobs.evaluate import EvaluateOptions
from fasthebb.jobs.options import FinetuneOptions, PretrainOptions
from fasthebb.jobs.predict import PredictOptions
from fasthebb.options import Usage, parse, to_yaml
from fasthebb.recipes import RECIPES
from fasthebb.response import Cosine, Dot, RaisedCosine
from fasthebb.study.options import StudyOptions

COMMON = "data data-dir device max-bad"
TRAINING = f"{COMMON} lr epochs max-steps batch-size seed out resume checkpoint-steps config print-config"
OPTIONS = {
    "pretrain": f"{TRAINING} model width rule image-size order head",
    "finetune": f"{TRAINING} run labels balanced head-only weight-decay",
    "evaluate": f"{COMMON} run labels knn probe k seed",
    "study": f"{COMMON} recipe methods budgets seeds model width lr epochs image-size order head out resume",
    "embed": f"{COMMON} run images part depth layer pool out batch-size",
    "predict": "run images top out device batch-size",
    "export": "run out formats",
    "data": "data data-dir max-bad verb labels-file unlabeled",
    "completion": "shell",
    "report": "run",
    "bench": "rounds batch-size width device",
}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fasthebb", *words], capture_output=True, text=True, check=False)


def options(*words: str, kind: type[Any] = PretrainOptions, defaults: Any = None) -> Any:
    return parse("fasthebb", kind, words, defaults)


def test_help_is_immediate() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        done = run("--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.5, "the least of five, for the machine may be busy"


@pytest.mark.parametrize("words", [["--help"], ["--version"], [], ["nonsense"]])
def test_no_command_needs_no_torch(words: list[str]) -> None:
    code = f"import sys; from fasthebb.cli import main; main({words}); print({{'torch', 'yaml'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fasthebb {fasthebb.__version__}\n"


def test_no_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: fasthebb COMMAND")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert set(OPTIONS[command].split()) <= set(re.findall(r"^  --([a-z][\w-]*)", text, flags=re.MULTILINE))
    assert not re.search(r"--\w+_|0x[0-9a-f]{6}", text)


SOFT = ("--rule", "SoftWTA", "--rule.temperature", "0.05")


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"rule": "HPCA"},
        {"rule": {"class_path": "HPCA", "init_args": {"response": {"class_path": "fasthebb.response.Cosine"}}}},
        {"rule": {"class_path": "SoftWTA", "init_args": {"average": "plain", "response": "Dot"}}},
    ],
    ids=str,
)
def test_a_named_rule_has_its_own_defaults(written: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(written | {"lr": 0.5}))
    before, after = (*SOFT, "--config", str(tmp_path / "x.yaml")), ("--config", str(tmp_path / "x.yaml"), *SOFT)
    assert options(*SOFT).rule == SoftWTA(temperature=0.05, response=RaisedCosine(2.0))
    for words in (before, after):
        found = options(*words, defaults=PretrainOptions(rule=HPCA(response=Cosine()), epochs=3))
        assert found.rule == SoftWTA(temperature=0.05, response=RaisedCosine(2.0))
        assert (found.lr, found.epochs) == (0.5, 3)


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ((), HPCA()),
        (("--rule=SoftWTA",), SoftWTA()),
        (("--rule", "fasthebb.KWTA", "--rule.k=3"), KWTA(3)),
        (("--rule.finish", "fasthebb.finish.fan_in"), HPCA(finish=finish.fan_in)),
        (("--rule.activation", "tanh", "--rule.response", "Cosine"), HPCA("tanh", response=Cosine())),
        (("--rule", "SoftWTA", "--rule.response", "Dot"), SoftWTA(response=Dot())),
        (
            ("--rule", "SoftWTA", "--rule.response", "RaisedCosine", "--rule.response.power", "3"),
            SoftWTA(response=RaisedCosine(3.0)),
        ),
    ],
    ids=label,
)
def test_rules(words: tuple[str, ...], rule: fasthebb.Rule) -> None:
    assert options(*words).rule == rule


def test_a_rule_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_alone.py").write_text(
        "from dataclasses import dataclass\nimport fasthebb\n"
        "@dataclass(frozen=True)\nclass Mine(fasthebb.Hebb):\n    gain: float = 1.0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = options("--rule", "mine_alone.Mine", "--rule.gain", "0.5")
    assert type(found.rule).__name__ == "Mine"
    (tmp_path / "again.yaml").write_text(to_yaml(found))
    assert options("--config", "again.yaml") == found


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("--batch-size 7 --max-steps=3", {"batch_size": 7, "max_steps": 3}),
        ("--batch_size 7 --image-size 40", {"batch_size": 7, "image_size": 40}),
        ("--resume --lr 1e-2", {"resume": True, "lr": 0.01}),
        ("--resume false", {"resume": False}),
        ("--resume --no-resume", {"resume": False}),
        ("--out 123 --head 1 --data=folder:x=y", {"out": Path("123"), "head": "1", "data": "folder:x=y"}),
    ],
)
def test_options_as_people_type_them(words: str, wanted: dict[str, Any]) -> None:
    found = options(*words.split())
    assert {name: getattr(found, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("--budgets 0.01 0.1 --seeds 0,1", {"budgets": ["0.01", "0.1"], "seeds": [0, 1]}),
        ("--budgets=10%,500 --seeds 2", {"budgets": ["10%", "500"], "seeds": [2]}),
        ("--budgets [1%,20] --methods random, scratch", {"budgets": ["1%", "20"], "methods": ["random", "scratch"]}),
        ("--seeds [3,4]", {"seeds": [3, 4]}),
        ("--seeds 0 1 2 --no-balanced", {"seeds": [0, 1, 2], "balanced": False}),
    ],
)
def test_lists(words: str, wanted: dict[str, Any]) -> None:
    found = options(*words.split(), kind=StudyOptions)
    assert {name: getattr(found, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("words", "balanced", "labels"),
    [("", True, "0.1"), ("--no-balanced --labels 10%", False, "10%"), ("--balanced false --labels 5", False, "5")],
)
def test_labels_stay_text(words: str, balanced: bool, labels: str) -> None:
    found = options("--run", "x", *words.split(), kind=FinetuneOptions)
    assert (found.balanced, found.labels) == (balanced, labels)


def test_a_file_says_what_a_line_does(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("run: x\nlabels: 0.10\nnope: 1\n")
    with pytest.raises(Usage, match="no option --nope"):
        options("--config", str(tmp_path / "x.yaml"), kind=FinetuneOptions)
    (tmp_path / "x.yaml").write_text("run: x\nlabels: 0.5\nlr: 1e-2\nhead-only: true\nout: null\n")
    found = options("--config", str(tmp_path / "x.yaml"), "--lr", "3", kind=FinetuneOptions)
    assert (found.labels, found.lr, found.head_only) == ("0.5", 3.0, True)
    (tmp_path / "y.yaml").write_text("budgets: [0.1, 20, 5%]\nrates: {hpca: 0.5}\n")
    found = options(f"--config={tmp_path / 'y.yaml'}", "--config", str(tmp_path / "y.yaml"), kind=StudyOptions)
    assert (found.budgets, found.rates) == (["0.1", "20", "5%"], {"hpca": 0.5})


@pytest.mark.parametrize(
    "found", [PretrainOptions(rule=KWTA(2, finish=finish.tangent)), *(r() for r in RECIPES.values())]
)
def test_written_options_read_back(found: Any, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(to_yaml(found))
    assert options("--config", str(tmp_path / "x.yaml"), kind=type(found)) == found


def test_print_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["study", "--recipe", "digits", "--seeds", "5", "--print_config"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "x.yaml").write_text(text)
    assert yaml.safe_load(text)["seeds"] == [5]
    assert main(["study", "--config", str(tmp_path / "x.yaml"), "--print-config"]) == 0
    assert capsys.readouterr().out == text


REQUIRED = {
    "finetune": "--run x",
    "evaluate": "--run x --knn",
    "report": "--run x",
    "embed": "--run x --depth 2 --part val",
    "predict": "--run x y --top 3",
    "export": "--run x --out y --formats torch onnx",
    "data": "check --data folder:x",
    "completion": "fish",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_reads_what_it_prints(command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = REQUIRED.get(command, "").split()
    kind = COMMANDS[command].load()[0]
    assert main([command, *words, "--print-config"]) == 0
    (tmp_path / "x.yaml").write_text(capsys.readouterr().out)
    assert options("--config", str(tmp_path / "x.yaml"), kind=kind) == options(*words, kind=kind)


@pytest.mark.parametrize(
    "words", ["--run x y", "y --run x", "--run=x y", "--top 1 y --run x", "--images y --run x", "--run x --images=y"]
)
def test_a_plain_word(words: str) -> None:
    found = options(*words.split(), kind=PredictOptions)
    assert (found.run, found.images, found.top) == (Path("x"), Path("y"), 1)


@pytest.mark.parametrize(
    "words", ["shard a b", "--verb shard a b", "shard --data a b", "shard --out b a", "shard b --data a"]
)
def test_plain_words_in_order(words: str) -> None:
    found = options(*words.split(), kind=DataCommandOptions)
    assert (found.verb, found.data, found.out) == ("shard", "a", Path("b"))


@pytest.mark.parametrize("words", ["--run x y z", "--images y z --run x", "y --run x --top 1 z"])
def test_a_plain_word_too_many(words: str) -> None:
    with pytest.raises(Usage, match="'z' is one word too many: by place there is images, other options by --NAME"):
        options(*words.split(), kind=PredictOptions)


def test_a_recipe_of_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("recipe: digits\nwidth: 0.5\n")
    assert main(["study", "--config", str(tmp_path / "x.yaml"), "--lr", "7", "--print-config"]) == 0
    found, recipe = yaml.safe_load(capsys.readouterr().out), RECIPES["digits"]()
    assert (found["width"], found["lr"]) == (0.5, 7.0)
    assert (found["epochs"], found["finetune_steps"]) == (recipe.epochs, recipe.finetune_steps)


def test_a_recipe_at_other_budgets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = ["study", "--recipe", "few_labels_cifar10", "--print-config"]
    (tmp_path / "x.yaml").write_text("budgets: [10%]\n")
    for given in (["--budgets", "10%"], ["--config", str(tmp_path / "x.yaml")]):
        assert main([*recipe, *given]) == 0
        found = yaml.safe_load(capsys.readouterr().out)
        assert (found["budgets"], found["budget_seeds"], found["tune_at"]) == (["10%"], {"10%": 3}, ["10%"])
        assert found["own"]["random"]["budgets"] == ["10%"]


def test_evaluate_leaves_labels_open() -> None:
    found = options("--run", "x", "--knn", kind=EvaluateOptions)
    assert (found.labels, found.balanced, found.seed, found.knn, found.probe) == (None, None, None, True, False)


@pytest.mark.parametrize("rule", ["Prototypes", "Taught", "Modulated", "fasthebb.Modulated"])
def test_rules_that_need_a_signal_are_refused(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--rule", rule]) == 2
    assert f"--rule {rule} needs labels or a factor with every batch: use it from Python" in capsys.readouterr().err
    with pytest.raises(Usage, match="choose from") as problem:
        options("--rule", "Nope")
    assert rule.rpartition(".")[2] not in str(problem.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("Instar --rule.competition Foo", "--rule.competition Foo: there is no such class; choose from "),
        (
            "Instar --rule.competition Conscience --rule.competition.inner Foo",
            "inner Foo: there is no such class; choo",
        ),
        ("SoftWTA --rule.competition.inner Foo", "--rule.competition inner=Foo: give one of exp, power"),
        ("HPCA --rule.response Foo", "--rule.response Foo: there is no such class; choose from "),
        ('Oja --layer-rules {"conv1":"Foo"}', "--layer-rules Foo: there is no such class; choose from BCM, "),
        ("HPCA --rule.finish Chain", "--rule.finish needs --rule.finish.finishes too"),
        ("SOM --rule.shape 3", "--rule.shape 3: give a list, such as [3,4]"),
        ("HPCA --rule.activation.rate 7", "--rule.activation.rate: fasthebb.activation.Activation has no such"),
    ],
)
def test_messages_are_in_the_words_of_the_user(words: str, said: str) -> None:
    with pytest.raises(Usage) as problem:
        options("--rule", *words.split())
    assert said in str(problem.value)
    assert not re.search(r"NestedArg|Namespace|<class|Union|\n", str(problem.value))
