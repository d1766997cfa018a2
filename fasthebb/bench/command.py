"""`fasthebb bench`: how long a step takes and how much memory, against what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fasthebb.bench.run import run as measure
from fasthebb.console import Console
from fasthebb.jobs.checks import check_numbers


@dataclass(frozen=True)
class BenchOptions:
    """Time a training step of the six-layer net, and the peak memory of VGG's convolutional part.

    Args:
        rounds: steps of each kind, in turn; the least counts.
        batch_size: images a step.
        width: units of every hidden layer, relative to the published net.
        device: cpu or cuda.
        naive: also time the naive scheme (a minute).
        memory: also measure peak memory.
        out: a JSON file for the figures.
    """

    rounds: int = 9
    batch_size: int = 64
    width: float = 1.0
    device: str = "cpu"
    naive: bool = True
    memory: bool = True
    out: Path | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.out is not None and (self.out.is_dir() or not self.out.parent.is_dir()):
            raise ValueError(f"--out {self.out}: name a file in a folder that is there")


def run(options: BenchOptions, console: Console) -> dict[str, Any]:
    """Measure and print, and return what was measured; the machine should be quiet."""
    console.say("measuring: keep the machine quiet")
    return measure(**vars(options))
