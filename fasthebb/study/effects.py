"""What each option does: every variant of a study against what it is a variant of, paired by seed.

| variant | is compared with |
|---|---|
| a method that `is` another | that method |
| a rule of the class of an earlier one, with other arguments | that rule |
| an ensemble | its first member |

Variants that change the same options are a group. A read-out that none of these options reaches is left out: it is that
of the base once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fasthebb.evaluation.results import Difference, Record, count, paired
from fasthebb.study.families import Family
from fasthebb.study.options import RATES, title_of
from fasthebb.study.variants import IS, OWN
from fasthebb.study.verdict import signed

TWINS = ("(hebbian twin)", "(backprop twin)")
MATCHED = ("student FixMatch", "student FixMatch and teacher", "fine-tuned FixMatch", "FixMatch")
STUDENTS = ("student", "student and teacher", "student FixMatch", "student FixMatch and teacher")
FROZEN = ("probe", "probe together", "kNN", "kNN propagated", "SVM")
READ_OUTS = (  # as results call them, after a method's title
    *FROZEN, "fine-tuned", "fine-tuned FixMatch", *STUDENTS, "", "FixMatch", *TWINS,
)  # fmt: skip
PROBES = ("probe", "probe together", *STUDENTS)
END_TO_END = ("fine-tuned", "fine-tuned FixMatch", "", "FixMatch", *TWINS)
MEASURED = (  # options that say what is measured, and change no accuracy
    "probe", "knn", "svm", "retrieval", "finetune", "finetune_depths", "both_twins", "budgets", "budget_seeds",
)  # fmt: skip
REACH: dict[str, tuple[str, ...]] = {  # the read-outs of options that reach some alone
    **dict.fromkeys(("student", "student_model", "student_width"), STUDENTS),
    **dict.fromkeys(("fixmatch_steps", "fixmatch_ratio", "fixmatch_lr", "fixmatch_hidden_rate"), MATCHED),
    **dict.fromkeys(("pool", "probe_depths"), (*FROZEN, *STUDENTS)),
    **dict.fromkeys(("probe_method", "probe_epochs"), ("probe", *STUDENTS)),
    **dict.fromkeys(("mirror", "shifts"), PROBES),
    "together": ("probe together", *STUDENTS),
    "propagate": ("kNN propagated",),
    "k": ("kNN", "kNN propagated"),
    **dict.fromkeys(("head_steps", "hidden_rate", "finetune_epochs", "tuning", "tune_steps"), END_TO_END),
    **dict.fromkeys(
        ("finetune_lr", "finetune_steps", "finetune_batch_size", "weight_decay", "augment"), (*END_TO_END, *STUDENTS)
    ),
}
CROWD = 16  # families
HOW = (
    "Top-1 of a variant less that of what it is a variant of, in points, paired by seed: mean ± half width of the 95 %"
    " t-interval."
)


class Effect(NamedTuple):
    """A variant's read-out against one of its base: titles and read-outs as results call them.

    changes: the options that differ, with the variant's values. gaps: top-1 in points, a difference for every budget.
    """

    title: str
    read_out: str
    base: str
    against: str
    changes: Mapping[str, Any]
    gaps: Sequence[Difference]

    @property
    def method(self) -> str:
        """The variant's read-out, as a record has it."""
        return f"{self.title} {self.read_out}".strip()

    @property
    def reference(self) -> str:
        """What it is compared with, as a record has it."""
        return f"{self.base} {self.against}".strip()

    @property
    def words(self) -> str:
        """The changes as people read them."""
        return ", ".join(_said(name.replace("_", " "), value) for name, value in self.changes.items())


def effects(config: Mapping[str, Any], records: Sequence[Record]) -> dict[str, list[Effect]]:
    """The effects of a study's options, by the options that variants change, such as "rescale, renew".

    `config`: of the study's config.yaml. The records of no depth count. What lacks a seed that measured both is left
    out.
    """
    keys = {r.method: (r.method, r.rule, None) for r in records if r.depth is None}
    found: dict[str, list[Effect]] = {}
    for title, base, changes in (*_variants(config), *_ensembles(config)):
        group = ", ".join(name.replace("_", " ") for name in changes)
        for read_out in READ_OUTS:
            if not any(read_out in REACH.get(name, READ_OUTS) for name in changes):
                continue
            for against in dict.fromkeys((read_out, *read_out.split(" ")[:1], "probe", "probe together")):
                one = Effect(title, read_out, base, against, changes, ())
                if one.method not in keys or one.reference not in keys:
                    continue
                gaps = paired(records, keys[one.method], keys[one.reference])
                found.setdefault(group, []).extend([one._replace(gaps=gaps)] if gaps else [])
                break
    return {group: some for group, some in found.items() if some}


def without_variants(families: Sequence[Family], groups: Mapping[str, Sequence[Effect]]) -> list[Family]:
    """The families that figures of all methods hold: of more than a reader tells apart, those that are no variants."""
    variants = {one.title for some in groups.values() for one in some}
    return [one for one in families if len(families) <= CROWD or one[0] not in variants]


def effect_table(groups: Mapping[str, Sequence[Effect]], bold: str) -> tuple[list[str], list[list[str]]]:
    """Column names and cells: a line per effect, a column per budget.

    `bold` makes a difference whose interval leaves out zero stand out, with {} for it.
    """
    every = [one for some in groups.values() for one in some]
    budgets = sorted({gap.labels for one in every for gap in one.gaps})
    table = []
    for one in every:
        cells = {gap.labels: bold.format(signed(gap.estimate)) if gap.clear else signed(gap.estimate)
                 for gap in one.gaps}  # fmt: skip
        table.append([one.method, one.words, one.reference, *(cells.get(labels, "–") for labels in budgets)])
    return ["variant", "changes", "against", *(f"{count(labels)} labels" for labels in budgets)], table


def gist(group: str, some: Sequence[Effect]) -> str:
    """What the figure of a group shows, in a sentence."""
    said = [
        f"{one.method} against {one.reference}: "
        + ", ".join(f"{signed(gap.estimate)} at {count(gap.labels)} labels" for gap in one.gaps)
        for one in some
    ]
    return f"What {group} does to top-1, in points. {'; '.join(said)}."


def _variants(config: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    # Titles of every variant and of its base, and what it changes.
    own, rules = config.get("own", {}), config.get("rules", {})
    for place, name in enumerate(config["methods"]):
        same = (other for other in config["methods"][:place] if _kind(config, other) and
                _kind(config, other) == _kind(config, name))  # fmt: skip
        base = own.get(name, {}).get(IS, next(same, name))
        ours, theirs = _options(config, name), _options(config, base)
        changes = {option: value for option, value in ours.items() if value != theirs[option]}
        if name in rules and base in rules:
            arguments = rules[base].get("init_args", {})
            changes |= {k: v for k, v in rules[name].get("init_args", {}).items() if v != arguments.get(k)}
        if changes and base != name and base in config["methods"]:
            yield title_of(name, own), title_of(base, own), changes


def _kind(config: Mapping[str, Any], method: str) -> str | None:
    # The class of a method that is a rule, the same for all layers.
    kind: str | None = config.get("rules", {}).get(method, {}).get("class_path")
    return kind


def _options(config: Mapping[str, Any], method: str) -> dict[str, Any]:
    own, rates = config.get("own", {}).get(method, {}), config.get("rates", {})
    base = own.get(IS, method)
    rate = rates.get(method, rates.get(base, RATES.get(base, config.get("lr"))))
    given = {**config, "lr": rate, **own}
    found = {name: given.get(name) for name in OWN if name not in MEASURED}
    return {**found, "whiten": method in config.get("whiten", ())}


def _ensembles(config: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, members in config.get("ensembles", {}).items():
        titles = [title_of(member, config.get("own", {})) for member in members]
        yield name, titles[0], {"ensemble": f"of {' and '.join(titles)}"}


def _said(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else f"no {name}"
    if isinstance(value, Mapping):
        value = value.get("class_path", value)
    return f"{name} {str(value).rpartition('.')[2] if 'fasthebb.' in str(value) else value}"
