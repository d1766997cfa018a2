"""The report of a study: one HTML page with the verdict, the tables and the figures, made from the records alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthebb.evaluation.results import Estimate, Key, Record, Summary, count, summarise
from fasthebb.files import atomic_write
from fasthebb.study import figures
from fasthebb.study.canvas import require_matplotlib
from fasthebb.study.page import document, escape, figure, folded, gallery, note, prose, section, table
from fasthebb.study.verdict import contests, difference, headline, marks, reads_features, scratch, shown, signed

Marks = Mapping[tuple[Key, int], str]


def write_report(
    folder: Path,
    records: Sequence[Record],
    *,
    title: str,
    filters: Mapping[str, NDArray[Any]],
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    usage: Mapping[str, NDArray[Any]],
    environment: Mapping[str, Any],
    commands: Sequence[str],
) -> Path:
    """Write `report.html`, complete in itself, into the folder and return its path.

    `filters`: by method, first-layer weights [C, 3 or 1, k, k]; `curves`: by run, rows as in `metrics.jsonl`;
    `usage`: by layer or "run/layer", each unit's share of wins or mean activity [C]; `environment`: what the study ran
    on; `commands`: shell lines that repeat it. Any of them may be empty. Without matplotlib the page has every table
    and says how to get the figures. Raises `ValueError` if the records are of several data sets.
    """
    datasets = list(dict.fromkeys(record.dataset for record in records))
    if len(datasets) > 1:
        raise ValueError(f"one report cannot hold several data sets ({', '.join(datasets)}): write one for each")
    rows = summarise(records)
    missing = _missing()
    drawn = not missing
    body = [
        f"<header>\n<h1>{escape(title)}</h1>",
        f'<p class="lead">{prose(headline(records, shown(rows)))}</p>',
        note(_scope(rows, datasets[0])) if rows else "",
        note(missing) if missing else "",
        "</header>",
        _accuracy(records, rows, drawn=drawn),
        _against_scratch(records, shown(rows)),
        _depths(rows, drawn=drawn),
        _cost(shown(rows), drawn=drawn),
        _filters(filters),
        _usage(usage, drawn=drawn),
        _curves(curves, rows, drawn=drawn),
        section("Environment", table("Environment", [], _facts(environment), kind="facts")),
        section("To reproduce", f"<pre><code>{escape(chr(10).join(commands))}</code></pre>" if commands else ""),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "report.html", document(title, body))
    return folder / "report.html"


def _missing() -> str:
    try:
        require_matplotlib()
    except ValueError as problem:
        return f"This page has its tables only: {problem}, then write the report again."
    return ""


def _scope(rows: Sequence[Summary], dataset: str) -> str:
    budgets, seeds = sorted({row.labels for row in rows}), sorted({row.n for row in rows if row.n})
    over = " to ".join(str(n) for n in dict.fromkeys(seeds[:1] + seeds[-1:])) or "no"
    methods = len({(row.method, row.rule) for row in rows})
    return (
        f"{dataset}: {_plural(methods, 'method')}, {_plural(len(budgets), 'label budget')} "
        f"({', '.join(count(labels) for labels in budgets)}), {over} {'seed' if over == '1' else 'seeds'}. "
        "Accuracies are top-1 on the test images, mean ± half width of the 95 % t-interval over the seeds."
    )


def _plural(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _accuracy(records: Sequence[Record], rows: Sequence[Summary], *, drawn: bool) -> str:
    kept = shown(rows)
    if not any(row.n for row in kept):
        return ""
    picture = figure(figures.accuracy_against_labels(kept), "Accuracy against labels") if drawn else ""
    legend = (
        "Bold: the best at that budget. ≈: not clearly below the best (paired by seed, the interval includes zero)."
    )
    if any(row.depth is not None or reads_features(row) for row in kept):
        legend += (
            " A probe is a linear read-out of frozen features, kNN a vote of the nearest labelled images. Where no"
            " depth is named, each budget's own labels chose it by leave-one-out; a named one has the best mean over"
            " all budgets, chosen for every method alike on the accuracies shown here. All depths are further down."
        )
    top5 = _grid("Top-5 accuracy", kept, lambda row: row.top5) if any(row.top5.mean >= 0 for row in kept) else ""
    return section(
        "Accuracy by number of labels",
        _grid("Top-1 accuracy in percent", kept, lambda row: row.top1, marks(records, kept)),
        note(legend),
        picture,
        folded("Top-5 accuracy", top5),
    )


def _grid(
    label: str, rows: Sequence[Summary], measure: Callable[[Summary], Estimate], marked: Marks | None = None
) -> str:
    return table(label, _head(rows), _lines(rows, measure, marked or {}))


def _head(rows: Sequence[Summary]) -> list[str]:
    return ["method", *(_budget(labels, share) for labels, share in _budgets(rows).items())]


def _budgets(rows: Sequence[Summary]) -> dict[int, float]:
    return {row.labels: row.fraction for row in sorted(rows, key=lambda row: row.labels)}


def _lines(rows: Sequence[Summary], measure: Callable[[Summary], Estimate], marked: Marks) -> list[list[str]]:
    """Methods down, budgets across."""
    lines = []
    for key, name in dict.fromkeys((row.key, row.name) for row in rows):
        cells = {row.labels: escape(measure(row)) for row in rows if row.key == key}
        line = [prose(name)]
        for labels in _budgets(rows):
            words, mark = cells.get(labels, "–"), marked.get((key, labels), "")
            words = f"<b>{words}</b>" if mark == "best" else words
            line.append(f'{words}<span class="mark">{"≈" if mark == "tie" else ""}</span>' if marked else words)
        lines.append(line)
    return lines


def _budget(labels: int, fraction: float) -> str:
    percent = f"{100 * fraction:.2g}" if fraction < 0.995 else "100"
    share = f"<small>{percent} %</small>" if 0 < fraction < math.inf else ""
    return f"{count(labels)} {'label' if labels == 1 else 'labels'}{share}"


def _against_scratch(records: Sequence[Record], rows: Sequence[Summary]) -> str:
    fights = {fight.theirs.labels: fight.theirs for fight in contests(records, rows)}
    lines = []
    for key, name in dict.fromkeys((row.key, row.name) for row in rows if not scratch(row)):
        cells = {row.labels: row for row in rows if row.key == key and row.n}
        line = [prose(name)]
        for labels, theirs in fights.items():
            if labels not in cells or cells[labels] is theirs:
                line.append("–")
                continue
            gap = difference(records, cells[labels], theirs)
            line.append(f"<b>{signed(gap.estimate)}</b>" if gap.clear else signed(gap.estimate))
        lines.append(line)
    if not fights:
        return ""
    lines.append(["<small>reference</small>", *(f"<small>{prose(theirs.name)}</small>" for theirs in fights.values())])
    known = any(scratch(theirs) for theirs in fights.values())
    return section(
        "Against training from scratch" if known else "Against the best method without a Hebbian rule",
        table(
            "Paired differences in points", ["method", *(_budget(n, row.fraction) for n, row in fights.items())], lines
        ),
        note(
            "Top-1 minus that of the reference, the best such run at each budget, in points, paired by seed. Bold: the"
            " 95 % t-interval leaves out zero. Intervals are not corrected for how many there are."
        ),
    )


def _depths(rows: Sequence[Summary], *, drawn: bool) -> str:
    probes = [row for row in rows if row.depth is not None and row.n]
    pictures = figures.accuracy_by_depth(rows) if drawn and probes else {}
    return section(
        "Depth by depth",
        gallery([figure(svg, f"{count(n)} labels", "linear probes") for n, svg in pictures.items()]),
        folded("Every depth in numbers", _grid("Top-1 accuracy by depth", probes, lambda row: row.top1)),
    )


def _cost(rows: Sequence[Summary], *, drawn: bool) -> str:
    memory = {row.key: f"{row.memory.mean:.0f}" for row in rows if row.memory.mean >= 0}
    timed = [row for row in rows if row.seconds.mean >= 0 or row.key in memory]
    if not timed:
        return ""
    pictures = figures.accuracy_against_seconds(rows) if drawn else {}
    ends = dict.fromkeys([min(pictures), max(pictures)]) if pictures else ()
    lines = _lines(timed, lambda row: row.seconds, {})
    for line, key in zip(lines, dict.fromkeys(row.key for row in timed)):
        line.append(memory.get(key, "–"))
    return section(
        "Cost",
        table("Seconds and peak memory", [*_head(timed), "peak memory<small>MB</small>"], lines),
        note("Seconds of pre-training and fine-tuning together, mean ± half width of the interval."),
        gallery([figure(pictures[n], f"Accuracy against time, {count(n)} labels") for n in ends]),
    )


def _filters(filters: Mapping[str, NDArray[Any]]) -> str:
    pictures, refused = [], []
    for name, weights in filters.items():
        try:
            source = figures.filter_grid(weights)
        except ValueError as problem:
            refused.append(note(f"{name}: {problem}."))
            continue
        number, channels, height, width = np.shape(weights)
        size = f"{number} filters of {height} × {width}, {'colour' if channels == 3 else 'grey'}"
        image = f'<img src="{source}" alt="{escape(f"First-layer filters of {name}: {size}")}">'
        pictures.append(figure(image, name, size))
    words = note("Each filter is stretched to its own full range.") if pictures else ""
    return section("First-layer filters", words, gallery(pictures, kind="filters"), *refused)


def _usage(usage: Mapping[str, NDArray[Any]], *, drawn: bool) -> str:
    lines = []
    for name, values in usage.items():
        use = np.nan_to_num(np.abs(np.asarray(values, dtype=np.float64))).ravel()
        share = use[use > 0] / use.sum()
        even = (
            f"{-100 * float(share @ np.log(share)) / math.log(use.size):.0f} %" if share.size and use.size > 1 else "–"
        )
        lines.append([prose(name), str(use.size), str(int(np.count_nonzero(use == 0))), even])
    pictures = figures.unit_usage(usage) if drawn else {}
    return section(
        "Use of the units",
        table("Use of the units", ["layer", "units", "dead", "entropy"], lines),
        note("Entropy of the units' shares over that of equal shares: 100 % when all are used alike.") if lines else "",
        gallery([figure(svg, name or "Every layer", "use by rank") for name, svg in pictures.items()]),
    )


def _curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], rows: Sequence[Summary], *, drawn: bool) -> str:
    pictures = figures.training_curves(curves, list(dict.fromkeys(row.method for row in rows))) if drawn else {}
    return section("Training", gallery([figure(svg, name.replace("_", " ")) for name, svg in pictures.items()]))


def _facts(environment: Mapping[str, Any]) -> list[list[str]]:
    return [
        [escape(key), escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))]
        for key, value in environment.items()
    ]
