"""A study that methods or seeds are added to: what was measured before stays, and is measured the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fasthebb.study.variants import IS

GROWING = ("methods", "ensembles", "seeds", "budget_seeds")
BY_METHOD = ("own", "rules", "rates")  # options that say something of methods by their names


def grown(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """A study's options as they were, with the methods and seeds that it has by now, and what concerns these alone.

    Seeds are added behind those that there were: the first one chooses settings. Ensembles may be added too: they are
    means of what is kept. Options that would change what was measured stay as they were, and so differ from those of
    now.
    """
    old = set(before["methods"])
    result = {**before, **_more_seeds(before, now)}
    if not old <= set(now["methods"]):
        return result
    told = old | {before["own"][name][IS] for name in old if IS in before["own"].get(name, ())}
    result["methods"] = now["methods"]
    result["whiten"] = _listed(before["whiten"], now["whiten"], old)
    for name in BY_METHOD:
        result[name] = _merged(before[name], now[name], told)
    result["ensembles"] = _merged(before["ensembles"], now["ensembles"], set(before["ensembles"]))
    return result


def _more_seeds(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    # The seeds of now, if they begin with those of before and every one of these has the budgets that it had.
    few, many = len(before["seeds"]), len(now["seeds"])
    was, wanted = before["budget_seeds"], now["budget_seeds"]
    same = all(min(was.get(b, few), few) == min(wanted.get(b, many), few) for b in before["budgets"])
    if now["seeds"][:few] != before["seeds"] or not same:
        return {}
    return {"seeds": now["seeds"], "budget_seeds": wanted}


def _listed(before: list[str], now: list[str], old: set[str]) -> list[str]:
    return [name for name in now if name in before or name not in old] if set(before) <= set(now) else before


def _merged(before: Mapping[str, Any], now: Mapping[str, Any], old: set[str]) -> Mapping[str, Any]:
    # What is said of old names as it was, of others as it is.
    if not before.keys() & old <= now.keys():
        return before
    return {name: before[name] if name in old else now[name] for name in now if name in before or name not in old}
