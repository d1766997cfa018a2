"""The report of a study: one HTML page with the verdict, the tables and the figures, made from what it measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from numpy.typing import NDArray

from fasthebb.evaluation.results import Record, Summary, count, summarise
from fasthebb.files import atomic_write
from fasthebb.study import exhibits, sections
from fasthebb.study.canvas import require_matplotlib
from fasthebb.study.effects import Effect, without_variants
from fasthebb.study.exhibits import Strip
from fasthebb.study.families import line_up
from fasthebb.study.page import blocks, contents, document, escape, note, prose, section, table
from fasthebb.study.tuning import HOW, choice_table
from fasthebb.study.verdict import headline, retrieves, shown

T = TypeVar("T")
TESTS = "test_images"  # in a study's environment, how many there are
NAMES = {  # of what a study's environment holds
    "cpu": "processor", "memory_gib": "memory", "gpu": "GPU", "torch": "PyTorch", "python": "Python", "os": "system",
    "commit": "commit of fasthebb", "test_images": "test images",
}  # fmt: skip
NOTHING: Mapping[str, Any] = MappingProxyType({})


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
    confusion: Mapping[str, NDArray[Any]] = NOTHING,
    classes: Sequence[str] = (),
    strips: Mapping[str, Strip] = NOTHING,
    units: Mapping[str, NDArray[Any]] = NOTHING,
    tuning: Sequence[Mapping[str, Any]] = (),
    differences: Sequence[tuple[str, str]] = (),
    effects: Mapping[str, Sequence[Effect]] = NOTHING,
    short: str = "",
) -> Path:
    """Write `report.html`, complete in itself, into the folder and return its path.

    `filters`: by method, first-layer weights [C, 3 or 1, k, k]; `curves`: by run, rows as in `metrics.jsonl`;
    `usage`: by layer or "run/layer", each unit's share of wins or mean activity [C]; `environment`: what the study ran
    on; `commands`: shell lines that repeat it; `confusion`: by method, counts of test images [C, C], rows true;
    `classes`: their names; `strips`: by method, images and those nearest to them; `units`: by
    "run/layer", a `LayerUnits` and a CKA [7]; `tuning`: how settings were chosen, as results.json has it;
    `differences`: methods and what is their own; `effects`: of options, as of `fasthebb.study.effects`; `short`: what
    is to be said beside every comparison with training from scratch. Any of them may be empty.
    Without matplotlib the page has every table and says how to get the figures. Raises `ValueError` if the records are
    of several data sets, or a confusion matrix fits no classes.
    """
    datasets = list(dict.fromkeys(record.dataset for record in records))
    if len(datasets) > 1:
        raise ValueError(f"one report cannot hold several data sets ({', '.join(datasets)}): write one for each")
    every = summarise(records)
    rows = [row for row in every if not retrieves(row)]
    everyone = line_up(rows)
    families = without_variants(everyone, effects)
    methods = [name for name, _ in families]
    hidden = tuple(name for name, _ in everyone if name not in methods)
    filters, usage, units, confusion = (_but(arrays, hidden) for arrays in (filters, usage, units, confusion))
    missing = _missing()
    drawn = not missing
    reference, gaps = sections.against_reference(records, rows)
    parts = {
        "Accuracy by number of labels": sections.accuracy(records, rows, families, drawn=drawn),
        reference: blocks(gaps, note(short)) if gaps and short else gaps,
        "What each option does": sections.options(effects, drawn=drawn),
        "Depth by depth": sections.depths(rows, families, drawn=drawn),
        "Cost": sections.cost(rows, families, drawn=drawn),
        "Confusion": exhibits.confusion(confusion, classes),
        "Retrieval": blocks(sections.retrieval(every), exhibits.strips(strips, classes)),
        "First-layer filters": exhibits.filters(filters),
        "Unit usage and winner entropy": blocks(exhibits.usage(usage, methods, drawn=drawn), exhibits.units(units)),
        "Training": exhibits.curves(_but(curves, hidden), methods) if drawn else "",
        "Methods that differ": table(
            "Methods that differ", [], [[prose(name), escape(words)] for name, words in differences], kind="facts"
        ),
        "Settings chosen": _chosen(tuning),
        "Environment": table("Environment", [], _facts(environment), kind="facts"),
        "To reproduce": f"<pre><code>{escape(chr(10).join(commands))}</code></pre>" if commands else "",
    }
    kept = {heading: part for heading, part in parts.items() if part}
    header = blocks(
        f"<header>\n<h1>{escape(title)}</h1>",
        f'<p class="lead">{prose(f"{headline(records, shown(rows))} {short}".rstrip())}</p>',
        note(_scope(rows, datasets[0], environment.get(TESTS))) if rows else "",
        note(missing) if missing else "",
        contents(list(kept)),
        "</header>",
    )
    folder.mkdir(parents=True, exist_ok=True)
    page = document(title, [header, *(section(heading, part) for heading, part in kept.items())])
    atomic_write(folder / "report.html", page)
    return folder / "report.html"


def _but(pictures: Mapping[str, T], hidden: tuple[str, ...]) -> dict[str, T]:
    # What is of no method among the hidden ones, by keys that begin with the method.
    return {name: one for name, one in pictures.items() if not name.startswith(hidden)}


def _chosen(tuning: Sequence[Mapping[str, Any]]) -> str:
    head, lines = choice_table(tuning, "<b>{}</b>")
    words = [[prose(name), *cells] for name, *cells in lines]
    return blocks(table("Settings chosen", list(map(escape, head)), words), note(HOW)) if tuning else ""


def _missing() -> str:
    try:
        require_matplotlib()
    except ValueError as problem:
        return f"This page has its tables only: {problem}, then write the report again."
    return ""


def _scope(rows: Sequence[Summary], dataset: str, tests: int | None) -> str:
    budgets, seeds = sorted({row.labels for row in rows}), sorted({row.n for row in rows if row.n})
    over = " to ".join(str(n) for n in dict.fromkeys(seeds[:1] + seeds[-1:])) or "no"
    return (
        f"{dataset}: {_plural(len(line_up(rows)), 'method')}, {_plural(len(budgets), 'label budget')} "
        f"({', '.join(count(labels) for labels in budgets)}), {over} {'seed' if over == '1' else 'seeds'}. "
        f"Accuracies are top-1 on the {_images(tests)}, mean ± half width of the 95 % t-interval over the seeds."
    )


def _images(tests: int | None) -> str:
    # How many test images, and what one of them weighs where that is a tenth of a point or more.
    if not tests:
        return "test images"
    weight = 100 / tests
    return f"{count(tests)} test images" + (f" (one is {weight:.1f} points)" if weight >= 0.1 else "")


def _plural(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _facts(environment: Mapping[str, Any]) -> list[list[str]]:
    known = {key: value for key, value in environment.items() if value is not None}
    return [[escape(NAMES.get(key, key)), escape(_fact(key, value))] for key, value in known.items()]


def _fact(key: str, value: Any) -> str:
    if key == "memory_gib":
        return f"{value} GiB"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
