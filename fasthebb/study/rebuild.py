"""`fasthebb report`: a study's page, made again from what its folder holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fasthebb.console import Console
from fasthebb.files import lock
from fasthebb.study.published import expected_of, publish_reproductions, publish_study
from fasthebb.study.runner import rebuild
from fasthebb.training.run import read_config


@dataclass(frozen=True)
class ReportOptions:
    """Write a study's report again from its results.

    Args:
        run: the study's folder.
        also: folders of more studies, for a page of reproductions.
        publish: also write PATH.md for a documentation folder, the main table with PATH.svg; of studies that know what
            to expect, what they measured beside it.
        note: a sentence for that page, such as which copy of the images was seen.
    """

    run: Path
    also: list[Path] = field(default_factory=list)
    publish: Path | None = None
    note: str | None = None


def run(options: ReportOptions, console: Console) -> None:
    """Write report.html.

    Raises:
        ValueError: a folder holds no study, or several studies are to be published that know not what to expect.
    """
    folders = [options.run, *options.also]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: there is no such folder; give the --out of a study")
    reproduced = [bool(expected_of(read_config(folder))) for folder in folders]  # no run, no folder touched
    if options.publish is not None and len(folders) > 1 and not all(reproduced):
        stranger = folders[reproduced.index(False)]
        raise ValueError(f"{stranger} is no reproduction (its config.yaml expects nothing): publish it on its own")
    for folder in folders:
        with lock(folder):
            console.say(f"report: {rebuild(folder)}")
    if options.publish is not None:
        if all(reproduced):
            publish_reproductions(folders, options.publish, options.note)
        else:
            publish_study(options.run, options.publish, options.note)
        console.say(f"published: {options.publish}.md")
