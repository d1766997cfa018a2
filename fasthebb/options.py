"""Dataclasses read from a command line and YAML by jsonargparse, and written back as plain values."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from fasthebb import conscience, rules  # noqa: F401 - conscience's classes are choices
from fasthebb.activation import Activation
from fasthebb.competition import Competition
from fasthebb.console import nearest
from fasthebb.explain import SIGNALLED, classes, one_line
from fasthebb.finish import Finisher
from fasthebb.response import Response
from fasthebb.typed import check_effect, remember

T = TypeVar("T")

set_parsing_settings(subclasses_enabled=[rules.Rule, Activation, Competition, Finisher, Response])


class Usage(Exception):  # noqa: N818 - what the user typed, not a failure
    """The command line cannot be understood; the message is one line."""


def parse(program: str, kind: type[T], given: Sequence[str], defaults: T | None = None) -> T:
    """Read a command's options; --help and --print-config print and exit.

    Args:
        program: what help calls it.
        kind: the dataclass of options.
        given: the words after the command; what they say goes before what a --config says, wherever it stands.
        defaults: values to start from, such as a recipe's; the dataclass's own otherwise.

    Raises:
        Usage: an option or value is unknown, or makes no sense.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # where --rule module.Class of one's own lies
    words, config = read_words(given, kind)
    parser = _parser(program, kind)
    start = {f.name: getattr(defaults, f.name) for f in fields(kind)} if defaults is not None else {}  # type: ignore[arg-type]
    if "rule" in config or values_of("--rule", words):
        start["rule"] = None  # else the arguments of the default rule would pass on to the one named
    if start:
        parser.set_defaults(start)
    if {"-h", "--help"} & set(words):
        text = re.sub(r"--[a-z][\w.]*", lambda option: option[0].replace("_", "-"), parser.format_help())
        sys.stdout.write(re.sub(r"<function\s+(\w+)\s+at\s+\w+>", r"\1", text))
        raise SystemExit(0)
    try:
        parsed = parser.parse_args([f"--config={json.dumps(config, default=str)}", *words])
        values = parser.instantiate(parsed)
        options = kind(**{f.name: values[f.name] for f in fields(kind)})  # type: ignore[arg-type]
        remember(options, words, config)
        check_effect(options)
    except (ArgumentError, ValueError) as error:
        raise Usage(one_line(error, parser)) from None
    if values["print_config"]:
        sys.stdout.write(to_yaml(options))
        raise SystemExit(0)
    return options


def read_words(given: Sequence[str], kind: type[Any]) -> tuple[list[str], dict[str, Any]]:
    """The words after a command as jsonargparse knows them, and what the YAML files named among them hold.

    Raises:
        Usage: there is no such file or no such rule, or the rule needs a signal.
    """
    types = {f.name: str(f.type) for f in fields(kind)}
    named, rest = _take("--config", given)
    words = plain_words(rest, kind)
    config: dict[str, Any] = {}
    for path in named:
        config |= {str(key).replace("-", "_"): value for key, value in _yaml(Path(path)).items()}
    if rule := values_of("--rule", words):
        config.pop("rule", None)
    elif isinstance(written := config.get("rule"), dict | str):
        _check_rule(written if isinstance(written, str) else str(written.get("class_path", "")), typed=False)
    for name in rule:
        _check_rule(name)
    return words, {name: _texts(value, types.get(name, "")) for name, value in config.items()}


def plain_words(given: Sequence[str], kind: type[Any]) -> list[str]:
    """What people type in the words that jsonargparse knows.

    --batch-size is --batch_size; --resume and --no-resume are --resume=true and --resume=false; a list is its items one
    after the other or with commas between: --seeds 0 1 2, --seeds 0,1,2. A word without an option is the value of the
    one that the dataclass calls its plain_word.

    Raises:
        Usage: there are two such words.
    """
    types = {f.name: str(f.type) for f in fields(kind)}
    by_place = getattr(kind, "by_place", ())
    words: list[str] = []
    placed: list[str] = []
    rest = list(given)
    while rest:
        if by_place and not rest[0].startswith("-"):
            placed.append(rest.pop(0))
            continue
        option, equals, value = rest.pop(0).partition("=")
        name = option[2:].replace("-", "_") if option.startswith("--") else ""
        if types.get(name, "").startswith("list["):
            items = [value] if equals else []
            while rest and not rest[0].startswith("--"):
                items.append(rest.pop(0))
            words.append(f"--{name}={_as_list(items, types[name])}")
        elif name.startswith("no_") and types.get(name[3:], "").startswith("bool") and not equals:
            words.append(f"--{name[3:]}=false")
        elif types.get(name, "").startswith("bool") and not equals:
            said = rest.pop(0) if rest and rest[0].lower() in ("true", "false") else "true"
            words.append(f"--{name}={said}")
        else:
            known = name.partition(".")[0] in types or name == "print_config"
            words.append((f"--{name}" if known else option) + equals + value)
            if known and name != "print_config" and not equals and rest:
                words.append(rest.pop(0))
    free = [name for name in by_place if not values_of(f"--{name}", words)]
    if len(placed) > len(free):
        names, word = ", ".join(by_place), placed[len(free)]
        raise Usage(f"{word!r} is one word too many: by place there is {names}, other options by --NAME")
    return words + [f"--{name}={word}" for name, word in zip(free, placed)]


def values_of(option: str, given: Sequence[str]) -> list[str]:
    """What the words give for an option, as `--option value` or `--option=value`."""
    return _take(option, given)[0]


def to_yaml(options: Any) -> str:
    """Options as YAML, every one of them, as --config reads it back."""
    text: str = yaml.safe_dump(plain(options), sort_keys=False, allow_unicode=True)
    return text


def plain(value: Any) -> Any:
    """Options as plain values that YAML can hold and a command line can read back.

    Raises:
        ValueError: a function among them cannot be imported.
    """
    if isinstance(value, rules.Rule | Activation | Competition | Finisher | Response):
        return {
            "class_path": _path(type(value)),
            "init_args": {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.init},
        }
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _function(value) if callable(value) else value


def _parser(program: str, kind: type[Any]) -> ArgumentParser:
    about = (kind.__doc__ or "").split("\n")[0]
    parser = ArgumentParser(prog=program, exit_on_error=False, description=about, print_config=None, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file of options, such as a run's config.yaml")
    parser.add_argument("--print_config", action="store_true", help="print all options as YAML and exit")
    parser.add_class_arguments(kind, None, as_group=False, fail_untyped=True)
    return parser


def _take(option: str, given: Sequence[str]) -> tuple[list[str], list[str]]:
    # The values of an option, and the words that are left.
    values, left, rest = [], [], list(given)
    while rest:
        word = rest.pop(0)
        if word == option and rest:
            values.append(rest.pop(0))
        elif word.startswith(f"{option}="):
            values.append(word.partition("=")[2])
        else:
            left.append(word)
    return values, left


def _as_list(items: Sequence[str], kind: str) -> str:
    split = [part.strip(" []\"'") for item in items for part in item.split(",") if part.strip(" []")]
    return json.dumps(split) if kind == "list[str]" else f"[{', '.join(split)}]"


def _texts(value: Any, kind: str) -> Any:
    # YAML reads 0.1 as a number where an option is text, such as a label budget.
    if kind == "list[str]":
        return [_texts(item, "str") for item in (value if isinstance(value, list) else [value])]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number and kind in ("str", "str | None") else value


def _yaml(path: Path) -> Mapping[Any, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Usage(f"--config {path}: there is no such file; check the path") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise Usage(f"--config {path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise Usage(f"--config {path} holds no options; it must map names to values")
    return content


def _check_rule(name: str, *, typed: bool = True) -> None:
    # Rules that need a signal are read back from what Python wrote down, but cannot be asked for.
    found, known = re.fullmatch(r"(?:fasthebb\.(?:rules\.)?)?(\w+)", name), classes(rules.Rule)
    if found is None or found[1] in known:
        return  # one of somebody's own, or there
    kind = getattr(rules, found[1], None)
    if isinstance(kind, type) and issubclass(kind, SIGNALLED):
        if not typed:
            return
        raise Usage(f"--rule {name} needs labels or a factor with every batch: use it from Python, with hebb.signal")
    near = nearest(found[1], known)
    hint = f"did you mean {near}? " if near else ""
    raise Usage(f"--rule {name}: there is no such rule; {hint}choose from {', '.join(known)}, or module.Class")


def _path(value: Any) -> str:
    module: str = value.__module__
    return f"{'fasthebb' if module.startswith('fasthebb.rules') else module}.{value.__qualname__}"


def _function(value: Any) -> str:
    module = getattr(value, "__module__", None)
    name = getattr(value, "__name__", "")  # not the qualified one, which for torch.sigmoid names a hidden class
    if module and name and getattr(importlib.import_module(module), name, None) is value:
        return f"{module}.{name}"
    said = " ".join(repr(value).split())
    raise ValueError(f"{said} cannot be written down: give a function that can be imported, as module.name")
