"""`fasthebb bench`: how long a step takes and how much memory, against what; what first layers learn of images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from fasthebb.bench import data, epoch, gallery, memory, rules, work
from fasthebb.bench.filters import SETTINGS
from fasthebb.bench.run import run as steps
from fasthebb.console import Console
from fasthebb.data import Dataset
from fasthebb.data.stream import Stream
from fasthebb.jobs.checks import check_file
from fasthebb.jobs.options import LoadOptions
from fasthebb.jobs.setup import load_data
from fasthebb.models.blocks import one_of
from fasthebb.training.precision import Precision

TAKES = {  # options that need not be given, and what of them fits
    "step": {"nets", "rounds", "batch_size", "precision"},
    "memory": {"nets", "batch_size"},
    "work": {"rounds"},
    "rules": {"rules", "rounds", "batch_size", "precision"},
    "epoch": {"rounds", "batch_size"},
    "data": {"rounds", "batch_size"},
    "filters": {"rules"},
}


@dataclass(frozen=True, kw_only=True)
class BenchOptions(LoadOptions):
    """Measure training steps: their time, their memory, how they grow, and what first layers learn of images.

    Args:
        what: step, of whole nets; memory, its peak; work, how the time of a layer grows; rules, every rule's step;
            epoch, of one layer on images; data, how fast images come and how long a step waits for them; filters, what
            each rule learns of them; the option's name may be left out.
        nets: of step and memory, the nets; sixlayer, or VGG's convolutions and stacks of equal blocks, by default.
        rules: of rules and filters, the rules to time or to show; all by default.
        rounds: how many steps of each kind, in turn, the least counts; of epoch, epochs; of data, twenties of steps.
        batch_size: images a step; 64 by default, and of large nets and of memory 8 or 16.
        precision: of step and rules, the number format of products; fp32 by default.
        width: of step, rules and data, units of every hidden layer, relative to the published net.
        device: cpu or cuda; not of filters.
        naive: of step, also time the naive scheme (a minute).
        seeds: of filters, one repetition each.
        data: of filters, data and epoch, where images come from, and so are the other options of data.
        out: a JSON file for the figures; a Markdown page is written beside it, and by filters pictures.
    """

    by_place: ClassVar[tuple[str, ...]] = ("what",)

    what: Literal["step", "memory", "work", "rules", "epoch", "data", "filters"] = "step"
    nets: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    rounds: int | None = None
    batch_size: int | None = None
    precision: Precision | None = None
    width: float = 1.0
    device: str = "cpu"
    naive: bool = True
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    data: str = "cifar10"
    out: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.given().keys() - TAKES[self.what]:
            fits = " or ".join(f"bench {what}" for what, names in TAKES.items() if name in names)
            raise ValueError(f"--{name.replace('_', '-')} is not of bench {self.what}: leave it out, or take {fits}")
        for name in self.rules:
            one_of("rule", name, SETTINGS if self.what == "filters" else rules.every_rule())
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"--seeds {', '.join(map(str, self.seeds))}: give one or more, each once")
        check_file(self.out)

    def given(self) -> dict[str, Any]:
        """Those of the options that need not be given that are."""
        values = {name: getattr(self, name) for name in ("nets", "rules", "rounds", "batch_size", "precision")}
        return {name: value for name, value in values.items() if value not in (None, [])}


def run(options: BenchOptions, console: Console) -> dict[str, Any]:
    """Measure and print, and return what was measured; for times the machine should be quiet."""
    if options.what == "filters":
        return gallery.run(
            options.rules,
            _images(options, console, stream=options.stream),
            console,
            seeds=options.seeds,
            out=options.out,
        )
    console.say("measuring: keep the machine quiet")
    given = {**options.given(), "device": options.device, "out": options.out}
    if options.what == "work":
        return work.run(**given)
    if options.what == "memory":
        return memory.run(**given)
    if options.what == "epoch":
        return epoch.run(_images(options, console, stream=options.stream), **given)
    given["width"] = options.width
    if options.what == "data":
        kinds = {name: _images(options, console, stream=name == "stream") for name in ("cache", "stream")}
        if not isinstance(kinds["stream"].train.images, Stream):  # of arrays, which are in memory
            kinds = {"memory": kinds["cache"]}
        return data.run(kinds, **given, console=console)
    if options.what == "rules":
        return rules.run(given.pop("rules", ()), **given)
    return steps(**given, naive=options.naive)


def _images(options: BenchOptions, console: Console, *, stream: bool) -> Dataset:
    return load_data(replace(options, stream=stream), console, image_size=32, channels=None, resize="crop")
