"""`fasthebb completion`: scripts that let a shell complete commands, options and their values."""

from __future__ import annotations

import shlex
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, NamedTuple

from fasthebb.console import Console
from fasthebb.data.named import NAMES
from fasthebb.data.sources import SPECS
from fasthebb.explain import classes
from fasthebb.models import NETS
from fasthebb.rules import Rule

EVERYWHERE = ("--config", "--print-config", "--help", "--quiet", "--debug", "--json")


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """Print a script that lets a shell complete commands, options and their values.

    Args:
        shell: bash, zsh or fish; the option's name may be left out.
    """

    by_place: ClassVar[tuple[str, ...]] = ("shell",)

    shell: Literal["bash", "zsh", "fish"]


class Option(NamedTuple):
    """An option as a shell knows it: its values, whether it is a file or a switch, whether its name may be left out."""

    name: str
    choices: tuple[str, ...]
    file: bool
    switch: bool
    plain: bool


Commands = Mapping[str, tuple[str, Sequence[Option]]]  # by name, the help line and the options


def run(
    options: CompletionOptions,
    _: Console,
    kinds: Mapping[str, tuple[str, type[Any]]],
    known: Mapping[str, Sequence[str]],
) -> dict[str, str]:
    """Print the script, and return it.

    Args:
        kinds: by command, its help line and its dataclass of options.
        known: by name of an option, values that only the caller knows, such as recipes.
    """
    commands = {name: (about, list_options(kind, known)) for name, (about, kind) in kinds.items()}
    script = {"bash": bash, "zsh": zsh, "fish": fish}[options.shell](commands)
    sys.stdout.write(script)
    return {"shell": options.shell, "script": script}


def list_options(kind: type[Any], known: Mapping[str, Sequence[str]]) -> list[Option]:
    """The options of a dataclass. known: values that its types do not tell, by name."""
    hints = typing.get_type_hints(kind)
    plain = next(iter(getattr(kind, "by_place", ())), None)
    named = {"model": tuple(NETS), "data": (*SPECS[:1], "folder:", "shards:", *NAMES), **known}
    found = []
    for name in (field.name for field in fields(kind)):
        types = list(_types(hints[name]))
        choices = tuple(str(value) for kind in types for value in _literals(kind)) or tuple(named.get(name, ()))
        if Rule in types:
            choices = tuple(classes(Rule))
        option = f"--{name.replace('_', '-')}"
        found.append(Option(option, choices, Path in types, bool in types, name == plain))
    return found


def _types(hint: Any) -> Sequence[Any]:
    """The types that a hint allows; those of the items of a list."""
    if typing.get_origin(hint) in (typing.Union, UnionType, list):
        return [inner for part in typing.get_args(hint) for inner in _types(part)]
    return [hint]


def _literals(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def bash(commands: Commands) -> str:
    """For ~/.bashrc: `source <(fasthebb completion bash)`. Where it has no answer, files are completed."""
    cases = []
    for name, (_, options) in commands.items():
        for option in options:
            if not option.switch:
                cases.append(f"        '{name} {option.name}') words={shlex.quote(' '.join(option.choices))} ;;")
        words = [*_names(options), *(choice for option in options if option.plain for choice in option.choices)]
        cases.append(f"        '{name} --config') words='' ;;")
        cases.append(f"        '{name} '*) words={shlex.quote(' '.join(words))} ;;")
    return "\n".join(
        [
            "_fasthebb() {",
            "    local word=${COMP_WORDS[COMP_CWORD]} words",
            '    case "${COMP_WORDS[1]} ${COMP_WORDS[COMP_CWORD-1]}" in',
            *cases,
            "    esac",
            f'    [ "$COMP_CWORD" -eq 1 ] && words={shlex.quote(" ".join(commands))}',
            '    COMPREPLY=($(compgen -W "$words" -- "$word"))',
            "}",
            "complete -o default -F _fasthebb fasthebb",
            "",
        ]
    )


def zsh(commands: Commands) -> str:
    """For ~/.zshrc: `source <(fasthebb completion zsh)`; zsh reads bash's script."""
    return f"autoload -Uz compinit bashcompinit\ncompinit\nbashcompinit\n{bash(commands)}"


def fish(commands: Commands) -> str:
    """For ~/.config/fish/completions/fasthebb.fish."""
    lines = ["complete -c fasthebb -f"]
    for name, (about, options) in commands.items():
        lines.append(f"complete -c fasthebb -n __fish_use_subcommand -a {name} -d {_fish(about)}")
        given = f"complete -c fasthebb -n '__fish_seen_subcommand_from {name}'"
        for option in options:
            values = f" -a {_fish(' '.join(option.choices))}" if option.choices else ""
            kind = "" if option.switch else f" -r -F{values}" if option.file else f" -x{values}"
            lines.append(f"{given} -l {option.name[2:]}{kind}")
            if option.switch:
                lines.append(f"{given} -l no-{option.name[2:]}")
            if option.plain:
                lines.append(f"{given} -F" if option.file else f"{given}{values}")
        lines += [f"{given} -l {name[2:]}{' -r -F' if name == '--config' else ''}" for name in EVERYWHERE]
    return "\n".join([*lines, ""])


def _names(options: Sequence[Option]) -> list[str]:
    switches = [f"--no-{option.name[2:]}" for option in options if option.switch]
    return [*(option.name for option in options), *switches, *EVERYWHERE]


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
