"""The sections of a report that the records fill: accuracies, differences, depths, cost and retrieval, as HTML.

Each but `options` takes the rows of `summarise`, and returns "" where nothing was measured. `drawn`: with figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from fasthebb.evaluation.results import Estimate, Key, Record, Summary, count
from fasthebb.study import figures
from fasthebb.study.effects import HOW, Effect, effect_table
from fasthebb.study.families import END_TO_END, READOUTS, Family, family, leaders, line_up, readout
from fasthebb.study.page import blocks, escape, figure, folded, gallery, note, prose, table
from fasthebb.study.verdict import RETRIEVAL, contests, difference, marks, reads_features, scratch, shown, signed


def accuracy(records: Sequence[Record], rows: Sequence[Summary], families: Sequence[Family], *, drawn: bool) -> str:
    """The main table and its figure; top-5 and a figure for each read-out behind a line that opens them."""
    kept = shown(rows)
    if not any(row.n for row in kept):
        return ""
    panels = _by_readout(kept, families) if drawn and len(leaders(kept)) < len(kept) else []
    words = []
    if panels:
        words.append("The figure holds the best read-out of each method by its mean over the budgets.")
    if len(families) < len(line_up(rows)):
        words.append("Of variants there are the figures of what each option does alone.")
    if any(reads_features(row) for row in kept):
        words.append(
            "Probes and SVMs are linear read-outs of frozen features, kNN a vote of the nearest labelled images. Where"
            " no depth is named, each budget's own labels chose it by leave-one-out; a named one has the best mean over"
            " all budgets, chosen for every method alike on the accuracies shown here. All depths are further down."
        )
    picture = figure(figures.accuracy_against_labels(kept, families), "Accuracy against labels") if drawn else ""
    beside = f"<div>{blocks(*map(note, words))}</div>" if words else ""
    top5 = _grid("Top-5 accuracy", kept, lambda row: row.top5) if any(row.top5.mean >= 0 for row in kept) else ""
    return blocks(
        gallery([part for part in (picture, beside) if part]),
        _grid("Top-1 accuracy in percent", kept, lambda row: row.top1, marks(records, kept)),
        note(
            "Bold: the best at that budget. ≈: not clearly below the best (paired by seed, the interval includes zero)."
        ),
        folded("Every read-out in figures", gallery(panels)),
        folded("Top-5 accuracy", top5),
    )


def _by_readout(rows: Sequence[Summary], families: Sequence[Family]) -> list[str]:
    drawn = [row for row in rows if row.n and family(row) in families]
    kinds = {kind: [row for row in drawn if readout(row) == kind] for kind in READOUTS}
    return [
        figure(
            figures.accuracy_against_labels(some, families),
            "Trained end to end" if kind == END_TO_END else f"Frozen features, {kind}",
        )
        for kind, some in kinds.items()
        if some
    ]


def against_reference(records: Sequence[Record], rows: Sequence[Summary]) -> tuple[str, str]:
    """A heading that names the reference, and the paired differences from it."""
    kept = shown(rows)
    fights = {fight.theirs.labels: fight.theirs for fight in contests(records, kept)}
    known = any(scratch(theirs) for theirs in fights.values())
    heading = "Against training from scratch" if known else "Against the best method without a Hebbian rule"
    if not fights:
        return heading, ""
    ours = [row for row in kept if not scratch(row)]
    led = leaders(ours)
    best = " The best read-out of each method by its mean over the budgets." if len(led) < len(ours) else ""
    return heading, blocks(
        _differences(records, led, fights),
        note(
            "Top-1 minus that of the reference, the best such run at each budget, in points, paired by seed. Bold: the"
            f" 95 % t-interval leaves out zero. Intervals are not corrected for how many there are.{best}"
        ),
        folded("Every read-out in numbers", _differences(records, ours, fights) if best else ""),
    )


def _differences(records: Sequence[Record], rows: Sequence[Summary], references: Mapping[int, Summary]) -> str:
    def cell(row: Summary) -> str:
        if not row.n or row is references[row.labels]:
            return "–"
        gap = difference(records, row, references[row.labels])
        return f"<b>{signed(gap.estimate)}</b>" if gap.clear else signed(gap.estimate)

    rows = [row for row in rows if row.labels in references]
    lines = _lines(rows, cell, list(references))
    names = [f"<small>{prose(theirs.name)}</small>" for theirs in references.values()]
    lines.append(["<small>reference</small>", *names])
    head = ["method", *(_budget(labels, row.fraction) for labels, row in references.items())]
    return table("Paired differences in points", head, lines, starts=[*_starts(rows), len(lines) - 1])


def options(groups: Mapping[str, Sequence[Effect]], *, drawn: bool) -> str:
    """What every option does: a figure for each group of effects, and all of them in a table."""
    if not groups:
        return ""
    pictures = figures.option_effects(groups) if drawn else {}
    head, lines = effect_table(groups, "<b>{}</b>")
    cells = [[*map(prose, line[:3]), *line[3:]] for line in lines]
    starts = _changes([group for group, some in groups.items() for _ in some])
    return blocks(
        note(f"{HOW} Bold: the interval leaves out zero. Intervals are not corrected for how many there are."),
        gallery([figure(svg, group) for group, svg in pictures.items()]),
        table("What each option does", list(map(escape, head)), cells, starts=starts),
    )


def depths(rows: Sequence[Summary], families: Sequence[Family], *, drawn: bool) -> str:
    """What was read out at several depths: figures of the smallest and the largest budget, all numbers folded."""
    read = [row for row in rows if row.depth is not None and row.n]
    if len({row.depth for row in read}) < 2:
        return ""
    pictures = figures.accuracy_by_depth(read, families) if drawn else {}
    return blocks(
        gallery([figure(svg, f"{count(labels)} labels", kind) for (kind, labels), svg in pictures.items()]),
        folded("Every depth in numbers", _grid("Top-1 accuracy by depth", read, lambda row: row.top1)),
    )


def cost(rows: Sequence[Summary], families: Sequence[Family], *, drawn: bool) -> str:
    """Seconds and peak memory, and what accuracy the seconds bought at the smallest and the largest budget."""
    kept = shown(rows)
    memory = {row.key: f"{row.memory.mean:.0f}" for row in kept if row.memory.mean >= 0}
    timed = [row for row in kept if row.seconds.mean >= 0 or row.key in memory]
    if not timed:
        return ""
    pictures = figures.accuracy_against_seconds(kept, families) if drawn else {}
    ends = dict.fromkeys([min(pictures), max(pictures)]) if pictures else ()
    lines = _lines(timed, lambda row: escape(row.seconds), _budgets(timed))
    for line, key in zip(lines, dict.fromkeys(row.key for row in timed)):
        line.append(memory.get(key, "–"))
    head = [*_head(timed), "peak memory<small>MB</small>"]
    return blocks(
        gallery([figure(pictures[n], f"Accuracy against time, {count(n)} labels") for n in ends]),
        note("Seconds of pre-training and fine-tuning together, mean ± half width of the interval."),
        folded("Seconds and peak memory in numbers", table("Cost", head, lines, starts=_starts(timed))),
    )


def retrieval(rows: Sequence[Summary]) -> str:
    """Methods down, measures of retrieval across, in percent: at each method's best depth, and folded at every one."""
    cells: dict[Family, dict[int | None, dict[str, Summary]]] = {}
    for row in rows:
        found = RETRIEVAL.fullmatch(row.method)
        if found and row.n:
            cells.setdefault((found["method"], row.rule), {}).setdefault(row.depth, {})[found["measure"]] = row
    every = [(name, depth, line) for (name, _), depths in cells.items() for depth, line in depths.items()]
    best = [
        (name, *max(depths.items(), key=lambda at: max(row.top1.mean for row in at[1].values())))
        for (name, _), depths in cells.items()
    ]
    words = (
        "In percent. mAP: mean average precision of ranking images by their likeness to one that asks; P@k: how many of"
        " the k nearest are of its class; bit: from binary codes of that length. Bold: the highest."
    )
    if len(best) < len(every):
        words += " The depth of a method is the one that is best here, for every method alike."
    return blocks(
        _measures("Retrieval", best),
        note(words) if best else "",
        folded("Every depth", _measures("Retrieval by depth", every)) if len(best) < len(every) else "",
    )


def _measures(label: str, lines: Sequence[tuple[str, int | None, Mapping[str, Summary]]]) -> str:
    measures = list(dict.fromkeys(measure for _, _, line in lines for measure in line))
    best = {name: max(line[name].top1.mean for _, _, line in lines if name in line) for name in measures}

    def cell(row: Summary | None, measure: str) -> str:
        if row is None:
            return "–"
        return f"<b>{row.top1}</b>" if row.top1.mean == best[measure] else str(row.top1)

    return table(
        label,
        ["method", "depth", *map(escape, measures)],
        [
            [
                prose(name),
                "–" if depth is None else str(depth),
                *(cell(line.get(measure), measure) for measure in measures),
            ]
            for name, depth, line in lines
        ],
        starts=_changes([name for name, _, _ in lines]),
    )


def _grid(
    label: str,
    rows: Sequence[Summary],
    measure: Callable[[Summary], Estimate],
    marked: Mapping[tuple[Key, int], str] | None = None,
) -> str:
    def cell(row: Summary) -> str:
        words = escape(measure(row))
        if marked is None:
            return words
        mark = marked.get((row.key, row.labels), "")
        words = f"<b>{words}</b>" if mark == "best" else words
        return f'{words}<span class="mark">{"≈" if mark == "tie" else ""}</span>'

    return table(label, _head(rows), _lines(rows, cell, _budgets(rows)), starts=_starts(rows))


def _lines(rows: Sequence[Summary], cell: Callable[[Summary], str], budgets: Sequence[int]) -> list[list[str]]:
    """Methods down, budgets across."""
    lines = []
    for key, name in dict.fromkeys((row.key, row.name) for row in rows):
        cells = {row.labels: cell(row) for row in rows if row.key == key}
        lines.append([prose(name), *(cells.get(labels, "–") for labels in budgets)])
    return lines


def _starts(rows: Sequence[Summary]) -> list[int]:
    """The lines that another family begins with."""
    return _changes([family for _, family in dict.fromkeys((row.key, family(row)) for row in rows)])


def _changes(groups: Sequence[object]) -> list[int]:
    """The places that differ from the one before; none where all do."""
    places = [place for place in range(1, len(groups)) if groups[place] != groups[place - 1]]
    return places if len(places) < len(groups) - 1 else []


def _budgets(rows: Sequence[Summary]) -> list[int]:
    return sorted({row.labels for row in rows})


def _head(rows: Sequence[Summary]) -> list[str]:
    fractions = {row.labels: row.fraction for row in rows}
    return ["method", *(_budget(labels, fractions[labels]) for labels in _budgets(rows))]


def _budget(labels: int, fraction: float) -> str:
    percent = f"{100 * fraction:.2g}" if fraction < 0.995 else "100"
    share = f"<small>{percent} %</small>" if 0 < fraction < math.inf else ""
    return f"{count(labels)} {'label' if labels == 1 else 'labels'}{share}"
