"""How the rows of a study belong together: a family of methods shares its features and differs in how they are read.

"HPCA probe", "HPCA SVM", "HPCA kNN" and "HPCA fine-tuned" are one family; so figures give them one colour.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from fasthebb.evaluation.results import Key, Summary

Family = tuple[str, str]  # name, rule
T = TypeVar("T")

END_TO_END = "end to end"
READOUTS = (END_TO_END, "probe", "SVM", "kNN")
LINES = 8  # as many as a reader tells apart in one figure
_FROZEN, _TRAINED = r"probe( together)?|svm|knn( propagated)?", r"fine-tuned|student( and teacher)?"
_SUFFIX = re.compile(rf"\s+({_FROZEN}|({_TRAINED})?( ?fixmatch( and teacher)?)?)$", re.IGNORECASE)


def end_to_end(row: Summary) -> bool:
    """Whether this row is of a net trained end to end on the labels: its method's name says so."""
    return any(kind in row.method.lower() for kind in ("scratch", "fine-tuned"))


def readout(row: Summary) -> str:
    """One of `READOUTS`: how the features of this row were read, by its method's name; a row of a depth is a probe."""
    named = (kind for kind in READOUTS if kind.lower() in row.method.lower())
    return next(named, END_TO_END if row.depth is None or end_to_end(row) else "probe")


def family(row: Summary) -> Family:
    """The method's name without its read-out, and the rule."""
    return _SUFFIX.sub("", row.method), row.rule


def line_up(rows: Sequence[Summary]) -> list[Family]:
    """Every family once, as they first appear; the place of one fixes its colour."""
    return list(dict.fromkeys(family(row) for row in rows))


def leaders(rows: Sequence[Summary]) -> list[Summary]:
    """The rows that one figure can hold: all of them, or of more than eight lines the best of each family.

    The best read-out of a family has the highest mean over the budgets that all its read-outs share.
    """
    lines: dict[Family, dict[Key, dict[int, float]]] = {}
    for row in rows:
        if row.n:
            lines.setdefault(family(row), {}).setdefault(row.key, {})[row.labels] = row.top1.mean
    if sum(map(len, lines.values())) <= LINES:
        return list(rows)
    best = {highest(means) for means in lines.values()}
    return [row for row in rows if row.key in best]


def highest(means: Mapping[T, Mapping[int, float]]) -> T:
    """Whose means, by budget, have the highest sum over the budgets that all share; the first of equals."""
    shared = set.intersection(*(set(line) for line in means.values()))
    return max(means, key=lambda one: math.fsum(means[one][labels] for labels in shared))
