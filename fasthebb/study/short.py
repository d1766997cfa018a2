"""Training from scratch that was cut short, with which no report compares unless it says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fasthebb.evaluation.results import Record, Summary, count, summarise
from fasthebb.options import plain
from fasthebb.study.options import StudyOptions, title_of
from fasthebb.study.variants import IS
from fasthebb.study.verdict import contests, listed, scratch, shown

FEW_STEPS = 300  # of training from scratch; fewer make less of it than it could be


def steps_of(options: Mapping[str, Any], labels: int) -> int:
    """Steps of training end to end on so many labels, by options of a study or of one of its methods."""
    if epochs := options.get("finetune_epochs"):
        batch = options.get("finetune_batch_size") or options["batch_size"]
        return int(epochs * -(-labels // batch))
    return int(options["finetune_steps"])


def cut_short(config: Mapping[str, Any], records: Sequence[Record]) -> str:
    """A sentence on the runs from scratch that a headline compares with and that took too few steps; "" without any.

    config: a study's config.yaml.
    """
    found: dict[int, list[str]] = {}
    for fight in contests(records, shown(summarise(records))):
        steps = _steps(config, fight.theirs) if scratch(fight.theirs) else None
        if steps is not None and steps < FEW_STEPS:
            found.setdefault(steps, []).append(count(fight.theirs.labels))
    if not found:
        return ""
    each = "; ".join(f"{steps} step{'s' * (steps != 1)} at {listed(labels)} labels" for steps, labels in found.items())
    return f"Training from scratch was cut short ({each}): fewer than {FEW_STEPS} are too few to show what it could be."


def _steps(config: Mapping[str, Any], row: Summary) -> int | None:
    # Steps of a row from scratch; None if the study has no such method.
    every = {**plain(StudyOptions()), **config}
    own = every["own"]
    titles = {title_of(name, own): name for name in every["methods"] if own.get(name, {}).get(IS, name) == "scratch"}
    title = max((title for title in titles if row.method.startswith(title)), key=len, default=None)
    if title is None:
        return None
    options = {**every, **own.get(titles[title], {})}
    return steps_of(options, row.labels) + (options["fixmatch_steps"] if "FixMatch" in row.method else 0)
