"""Which layers a mapping of name patterns means."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn

from fasthebb.layers import LAYERS, Attachable, Units, units_of
from fasthebb.rules.base import Rule


class Match(NamedTuple):
    """One layer that a pattern gave a rule."""

    name: str
    module: Attachable
    units: Units
    rule: Rule


def match(model: nn.Module, rules: Mapping[str, Rule | None]) -> list[Match]:
    """The layers of a model that get a rule, in the model's order; the first matching pattern wins.

    Warns once about trainable biases, tied weights, and patterns that others leave nothing to.

    Raises:
        ValueError: a pattern matches nothing, names another kind of module, maps to something else than a rule or None,
            or a layer that gets a rule cannot show its units.
    """
    modules = {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}
    _check_patterns(model, modules, rules)
    matches = []
    for name in modules:
        pattern = _first(name, rules)
        rule = None if pattern is None else rules[pattern]
        if rule is None:
            continue
        try:
            units = units_of(modules[name])
        except ValueError as error:
            raise ValueError(f"{name!r} cannot learn by a rule: {error}; map it to None to leave it out") from None
        matches.append(Match(name, modules[name], units, rule))
    if not matches:
        raise ValueError(f"No layer gets a rule from {list(rules)}; there {_what_there_is(modules)}")
    _warn(model, modules, rules, matches)
    return matches


def _check_patterns(model: nn.Module, modules: Mapping[str, nn.Module], rules: Mapping[str, object]) -> None:
    others = dict(model.named_modules())
    for pattern, rule in rules.items():
        if rule is not None and not isinstance(rule, Rule):
            hint = f"; did you mean {rule.__name__}()?" if isinstance(rule, type) else ""
            raise ValueError(f"{pattern!r} maps to {rule!r}, which is neither a rule nor None{hint}")
        if any(fnmatchcase(name, pattern) for name in modules):
            continue
        if pattern in others:
            kind = type(others[pattern]).__name__
            raise ValueError(f"{pattern!r} is a {kind}, which has no rule; there {_what_there_is(modules)}")
        if alias := dict(model.named_modules(remove_duplicate=False)).get(pattern):
            name = next(name for name, module in others.items() if module is alias)
            raise ValueError(f"{pattern!r} is the same module as {name!r}: call it that")
        raise ValueError(f"{pattern!r} matches no layer; there {_what_there_is(modules)}")


def _first(name: str, rules: Mapping[str, object]) -> str | None:
    return next((pattern for pattern in rules if fnmatchcase(name, pattern)), None)


def _what_there_is(modules: Mapping[str, nn.Module]) -> str:
    if not modules:
        return "is no Linear or Conv layer"
    return "are " + ", ".join(f"{name!r} ({type(module).__name__})" for name, module in modules.items())


def _warn(
    model: nn.Module, modules: Mapping[str, nn.Module], rules: Mapping[str, object], matches: list[Match]
) -> None:
    said = _unreached(modules, rules)
    biased = [
        m.name or "the model itself" for m in matches if m.module.bias is not None and m.module.bias.requires_grad
    ]
    if biased:
        said.append(f"No rule trains a bias: those of {', '.join(biased)} stay as they are")
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            owners.setdefault(id(parameter), []).append(name)
    for names in [owners.pop(id(m.module.weight), []) for m in matches]:
        if len(names) > 1:
            shared = f"{' and '.join(names)} share one weight"
            said.append(f"{shared}: updates of one change all of them, of several add up")
    for message in said:
        warnings.warn(message, stacklevel=5)


def _unreached(modules: Mapping[str, nn.Module], rules: Mapping[str, object]) -> list[str]:
    # Patterns whose layers all get rules by patterns before them; what was left out before was meant so.
    said = []
    for pattern in rules:
        winners = {_first(name, rules) for name in modules if fnmatchcase(name, pattern)}
        if pattern not in winners and all(rules[winner] is not None for winner in winners if winner is not None):
            first = next(other for other in rules if other in winners)
            said.append(f"{pattern!r} says nothing, since {first!r} stands before it: put {pattern!r} first")
    return said
