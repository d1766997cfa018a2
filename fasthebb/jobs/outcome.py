"""What a command tells a program: its return value as JSON values, or what the run folder holds that it wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fasthebb.training.run import read_metrics


class Outcome(NamedTuple):
    """What a command found; with an error the command failed all the same, and says so in this one line."""

    found: Any
    error: str = ""


def as_json(returned: object, options: Any) -> str:
    """The one document of `--json`: what a command returned, or what is in the folder that it or its options name."""
    if isinstance(returned, Outcome):
        returned = returned.found
    folder = getattr(options, "out", None) or getattr(options, "run", None)
    if isinstance(returned, Path):
        folder = returned if returned.is_dir() else returned.parent
    if returned is None or isinstance(returned, Path):
        returned = _of_folder(folder) if folder is not None else {}
    elif isinstance(returned, list):
        returned = {"run": folder, "results": returned}
    return json.dumps(_plain(returned), indent=1)


def _of_folder(folder: Path) -> dict[str, Any]:
    """Where a run is, how long it trained, its report and its results."""
    found: dict[str, Any] = {"run": folder}
    for record in read_metrics(folder):
        found["seconds"] = record["seconds"]
    if (folder / "report.html").exists():
        found["report"] = folder / "report.html"
    if (folder / "results.json").exists():
        found["results"] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def _plain(value: Any) -> Any:
    """As JSON values; numbers that are not finite are null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
