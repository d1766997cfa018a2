"""Which options a user typed: they stand also where they say the default, and are refused where nothing reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

_NAMES, _WRITTEN = "_typed", "_written"


def remember(options: Any, words: Iterable[str], written: Iterable[str] = ()) -> None:
    """Keep with options which of them the words of a command line name, as --name, --name=value or --name.part.

    written: names of those that a configuration file gives; nobody minds where such a one is of no effect.
    """
    names = {word[2:].partition("=")[0].partition(".")[0] for word in words if word.startswith("--")}
    object.__setattr__(options, _NAMES, frozenset(names))
    object.__setattr__(options, _WRITTEN, frozenset(written))


def typed(options: Any) -> frozenset[str]:
    """Names of the options that a command line or its files gave, and of those that differ from their defaults."""
    differ = {f.name for f in fields(options) if getattr(options, f.name) != _default(f)}
    return frozenset(differ.union(*(getattr(options, kept, ()) for kept in (_NAMES, _WRITTEN))))


def check_effect(options: Any) -> None:
    """Refuse typed options that nothing reads, which the options' own `idle` names, each with the reason.

    Raises:
        ValueError: there is one.
    """
    reasons: dict[str, str] = options.idle() if hasattr(options, "idle") else {}
    for name, reason in reasons.items():
        value = getattr(options, name)
        if name in getattr(options, _NAMES, ()) and value is not False:
            said = f"--{name.replace('_', '-')}" + ("" if value is True else f" {_word(value)}")
            raise ValueError(f"{said} is of no effect {reason}: leave it out")


def _word(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return type(value).__name__ if is_dataclass(value) else str(value)


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
