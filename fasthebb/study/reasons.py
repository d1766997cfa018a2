"""Why --minutes chose what it chose, in words, and what was given instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fasthebb.study.glance import Glance
from fasthebb.study.short import FEW_STEPS

SMALLEST, LARGEST = 24, 96  # sides that images have, for the net

# What takes time that no plan counts, where it is given.
NOT_COUNTED = (
    "finetune", "finetune_depths", "fixmatch_steps", "knn", "probe_depths", "propagate", "retrieval", "revive",
    "shifts", "student", "svm", "together", "tuning",
)  # fmt: skip
SAID = re.compile(r"about [\d.]+ of (\S+) minutes")


def lines(
    found: Glance, options: Mapping[str, Any], seen: int, given: Mapping[str, Any], minutes: float, expected: float, *,
    fits: bool,
) -> list[str]:  # fmt: skip
    """A line for each reason.

    options: of the study. seen: images of pre-training, one counted as often as it is seen. given: the options that
    were not chosen. expected: minutes that the plan takes. fits: whether there is time for enough of pre-training.
    """
    own = {name: {**given, **given.get("own", {}).get(name, {})} for name in ("softhebb", "scratch")}

    def as_given(*names: str, method: str = "softhebb") -> str:
        return " (as given)" if any(name in own[method] for name in names) else ""

    said = [
        f"{found.images} images of about {found.side} pixels, {found.labels} with a label, {found.classes} classes, "
        f"{found.tests} test images",
        f"image size {options['image_size']}: {'as given' if 'image_size' in given else _why_size(found.side)}",
    ]
    if "softhebb" in options["methods"]:
        width = own["softhebb"].get("width", options["width"])
        said.append(
            f"SoftHebb's net at width {width:g}{as_given('width')} sees {seen} images without labels"
            f"{as_given('epochs', 'max_steps')}, then a ridge on its frozen features learns from the labels"
        )
        mirrored = "mirrored images too" if options["mirror"] else "no mirrored images"
        why = "" if options["mirror"] else ": they are grey, as those of writing are"
        said.append(mirrored + (as_given("mirror") or why))
    if "scratch" in options["methods"]:
        said.append(_from_scratch(options, as_given))
    seeds = len(options["seeds"])
    why = ": there is no time for three" if seeds == 1 else ", for intervals"
    said.append(f"{seeds} seed{'s' if seeds > 1 else ''}" + (as_given("seeds") or why))
    spare = ": more would bring little" if minutes > 2 * expected else ""
    said.append(f"about {expected:.{int(expected < 2)}f} of {minutes:g} minutes{spare}")
    more = [name for name in NOT_COUNTED if given.get(name)]
    if more:
        said.append(f"not counted there: {', '.join(more)}, as given")
    if fits and expected <= minutes:
        return said
    return [*said, f"{minutes:g} minutes are too few for these images and options: it takes longer"]


def minutes_of(folder: Path) -> str | None:
    """The minutes that a study was begun with, by its log; None if it was begun without."""
    log = folder / "train.log"
    found = SAID.search(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else None
    return found[1] if found else None


def _from_scratch(options: Mapping[str, Any], as_given: Callable[..., str]) -> str:
    own = {**options, **options["own"]["scratch"]}
    net = "the six-layer net" if own["model"] == "sixlayer" else own["model"]
    said = f"from scratch, {net} takes "
    if own.get("finetune_epochs"):
        return f"{said}{own['finetune_epochs']} epochs (as given) at each budget ({', '.join(own['budgets'])})"
    short = f", fewer than {FEW_STEPS}, too few to be what it could be" if own["finetune_steps"] < FEW_STEPS else ""
    return (
        f"{said}{own['finetune_steps']} steps{as_given('finetune_steps', method='scratch')} at each budget "
        f"({', '.join(own['budgets'])}{', as given' if as_given('budgets', method='scratch') else ''}){short}"
    )


def _why_size(side: int) -> str:
    if side > LARGEST:
        return "larger images cost time and bring little"
    return "the net needs some pixels" if side < SMALLEST else "as they are"
