"""What the records say, in words: which rows a table shows, which cells lead, and how Hebbian training compares.

A row is Hebbian if a rule trained it: `Record.rule` is neither empty nor "none", and the method is neither random nor
from scratch. Comparisons pair the seeds, since a seed fixes the labels; a difference is clear if its 95 % t-interval
leaves out zero and is no point.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fasthebb.evaluation.results import Difference, Estimate, Key, Record, Summary, count, paired
from fasthebb.study.families import END_TO_END, end_to_end, highest, readout

RETRIEVAL = re.compile(r"(?P<method>.+?)(?: retrieval)? (?P<measure>(?:mAP|P@\d+)(?: \d+ bit)?)")

ENOUGH = 3  # seeds, for a row to lead whatever others have


@dataclass(frozen=True)
class Contest:
    """At one budget, the best Hebbian row, the best row it is measured against, and the difference in points."""

    ours: Summary
    theirs: Summary
    gap: Difference

    @property
    def outcome(self) -> str:
        """Where our mean lies and how sure that is, with {} for what it is measured against."""
        if not self.gap.spread:
            return f"{_side(self.gap.estimate.mean)} {{}} (no interval)"
        return f"clearly {_side(self.gap.estimate.mean)} {{}}" if self.gap.clear else "not distinguishable from {}"


def hebbian(row: Summary) -> bool:
    """Whether a Hebbian rule trained the features of this row."""
    name = row.method.lower()
    return row.rule.lower() not in ("", "-", "none") and "random" not in name and not scratch(row)


def scratch(row: Summary) -> bool:
    """Whether this row is supervised training from scratch: its method's name says so."""
    return "scratch" in row.method.lower()


def reads_features(row: Summary) -> bool:
    """Whether this row is a read-out of frozen features: probe, SVM, kNN, or one of a depth."""
    return readout(row) != END_TO_END


def retrieves(row: Summary) -> bool:
    """Whether this row measures retrieval, which is no accuracy: its method ends in mAP or P@k, perhaps in bit."""
    return RETRIEVAL.fullmatch(row.method) is not None


def shown(rows: Sequence[Summary]) -> list[Summary]:
    """The accuracies of the main table: those of no depth; of a method that has none, one depth for all budgets.

    A study's probes choose their depth by the budget's own labels, and that record has no depth; nor has the whole net
    trained end to end, which stands for those cut at a depth. For records of another
    origin it is the depth of the highest mean over the budgets at which every depth was probed, baselines alike.
    """
    rows = [row for row in rows if not retrieves(row)]
    whole = [row for row in rows if row.depth is None and (reads_features(row) or end_to_end(row))]
    chosen = {(row.method, row.rule) for row in whole}
    probes: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    for row in rows:
        if row.depth is not None and row.n and (row.method, row.rule) not in chosen:
            depths = probes.setdefault((row.method, row.rule), {})
            depths.setdefault(row.depth, {})[row.labels] = row.top1.mean
    best = {method: highest(depths) for method, depths in probes.items()}
    return [row for row in rows if row.depth is None or row.depth == best.get((row.method, row.rule))]


def marks(records: Sequence[Record], rows: Sequence[Summary]) -> dict[tuple[Key, int], str]:
    """At each budget the row with the highest top-1 is "best"; one that is not clearly below it is a "tie"."""
    found: dict[tuple[Key, int], str] = {}
    for labels in {row.labels for row in rows}:
        cells = [row for row in rows if row.labels == labels and row.n]
        if not cells:
            continue
        best = max(cells, key=lambda row: row.top1.mean)
        for row in cells:
            gap = difference(records, best, row)
            if row is best:
                found[row.key, labels] = "best"
            elif gap.spread and not gap.clear:
                found[row.key, labels] = "tie"
    return found


def difference(records: Sequence[Record], a: Summary, b: Summary) -> Difference:
    """Top-1 of `a` minus `b` at `a`'s budget, paired by seed; without a common seed the means alone, no interval."""
    for gap in paired(records, a.key, b.key):
        if gap.labels == a.labels:
            return gap
    return Difference(a.labels, {}, Estimate(a.top1.mean - b.top1.mean, math.nan))


def contests(records: Sequence[Record], rows: Sequence[Summary]) -> list[Contest]:
    """The best Hebbian row against the best from-scratch row, budget by budget, where both were measured.

    Without any from-scratch row, against the best row of no Hebbian rule.
    """
    found = []
    rows = [row for row in rows if not retrieves(row)]
    others = [row for row in rows if scratch(row)] or [row for row in rows if not hebbian(row)]
    for labels in sorted({row.labels for row in rows}):
        ours = _best([row for row in rows if hebbian(row)], labels)
        theirs = _best(others, labels)
        if ours and theirs:
            found.append(Contest(ours, theirs, difference(records, ours, theirs)))
    return found


def headline(records: Sequence[Record], rows: Sequence[Summary]) -> str:
    """What the table shows, in a few sentences; the smallest budget first, and no kinder than the numbers."""
    rows = [row for row in rows if not retrieves(row)]
    fights = contests(records, rows)
    if fights:
        more = [*_labels_alone(fights[0], rows), *_above_both(fights[0], rows), *_rest(fights)]
        return " ".join([_first(fights[0]), *more])
    best = _best(rows, min((row.labels for row in rows if row.n), default=0))
    if best is None:
        return "No accuracy was measured yet."
    return (
        f"At {count(best.labels)} labels {best.name} leads with {best.top1} %; nothing to compare it with was measured."
    )


def signed(gap: Estimate) -> str:
    """A difference with its sign and, where known, the half width of its interval."""
    words = f"{gap.mean:+.1f}".replace("-", "−")
    return words if math.isnan(gap.half_width) else f"{words} ± {gap.half_width:.1f}"


def _first(fight: Contest) -> str:
    ours, theirs, gap = fight.ours, fight.theirs, round(fight.ours.top1.mean - fight.theirs.top1.mean, 1)
    where, against = f"At {count(ours.labels)} labels", _against(theirs)
    if gap > 0:
        said = f"{where} {ours.name} reaches {ours.top1} %, {gap:.1f} points above {against}"
    else:
        behind = f"{-gap:.1f} points below" if gap < 0 else "level with it"
        best = f"the best of them, {ours.name}, reaches {ours.top1} %, {behind}"
        said = f"{where} no Hebbian method beats {against}: {best}"
    said += f" ({theirs.name}: {theirs.top1} %)."
    if math.isnan(fight.gap.estimate.half_width):
        return f"{said} Fewer than two seeds measured both, so how sure that is cannot be said."
    sure = "." if fight.gap.clear else ", an interval that includes zero."
    if not fight.gap.spread:
        sure = " in each of them: the test images are too few to say how sure that is."
    pairs = len(fight.gap.by_seed)
    return f"{said} Paired over {pairs} seeds the difference is {signed(fight.gap.estimate)} points{sure}"


def _labels_alone(fight: Contest, rows: Sequence[Summary]) -> list[str]:
    # Where the best from scratch sees images without labels, what the labels alone give.
    alone = [row for row in rows if scratch(row) and "fixmatch" not in row.method.lower()]
    best = _best(alone, fight.ours.labels)
    if not (scratch(fight.theirs) and "fixmatch" in fight.theirs.method.lower() and best):
        return []
    return [f"On the labels alone, without FixMatch, training from scratch reaches {best.top1} % ({best.name})."]


def _above_both(fight: Contest, rows: Sequence[Summary]) -> list[str]:
    best = _best(rows, fight.ours.labels)
    assert best is not None
    if best.top1.mean <= max(fight.ours.top1.mean, fight.theirs.top1.mean):
        return []
    return [f"The best of all there is {best.name} with {best.top1} %."]


def _rest(fights: Sequence[Contest]) -> list[str]:
    if len(fights) < 2:
        return []
    outcomes: dict[str, list[str]] = {}
    for fight in fights:
        outcomes.setdefault(fight.outcome, []).append(count(fight.ours.labels))
    against = _against(fights[0].theirs)
    if len(outcomes) == 1:
        return [f"At every budget the best Hebbian method is {fights[0].outcome.format(against)}."]
    parts: list[str] = []
    for outcome, labels in outcomes.items():
        parts.append(f"{outcome.format('it' if parts else against)} at {listed(labels)}{'' if parts else ' labels'}")
    return [f"Budget by budget, the best Hebbian method is {'; '.join(parts)}."]


def _against(theirs: Summary) -> str:
    return "training from scratch" if scratch(theirs) else "the best method without a Hebbian rule"


def _best(rows: Iterable[Summary], labels: int) -> Summary | None:
    # A row of one seed or two leads only where none has more: intervals of two are of no use.
    some = [row for row in rows if row.n and row.labels == labels]
    seeds = min(ENOUGH, max((row.n for row in some), default=0))
    return max((row for row in some if row.n >= seeds), key=lambda row: row.top1.mean, default=None)


def _side(gap: float) -> str:
    return "above" if gap > 0 else "below" if gap < 0 else "level with"


def listed(words: Sequence[str]) -> str:
    """Words as people list them."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
