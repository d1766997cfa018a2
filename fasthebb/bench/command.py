"""`fasthebb bench`: how long a step takes and how much memory, against what; what first layers learn of images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from fasthebb.bench import data, gallery, rules
from fasthebb.bench.filters import SETTINGS
from fasthebb.bench.run import run as measure
from fasthebb.console import Console
from fasthebb.data import Dataset
from fasthebb.data.stream import Stream
from fasthebb.jobs.options import LoadOptions
from fasthebb.jobs.setup import load_data
from fasthebb.models.blocks import one_of


@dataclass(frozen=True, kw_only=True)
class BenchOptions(LoadOptions):
    """Time training steps of the six-layer net, or show the filters that first layers learn.

    Args:
        what: step, the net's and the peak memory of VGG's; rules, every rule's step; filters, what each rule learns of
            images; data, how fast they come and how long a step waits for them; the option's name may be left out.
        rules: the rules to time or to show; all by default.
        rounds: of step and rules, how many steps of each kind, in turn, the least counts; of data, twenties of steps.
        batch_size: images a step; not of filters, as the next two.
        width: units of every hidden layer, relative to the published net.
        device: cpu or cuda.
        naive: of step, also time the naive scheme (a minute).
        memory: of step, also measure peak memory.
        seeds: of filters, one repetition each.
        data: of filters and data, where images come from, and so are the other options of data.
        out: a JSON file for the figures; filters also writes a page and pictures beside it.
    """

    plain_word: ClassVar[str] = "what"

    what: Literal["step", "rules", "filters", "data"] = "step"
    rules: list[str] = field(default_factory=list)
    rounds: int = 9
    batch_size: int = 64
    width: float = 1.0
    device: str = "cpu"
    naive: bool = True
    memory: bool = True
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    data: str = "cifar10"
    out: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rules and self.what not in ("rules", "filters"):
            raise ValueError(f"--rules {', '.join(self.rules)}: say what of them to show, as in bench rules")
        for name in self.rules:
            one_of("rule", name, SETTINGS if self.what == "filters" else rules.every_rule())
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"--seeds {', '.join(map(str, self.seeds))}: give one or more, each once")
        if self.out is not None and (self.out.is_dir() or not self.out.parent.is_dir()):
            raise ValueError(f"--out {self.out}: name a file in a folder that is there")


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
    sizes = {name: getattr(options, name) for name in ("rounds", "batch_size", "width", "device", "out")}
    if options.what == "data":
        kinds = {name: _images(options, console, stream=name == "stream") for name in ("cache", "stream")}
        if not isinstance(kinds["stream"].train.images, Stream):  # of arrays, which are in memory
            kinds = {"memory": kinds["cache"]}
        return data.run(kinds, **sizes, console=console)
    if options.what == "rules":
        return rules.run(options.rules, **sizes)
    return measure(**sizes, naive=options.naive, memory=options.memory)


def _images(options: BenchOptions, console: Console, *, stream: bool) -> Dataset:
    return load_data(replace(options, stream=stream), console, image_size=32, channels=None, resize="crop")
