"""A study that methods are added to: what was measured before stays, and is measured the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fasthebb.study.variants import IS

BY_METHOD = ("own", "rules", "rates")  # options that say something of methods by their names


def grown(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """A study's options as they were, with the methods that it has by now, and what concerns these alone.

    Ensembles may be added too: they are means of what is kept. Options that would change an older method stay as they
    were, and so differ from those of now.
    """
    old = set(before["methods"])
    if not old <= set(now["methods"]):
        return dict(before)
    told = old | {before["own"][name][IS] for name in old if IS in before["own"].get(name, ())}
    result = {**before, "methods": now["methods"]}
    result["whiten"] = _listed(before["whiten"], now["whiten"], old)
    for name in BY_METHOD:
        result[name] = _merged(before[name], now[name], told)
    result["ensembles"] = _merged(before["ensembles"], now["ensembles"], set(before["ensembles"]))
    return result


def _listed(before: list[str], now: list[str], old: set[str]) -> list[str]:
    return [name for name in now if name in before or name not in old] if set(before) <= set(now) else before


def _merged(before: Mapping[str, Any], now: Mapping[str, Any], old: set[str]) -> Mapping[str, Any]:
    # What is said of old names as it was, of others as it is.
    if not before.keys() & old <= now.keys():
        return before
    return {name: before[name] if name in old else now[name] for name in now if name in before or name not in old}
