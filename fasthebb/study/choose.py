"""What a study does in the minutes that it is given, where a user names no hyper-parameter.

SoftHebb's net learns from all images without labels and stays frozen; a ridge in closed form learns from the labels,
and training from scratch is what it is compared with. The time decides width, number of images, steps and seeds. What
steps cost beside one of pre-training was measured on two cores.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, NamedTuple

from fasthebb.console import Console
from fasthebb.options import parse
from fasthebb.study.glance import WIDTH, Glance, glance, seconds_an_image
from fasthebb.study.options import StudyOptions, standard_rules
from fasthebb.study.softhebb import softhebb
from fasthebb.training.loop import device_of
from fasthebb.training.run import FREE, read_config
from fasthebb.typed import typed

SIDE = 32  # pixels, for which the net is made, and of the images that are timed
SMALLEST, LARGE, LARGEST = 24, 64, 96  # sides that images have; smaller ones are enlarged to SIDE
WIDTHS = (1.0, 0.5, 0.25, 0.125)
ENOUGH, LEAST = 10_000, 1000  # images seen, several times if they are fewer; and where there is no time for that
PASSES = 10  # over few images, at most
BATCH = 10
UNITS, POOL = 1536, 2  # of the last layer, and cells a side of its maps
LEARNING, SCRATCH = 0.6, 0.3  # shares of the time; the rest is for loading, testing and the report
FEATURES = 0.4  # seconds an image and view, in those of pre-training
STEP = 28.0  # seconds of a step from scratch, in those of pre-training an image at WIDTH
STEPS, FEW_STEPS = (50, 3000), 300  # from scratch
FLOPS = 1e10  # of the ridge, a second


PLANNED = ("softhebb", "scratch")  # methods


class Choice(NamedTuple):
    """Options of a study, and the reasons for them, a line each."""

    options: dict[str, Any]
    reasons: list[str]


class Plan(NamedTuple):
    """width: of the net. side: of the images. seen: images of pre-training, one counted as often as it is seen."""

    width: float
    side: int
    seen: int


def choose(found: Glance, minutes: float, second: float) -> Choice:
    """The options of a study of images that are to be done with in so many minutes.

    second: what pre-training takes for an image of 32 pixels at half the width, see `seconds_an_image`.
    """
    time, mirror = 60 * minutes, found.channels == 3
    plan, fits = _plan(found, LEARNING * time, second)
    passes = -(-plan.seen // found.images)
    seeds = 3 if 3 * _seconds(found, plan, second) <= LEARNING * time else 1
    budgets = ["0.1", "1.0"] if found.labels >= 20 * found.classes else ["1.0"]
    steps = _steps(SCRATCH * time, second, seeds, budgets)
    if steps < FEW_STEPS and len(budgets) > 1:
        budgets = budgets[1:]
        steps = _steps(SCRATCH * time, second, seeds, budgets)
    options: dict[str, Any] = {
        "methods": list(PLANNED),
        "own": {"scratch": {"model": "sixlayer", "width": min(1.0, SIDE / plan.side), "batch_size": 64}},
        "rules": {**standard_rules(), "softhebb": softhebb()},
        "both_twins": False,
        "budgets": budgets,
        "seeds": list(range(seeds)),
        "model": "deephebb",
        "width": plan.width,
        "image_size": plan.side,
        "lr": 1.0,
        "batch_size": BATCH,
        "epochs": passes,
        "max_steps": max(1, plan.seen // BATCH) if plan.seen < found.images * passes else None,
        "validation": 0.0,
        "probe_depths": [3],
        "pool": POOL,
        "mirror": mirror,
        "knn": False,
        "finetune": False,
        "finetune_steps": steps,
        "augment": "light" if mirror else "none",
    }
    return Choice(options, _reasons(found, plan, fits, minutes, second, options))


def decided(options: StudyOptions, console: Console) -> tuple[StudyOptions, list[str]]:
    """The options with what --minutes leaves to be chosen, and the reasons; as the study in the folder has it, if any.

    An option that is not typed and has its default is chosen.

    Raises:
        ValueError: the images cannot be read, or methods are named whose options are not chosen here.
    """
    if options.minutes is None:
        return options, []
    others = " ".join(name for name in options.methods if name not in PLANNED)
    if others and "methods" in typed(options):
        raise ValueError(
            f"--minutes {options.minutes:g} plans {' and '.join(PLANNED)} alone: leave {others} out, or leave "
            "--minutes out and say how they learn"
        )
    config = options.out / "config.yaml"
    if config.exists() and "budgets" in read_config(options.out):
        before = parse("fasthebb study", StudyOptions, [f"--config={config}"])
        choice = Choice({f.name: getattr(before, f.name) for f in fields(before) if f.name not in FREE}, [])
    else:
        found = glance(options, options.channels, console)
        second = seconds_an_image(SIDE, found.channels, device_of(options.device))
        choice = choose(found, options.minutes, second)
    kept = typed(options)
    chosen = {name: value for name, value in choice.options.items() if name not in kept}
    return replace(options, **{**chosen, "minutes": None}), choice.reasons


def _plan(found: Glance, time: float, second: float) -> tuple[Plan, bool]:
    """The widest net, and at that width the largest images, that see enough in the time; and whether time is enough."""
    wanted = found.images * min(PASSES, max(1, -(-ENOUGH // found.images)))
    plans = [Plan(width, side, wanted) for width in WIDTHS for side in _sides(found.side)]
    for plan in plans:
        spare = time - _seconds(found, plan._replace(seen=0), second)
        seen = min(wanted, int(spare / _each(plan, second)))
        if seen >= min(ENOUGH, wanted):
            return plan._replace(seen=seen), True
    return plans[-1]._replace(seen=min(wanted, max(LEAST, seen))), seen >= LEAST


def _sides(side: int) -> list[int]:
    if side > LARGEST:
        return [LARGEST, LARGE]
    return [SIDE if side < SMALLEST else side // 4 * 4]


def _each(plan: Plan, second: float) -> float:
    """Seconds of pre-training for an image: some layers grow with the width, others with its square."""
    growth = (plan.width + plan.width**2) / (WIDTH + WIDTH**2)
    return second * growth * (plan.side / SIDE) ** 2


def _seconds(found: Glance, plan: Plan, second: float) -> float:
    """Seconds of pre-training, features and ridge, of one seed."""
    views = 2 if found.channels == 3 else 1
    features, rows = UNITS * plan.width * POOL**2, views * found.labels
    least = min(features, rows)
    ridge = (2 * features * rows * least + 10 * least**3) / FLOPS
    return _each(plan, second) * (plan.seen + FEATURES * views * (found.labels + found.tests)) + ridge


def _steps(time: float, second: float, seeds: int, budgets: list[str]) -> int:
    """Steps from scratch, for every seed and budget."""
    steps = int(time / (STEP * second * seeds * len(budgets)))
    return max(STEPS[0], min(STEPS[1], steps))


def _reasons(
    found: Glance, plan: Plan, fits: bool, minutes: float, second: float, options: dict[str, Any]
) -> list[str]:
    seeds, budgets, steps = len(options["seeds"]), options["budgets"], options["finetune_steps"]
    expected = seeds * (_seconds(found, plan, second) + STEP * second * len(budgets) * steps) / 60
    lines = [
        f"{found.images} images of about {found.side} pixels, {found.labels} with a label, {found.classes} classes, "
        f"{found.tests} test images",
        f"image size {plan.side}: " + _why_size(found.side),
        f"SoftHebb's net at width {plan.width:g} sees {plan.seen} images without labels, then a ridge on its frozen "
        "features learns from the labels",
        "mirrored images too" if options["mirror"] else "no mirrored images: they are grey, as those of writing are",
        f"from scratch, the six-layer net takes {steps} steps at each budget ({', '.join(budgets)})"
        + (", too few to be what it could be" if steps < FEW_STEPS else ""),
        f"{seeds} seed{'s, for intervals' if seeds > 1 else ': there is no time for three'}",
        f"about {expected:.0f} of {minutes:g} minutes",
    ]
    return lines if fits else [*lines, f"{minutes:g} minutes are too few for these images: it takes longer"]


def _why_size(side: int) -> str:
    if side > LARGEST:
        return "larger images cost time and bring little"
    return "the net needs some pixels" if side < SMALLEST else "as they are"
