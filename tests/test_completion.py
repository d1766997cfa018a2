"""Scripts of `fasthebb completion`: static, and as the command line is."""

from __future__ import annotations

import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from fasthebb import rules
from fasthebb.cli import COMMANDS, main
from fasthebb.jobs.options import PretrainOptions
from fasthebb.models import NETS
from fasthebb.options import parse
from fasthebb.recipes import RECIPES


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.fixture
def bash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "fasthebb.bash"
    path.write_text(script("bash", capsys))
    return path


def completed(path: Path, *words: str) -> set[str]:
    """What bash offers for the last of the words."""
    line = f'source "$0"; COMP_WORDS=(fasthebb "$@"); COMP_CWORD={len(words)}; _fasthebb; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", line, path, *words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands(bash: Path) -> None:
    assert completed(bash, "") == set(COMMANDS)
    assert completed(bash, "pre") == {"pretrain", "predict"}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("pretrain", "--ru"), {"--rule"}),
        (("pretrain", "--rule", "Ha"), {"HardWTA"}),
        (("pretrain", "--rule", "Lo"), set()),
        (("pretrain", "--model", ""), set(NETS)),
        (("pretrain", "--order", ""), {"joint", "layerwise"}),
        (("pretrain", "--data", "fa"), {"fashion-mnist"}),
        (("pretrain", "--no-w"), {"--no-whiten"}),
        (("study", "--recipe", ""), set(RECIPES)),
        (("study", "--methods", "h"), {"hpca", "hwta"}),
        (("embed", "--part", ""), {"train", "val", "test", "all"}),
        (("export", "--formats", "s"), {"safetensors"}),
        (("data", "c"), {"check"}),
        (("completion", ""), {"bash", "zsh", "fish"}),
        (("pretrain", "--out", "x"), set()),
        (("pretrain", "--config", ""), set()),
        (("nonsense", ""), set()),
    ],
    ids=str,
)
def test_bash_completes_options_and_values(words: tuple[str, ...], wanted: set[str], bash: Path) -> None:
    found = completed(bash, *words)
    assert {word for word in found if not word.startswith("--") or words[-1].startswith("--")} == wanted


def test_every_rule_that_is_offered_can_be_had(bash: Path) -> None:
    offered = completed(bash, "pretrain", "--rule", "")
    assert {type(parse("pretrain", PretrainOptions, ["--rule", name]).rule).__name__ for name in offered} == offered
    assert offered == set(rules.__all__) - {"Rule", "Local", "Terms", "Taught", "Modulated", "Prototypes"}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_every_option_is_in_every_script(shell: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in script(shell, capsys).splitlines() if re.search(rf"'(\w+ )?{command}\b", line)]
    for name in (field.name.replace("_", "-") for field in fields(COMMANDS[command].load()[0])):
        assert any(re.search(rf"(--|-l ){name}\b", line) for line in lines), name


def test_zsh_reads_the_script_of_bash(capsys: pytest.CaptureFixture[str]) -> None:
    assert script("bash", capsys) in script("zsh", capsys)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_runs_nothing_of_ours(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not re.search(
        r"\$\(.*fasthebb|python|`", script(shell, capsys).replace("`data check`", "").replace("`data shard`", "")
    )
