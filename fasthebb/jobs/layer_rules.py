"""Rules by pattern of layer names, and what a net must be like for them."""

from __future__ import annotations

from collections.abc import Mapping

from fasthebb.activation import Adaptive
from fasthebb.jobs.options import Forward
from fasthebb.rules import HPCA, ICA, Modulated, Rule, Taught
from fasthebb.rules.instar import Attracted

Rules = Rule | Mapping[str, Rule]


def by_layer(rules: Rules) -> dict[str, Rule]:
    """Rules by pattern of layer names; one rule alone is for every layer."""
    return {"*": rules} if isinstance(rules, Rule) else dict(rules)


def attachable(rules: Rules, head: str) -> dict[str, Rule | None]:
    """What to attach: rules by pattern of layer names, and none for the head.

    Raises:
        ValueError: a rule is for the head.
    """
    if head in by_layer(rules):
        raise ValueError(f"--layer-rules {head}: that is the head, which no rule trains; name hidden layers")
    return {head: None, **by_layer(rules)}


def rule_name(rules: Rules) -> str:
    """How results call a rule, or the rules of layers."""
    return "+".join(dict.fromkeys(type(rule).__name__ for rule in by_layer(rules).values()))


def forward_of(rules: Rules) -> Forward:
    """What the hidden layers of a net pass on when a rule, or the rules of layers, train it.

    Raises:
        ValueError: layers would differ.
    """
    found = {f"{type(rule).__name__} at {pattern}": _forward_of(rule) for pattern, rule in by_layer(rules).items()}
    if len(set(found.values())) > 1:
        wished = ", ".join(map(" ".join, found.items()))
        raise ValueError(f"Hidden layers have one forward, rules want {wished}: choose rules that agree, or --forward")
    return next(iter(found.values()))


def _forward_of(rule: Rule) -> Forward:
    if isinstance(rule, Taught | Modulated):
        return _forward_of(rule.rule)
    if isinstance(rule, Attracted):
        return "unit_norm_relu"
    if isinstance(rule, ICA):  # HICA is one
        return "tanh"
    if not isinstance(rule, HPCA):
        return "relu"
    named = rule.activation.f if isinstance(rule.activation, Adaptive) else rule.activation
    names: dict[object, Forward] = {"relu": "relu", "tanh": "tanh", "identity": "identity"}
    return names.get(named, "relu")
