"""What a study does in the minutes that it is given, where a user names no hyper-parameter.

SoftHebb's net learns from all images without labels and stays frozen; a ridge in closed form learns from the labels,
and training from scratch is what it is compared with. The time decides width, number of images, steps and seeds. What
steps cost beside one of pre-training was measured on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import product
from types import MappingProxyType
from typing import Any, NamedTuple

from fasthebb.console import Console
from fasthebb.data.labels import parse_budget
from fasthebb.options import parse
from fasthebb.study import reasons
from fasthebb.study.glance import WIDTH, Glance, glance, seconds_an_image
from fasthebb.study.options import StudyOptions, standard_rules
from fasthebb.study.reasons import LARGEST, SMALLEST
from fasthebb.study.short import FEW_STEPS, steps_of
from fasthebb.study.softhebb import softhebb
from fasthebb.training.loop import device_of
from fasthebb.training.run import FREE, read_config
from fasthebb.typed import typed

SIDE = 32  # pixels, for which the net is made, and of the images that are timed
LARGE = 64  # of large images, where there is little time; those smaller than SMALLEST are enlarged to SIDE
WIDTHS = (1.0, 0.5, 0.25, 0.125)
ENOUGH, LEAST = 10_000, 1000  # images seen, several times if they are fewer; and where there is no time for that
PASSES = 10  # over few images, at most
BATCH = 10
UNITS, POOL = 1536, 2  # of the last layer, and cells a side of its maps
LEARNING, SCRATCH = 0.6, 0.3  # shares of the time; the rest is for loading, testing and the report
FEATURES = 0.4  # seconds an image and view, in those of pre-training
STEP = 28.0  # seconds of a step from scratch, in those of pre-training an image at WIDTH
STEPS = (50, 10_000)  # from scratch
SCRATCH_BATCH = 64
FLOPS = 1e10  # of the ridge, a second

NET = "deephebb"
PLANNED = ("softhebb", "scratch")  # methods
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Choice(NamedTuple):
    """Options of a study, and the reasons for them, a line each."""

    options: dict[str, Any]
    reasons: list[str]


class Plan(NamedTuple):
    """width: of the net. side: of the images. seen: images of pre-training, one counted as often as it is seen."""

    width: float
    side: int
    seen: int


def choose(found: Glance, minutes: float, second: float, given: Mapping[str, Any] = NOTHING) -> Choice:
    """The options of a study of images that are to be done with in so many minutes.

    second: what pre-training takes for an image of 32 pixels at half the width, see `seconds_an_image`.
    given: options that stay as they are; the others are chosen to go with them.
    """
    time, own = 60 * minutes, given.get("own", {})
    methods = given.get("methods", list(PLANNED))
    learning = {**given, **own.get("softhebb", {})}
    there = _there(found, given)
    plan, fits = _plan(there, LEARNING * time, second, learning)
    each = _seconds(there, plan, second, learning) if "softhebb" in methods else 0.0
    epochs = learning.get("epochs", -(-plan.seen // there.images))
    limited = "epochs" not in learning and plan.seen < there.images * epochs
    mirror = found.channels == 3
    options: dict[str, Any] = {
        "methods": methods,
        "rules": {**standard_rules(), "softhebb": softhebb()},
        "both_twins": False,
        "model": NET,
        "width": plan.width,
        "image_size": plan.side,
        "lr": 1.0,
        "batch_size": BATCH,
        "epochs": epochs,
        "max_steps": max(1, plan.seen // learning.get("batch_size", BATCH)) if limited else None,
        "validation": 0.0,
        "probe_depths": [3],
        "pool": POOL,
        "mirror": mirror,
        "knn": False,
        "finetune": False,
        "augment": "light" if mirror else "none",
        **given,
    }
    first = {"model": "sixlayer", "width": min(1.0, SIDE / plan.side), "batch_size": SCRATCH_BATCH}
    options["own"] = {**own, "scratch": {**first, **own.get("scratch", {})}}
    counts = [given["seeds"]] if "seeds" in given else [[0, 1, 2], [0]]
    some = [["0.1", "1.0"], ["1.0"]] if there.labels >= 20 * there.classes else [["1.0"]]
    for seeds, budgets in product(counts, [given["budgets"]] if "budgets" in given else some):
        options |= {"seeds": seeds, "budgets": budgets}
        room = (LEARNING + SCRATCH) * time - each * len(seeds)
        a_step = _scratch(there, {**options, "finetune_steps": 1}, second)
        options["finetune_steps"] = given.get("finetune_steps", max(STEPS[0], min(STEPS[1], int(room / (a_step or 1)))))
        enough = {**options, "finetune_steps": given.get("finetune_steps", FEW_STEPS)}
        if each * len(seeds) <= LEARNING * time and _scratch(there, enough, second) <= room:
            break
    expected = each * len(options["seeds"]) + _scratch(there, options, second)
    return Choice(options, reasons.lines(found, options, plan.seen, given, minutes, expected / 60, fits=fits))


def decided(options: StudyOptions, console: Console) -> tuple[StudyOptions, list[str]]:
    """The options with what --minutes leaves to be chosen, and the reasons; as the study in the folder has it, if any.

    An option that is not typed, stands in no configuration file and has its default is chosen.

    Raises:
        ValueError: the images cannot be read, or methods, a net or rules are named that are not planned here.
    """
    if options.minutes is None:
        return options, []
    kept = typed(options) - {"minutes"}
    given = {f.name: getattr(options, f.name) for f in fields(options) if f.name in kept}
    _check_planned(options.minutes, given)
    config = options.out / "config.yaml"
    if config.exists() and "budgets" in read_config(options.out):
        before = parse("fasthebb study", StudyOptions, [f"--config={config}"])
        chosen = {f.name: getattr(before, f.name) for f in fields(before) if f.name not in {*FREE, *given} - {"own"}}
        own = {**before.own, **options.own}
        own["scratch"] = {**before.own.get("scratch", {}), **options.own.get("scratch", {})}
        choice = Choice({**chosen, "own": own}, [])
    else:
        found = glance(options, options.channels, console)
        second = seconds_an_image(SIDE, found.channels, device_of(options.device))
        choice = choose(found, options.minutes, second, given)
    return replace(options, **{**choice.options, "minutes": None}), choice.reasons


def _check_planned(minutes: float, given: Mapping[str, Any]) -> None:
    others = [name for name in given.get("methods", ()) if name not in PLANNED]
    if others:
        raise ValueError(
            f"--minutes {minutes:g} plans {' and '.join(PLANNED)} alone: leave {' '.join(others)} out, or leave "
            "--minutes out and say how they learn"
        )
    wanted = {"model": NET, "rules": {**standard_rules(), "softhebb": softhebb()}}
    for name, value in wanted.items():
        if given.get(name, value) != value:
            said = f" {given[name]}" if name == "model" else ""
            raise ValueError(
                f"--minutes {minutes:g} plans {NET} and SoftHebb's rules alone: leave --{name}{said} out, or leave "
                "--minutes out and say how it learns"
            )


def _there(found: Glance, given: Mapping[str, Any]) -> Glance:
    """The images and labels that there are to learn from, without what the given options leave out."""
    share = min(1.0, (given.get("classes") or found.classes) / found.classes)
    labels = round(found.labels * share * (1 - given.get("validation", 0.0)))
    images = min(found.images - found.labels + labels, given.get("pretrain_images") or found.images)
    return found._replace(
        images=max(1, images), labels=labels, tests=round(found.tests * share), classes=round(found.classes * share)
    )


def _plan(found: Glance, time: float, second: float, given: Mapping[str, Any]) -> tuple[Plan, bool]:
    """The widest net, and at that width the largest images, that see enough in the time; and whether time is enough."""
    asked = [given["epochs"] * found.images] if "epochs" in given else []
    if given.get("max_steps"):
        asked.append(given["max_steps"] * given.get("batch_size", BATCH))
    wanted = min(asked, default=found.images * min(PASSES, max(1, -(-ENOUGH // found.images))))
    widths = [given["width"]] if "width" in given else WIDTHS
    sides = [given["image_size"]] if "image_size" in given else _sides(found.side)
    for plan in (Plan(width, side, wanted) for width, side in product(widths, sides)):
        spare = time - _seconds(found, plan._replace(seen=0), second, given)
        seen = min(wanted, int(spare / _each(plan, second)))
        if seen >= (wanted if asked else min(ENOUGH, wanted)):
            return plan._replace(seen=seen), True
    return plan._replace(seen=wanted if asked else min(wanted, max(LEAST, seen))), seen >= LEAST and not asked


def _sides(side: int) -> list[int]:
    if side > LARGEST:
        return [LARGEST, LARGE]
    return [SIDE if side < SMALLEST else side // 4 * 4]


def _each(plan: Plan, second: float) -> float:
    """Seconds of pre-training for an image: some layers grow with the width, others with its square."""
    growth = (plan.width + plan.width**2) / (WIDTH + WIDTH**2)
    return second * growth * (plan.side / SIDE) ** 2


def _seconds(found: Glance, plan: Plan, second: float, given: Mapping[str, Any] = NOTHING) -> float:
    """Seconds of pre-training, features and ridge, of one seed."""
    views = 2 if given.get("mirror", found.channels == 3) else 1
    labels = max(_labels(found, text) for text in given.get("budgets", ["1.0"]))
    features, rows = UNITS * plan.width * (given.get("pool") or POOL) ** 2, views * labels
    least = min(features, rows)
    ridge = (2 * features * rows * least + 10 * least**3) / FLOPS
    return _each(plan, second) * (plan.seen + FEATURES * views * (labels + found.tests)) + ridge


def _labels(found: Glance, budget: str) -> int:
    wanted = parse_budget(budget)
    return wanted if isinstance(wanted, int) else round(wanted * found.labels)


def _scratch(found: Glance, options: Mapping[str, Any], second: float) -> float:
    """Seconds from scratch, of every seed and budget."""
    if "scratch" not in options["methods"]:
        return 0.0
    own = {**options, **options["own"]["scratch"]}
    size, batch = own["width"] * own["image_size"] / SIDE, own.get("finetune_batch_size") or own["batch_size"]
    seeds, measured_by = len(own["seeds"]), own.get("budget_seeds", {})
    steps = (steps_of(own, _labels(found, text)) * min(seeds, measured_by.get(text, seeds)) for text in own["budgets"])
    return float(STEP * second * (size + size**2) / 2 * batch / SCRATCH_BATCH * sum(steps))
