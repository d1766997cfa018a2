"""Dataclasses read from a command line and YAML by jsonargparse."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from fasthebb import rules
from fasthebb.response import Response

T = TypeVar("T")

set_parsing_settings(subclasses_enabled=[rules.Rule, Response])


class Usage(Exception):  # noqa: N818 - what the user typed, not a failure
    """The command line cannot be understood; the message is one line."""


def parse(program: str, kind: type[T], given: Sequence[str], defaults: T | None = None) -> T:
    """Read a command's options.

    Args:
        program: what help calls it.
        kind: the dataclass of options.
        given: the words after the command.
        defaults: values to start from, such as a recipe's; the dataclass's own otherwise.

    Raises:
        Usage: an option or value is unknown.
        ValueError: a value is refused by the rule that it is for.
    """
    given = plain_words(given, kind)
    _check_rule(given)
    parser = ArgumentParser(prog=program, exit_on_error=False, description=(kind.__doc__ or "").split("\n")[0])
    parser.add_argument("--config", action="config", help="YAML file of options, such as a run's config.yaml")
    parser.add_class_arguments(kind, None, fail_untyped=True)
    start = {f.name: getattr(defaults, f.name) for f in fields(kind)} if defaults is not None else {}  # type: ignore[arg-type]
    if "rule" in {f.name for f in fields(kind)} and _names_rule(given):  # type: ignore[arg-type]
        start["rule"] = None  # else the arguments of the default rule would pass on to the one named
    if start:
        parser.set_defaults(start)
    try:
        parsed = parser.parse_args(list(given))
        values = parser.instantiate(parsed)
    except ArgumentError as error:
        raise Usage(_one_line(error, parser)) from None
    return kind(**{f.name: values[f.name] for f in fields(kind)})  # type: ignore[arg-type]


def plain_words(given: Sequence[str], kind: type[Any]) -> list[str]:
    """What people type in the words that jsonargparse knows.

    --batch-size is --batch_size; --resume and --no-resume are --resume=true and --resume=false; a list is its items one
    after the other or with commas between: --seeds 0 1 2, --seeds 0,1,2.
    """
    types = {f.name: str(f.type) for f in fields(kind)}
    words: list[str] = []
    rest = list(given)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        name = option[2:].replace("-", "_") if option.startswith("--") else ""
        if types.get(name, "").startswith("list["):
            items = [value] if equals else []
            while rest and not rest[0].startswith("--"):
                items.append(rest.pop(0))
            words.append(f"--{name}={_as_list(items, types[name])}")
        elif name.startswith("no_") and types.get(name[3:]) == "bool":
            words.append(f"--{name[3:]}=false")
        elif types.get(name) == "bool" and not equals and (not rest or rest[0].lower() not in ("true", "false")):
            words.append(f"--{name}=true")
        else:
            known = name in types or name == "print_config"
            words.append((f"--{name}" if known else option) + equals + value)
    return words


def _as_list(items: Sequence[str], kind: str) -> str:
    if len(items) == 1 and items[0].startswith("["):
        return items[0]
    split = [part.strip() for item in items for part in item.split(",") if part.strip()]
    return json.dumps(split) if kind == "list[str]" else f"[{', '.join(split)}]"


def _names_rule(given: Sequence[str]) -> bool:
    if any(word == "--rule" or word.startswith("--rule=") for word in given):
        return True
    return any("rule" in _yaml(Path(path)) for path in values_of("--config", given))


def values_of(option: str, given: Sequence[str]) -> list[str]:
    """What the words give for an option, as `--option value` or `--option=value`."""
    inline = [word.partition("=")[2] for word in given if word.startswith(f"{option}=")]
    return inline + [after for word, after in pairwise(given) if word == option]


def _yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Usage(f"--config {path}: there is no such file") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise Usage(f"--config {path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise Usage(f"--config {path} holds no options; it must map names to values")
    return content


def _check_rule(given: Sequence[str]) -> None:
    known = [name for name in rules.__all__ if name not in ("Rule", "Terms")]
    for name in values_of("--rule", given):
        if re.fullmatch(r"\w+", name) and name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]}? " if close else ""
            raise Usage(f"--rule {name}: there is no such rule; {hint}choose from {', '.join(known)}, or module.Class")


def _one_line(error: Exception, parser: ArgumentParser) -> str:
    text = " ".join(str(error).split())
    unknown = re.search(r"[Uu]nrecognized arguments: (\S+)", text)
    if unknown:
        options = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
        close = get_close_matches(unknown[1].partition("=")[0], options, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"{parser.prog}: there is no option {unknown[1]}{hint} (--help lists them)"
    return f"{parser.prog}: {text}"
