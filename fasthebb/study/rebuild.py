"""`fasthebb report`: a study's page, made again from what its folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fasthebb.console import Console
from fasthebb.files import lock
from fasthebb.study.runner import rebuild
from fasthebb.training.run import read_config


@dataclass(frozen=True)
class ReportOptions:
    """Write a study's report again from its results.

    Args:
        run: the study's folder.
    """

    run: Path


def run(options: ReportOptions, console: Console) -> None:
    """Write report.html.

    Raises:
        ValueError: the folder holds no study.
    """
    if not options.run.is_dir():
        raise ValueError(f"{options.run}: there is no such folder; give the --out of a study")
    read_config(options.run)  # a folder that is no run is not touched
    with lock(options.run):
        console.say(f"report: {rebuild(options.run)}")
