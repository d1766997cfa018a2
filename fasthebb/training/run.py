"""Run folders: one command's configuration, log, metrics and checkpoints, for one process or job of ranks at a time.

Of several ranks the first one writes; all see the folder, and read its checkpoint.

| file | holds |
|---|---|
| config.yaml | every option |
| data.json | which images it saw, by a fingerprint |
| model.json | what builds the net again and feeds it |
| whitening.safetensors | the whitening of its images, if it has one |
| metrics.jsonl | one record an epoch |
| train.log | what was said, with the time |
| checkpoints/last.pt | everything resume needs, and the only thing it reads |
| checkpoints/last.safetensors | the weights, for others |
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from torch import nn

from fasthebb.console import Console
from fasthebb.data import Dataset
from fasthebb.distributed import LostRankError, rank
from fasthebb.files import append_line, atomic_write, lock, told
from fasthebb.training import checkpoint
from fasthebb.training.curves import Curves
from fasthebb.training.leftovers import clear
from fasthebb.training.stop import Interrupted, Stop
from fasthebb.training.watch import RunWatcher

FREE = frozenset((  # may differ on resume; that the images are the same is checked by themselves
    "out", "resume", "device", "capture", "checkpoint_steps", "cache_dir", "data_dir", "download", "max_bad",
    "tensorboard", "expected", "rank_timeout",
))  # fmt: skip
DATA = "data.json"
PAUSE = 0.5  # seconds until one that waits for the owner of a folder looks again
PATIENCE = 4 * 3600.0  # seconds until it gives up; the owner may be decoding a large data set


class RunFolder:
    """An open run folder: owned by this process until its `with` block ends.

    A new run that fails before its first step leaves nothing behind.

    Args:
        path: the folder; made if missing.
        options: the command's options, as plain values.
        resume: go on where an earlier run of the same options ended, or start anew if there was none.
        console: who talks to the user.
        defaults: what an option was before the command had it; by default such a run is of another command.
        grown: of the run's options and those of now, the run's with what may be added to it.
        leads: whether this process owns the folder; one that does not waits until the owner has begun. By default the
            first rank does, and no other one waits.
        begun_by: what on the command line of the run in the folder chose options, if anything did.

    Attributes:
        begun: whether there is something worth keeping: a step was done.
        stop: what a signal asks for.

    Raises:
        ValueError: the folder holds a run and `resume` is off, holds one of other options, or is something else.
    """

    def __init__(
        self,
        path: Path,
        options: Mapping[str, Any],
        *,
        resume: bool,
        console: Console,
        defaults: Mapping[str, Any] = MappingProxyType({}),
        grown: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]] | None = None,
        leads: bool | None = None,
        begun_by: str = "",
    ) -> None:
        self.path, self.console = path, console
        self.leads = rank() == 0 if leads is None else leads
        self._defaults, self._grown, self._begun_by = dict(defaults), grown, begun_by
        self.options = dict(options)
        self.begun = False
        self.stop = Stop()
        self._resume = resume
        self._spoke = False
        self._made: list[Path] = []
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> RunFolder:
        if self.leads:
            self._own()
        elif rank() == 0:
            self._join()
        self._exits.enter_context(self.stop)
        return self

    def _own(self) -> None:
        self._check()  # a folder that is refused is not touched
        self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self._exits.enter_context(lock(self.path))
        try:
            self._check()
        except BaseException:
            self._exits.close()
            raise
        self.begun = (self.path / "config.yaml").exists()

    def _join(self) -> None:
        until = time.monotonic() + PATIENCE
        while not (self.path / "config.yaml").exists():
            if time.monotonic() > until:
                raise ValueError(f"{self.path}: the first process began nothing here; put it where all of them see it")
            time.sleep(PAUSE)
        self._resume = True
        self._check()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if kind is not None and not self.begun and self.leads:
            clear(self.path, self._made)
        elif isinstance(error, Exception) and self._spoke:
            with contextlib.suppress(OSError):
                self._note(f"error: {told(error)}")
        self._exits.close()
        if isinstance(error, LostRankError) and self.stop.requested:
            raise Interrupted  # the first rank has stopped as it was asked to, too

    def log(self, text: str) -> None:
        """Say a line, and note it in train.log."""
        self.console.say(text)
        if rank() == 0:
            self._note(text)

    def _note(self, text: str) -> None:
        self._spoke = True
        append_line(self.path / "train.log", f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}")

    def write_config(self) -> None:
        """Write config.yaml: every option, as a command line reads it back."""
        if self.leads:
            atomic_write(self.path / "config.yaml", yaml.safe_dump(self.options, sort_keys=False, allow_unicode=True))

    def check_data(self, name: str, fingerprint: str) -> None:
        """See whether the data are those that the run began with, and note them.

        Raises:
            ValueError: they have changed.
        """
        if not self.leads:
            return
        file, now = self.path / DATA, {"dataset": name, "fingerprint": fingerprint}
        if self.begun and file.exists() and json.loads(file.read_text()) != now:
            raise ValueError(
                f"The images of {name} are not those that the run in {self.path} began with; "
                "restore them, or name another folder"
            )
        atomic_write(file, json.dumps(now, indent=1) + "\n")

    def watcher(
        self, about: Mapping[str, Any], every: int, path: Path | None = None, *, tensorboard: bool = False
    ) -> RunWatcher:
        """Who watches a training stage, kept in the folder or in another `path`: saves every so many steps."""
        curves = Curves(path or self.path) if tensorboard and rank() == 0 else None
        return RunWatcher(self, about, every, path or self.path, curves)

    def finish(self, model: nn.Module, about: Mapping[str, Any]) -> None:
        """Export the weights, with what they are about as metadata: the last thing a run does."""
        if rank() > 0:
            return
        metadata = {"about": json.dumps(dict(about), ensure_ascii=False)}
        checkpoint.export(self.path / "checkpoints" / "last.safetensors", model, metadata)

    def _check(self) -> None:
        if not self.path.is_dir():
            return
        if not (self.path / "config.yaml").exists():
            if strangers := sorted(p.name for p in self.path.iterdir() if not p.name.startswith(".")):
                raise ValueError(
                    f"{self.path} is not empty and no run folder (it holds {strangers[0]}); name another folder"
                )
            return
        there = read_config(self.path)
        if there.keys() <= self.options.keys():  # else it is no older version of this command
            there = {**self._defaults, **there}
        if not self.options.keys() <= there.keys():
            raise ValueError(f"{self.path} holds a run of another command or version of fasthebb; name another folder")
        there = dict(self._grown(there, self.options)) if self._grown else there
        chosen = f"{self._begun_by} chose and " if self._begun_by else ""
        changed = [key for key in self.options if key not in FREE and not _same(self.options[key], there[key])]
        if changed:
            key = changed[0]
            raise ValueError(
                f"{self.path} holds a run with {key}={there[key]!r}, not {self.options[key]!r}; name "
                f"another folder, or give the same options, which {chosen}--config {self.path / 'config.yaml'} holds"
            )
        if not self._resume:
            raise ValueError(f"{self.path} holds a run already; add --resume to go on with it, or name another folder")


def _same(a: Any, b: Any) -> bool:
    # Whether options are equal, the order of what maps patterns to rules included.
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    return bool(a == b)


def finished(path: Path) -> bool:
    """Whether a run folder's run has ended well; the export is the last thing it writes."""
    return (path / "checkpoints" / "last.safetensors").exists()


def read_config(path: Path) -> dict[str, Any]:
    """The config.yaml of a run folder.

    Raises:
        ValueError: there is none, or it is not one.
    """
    file = path / "config.yaml"
    if not file.is_file():
        raise ValueError(f"{path} is not a run folder (it has no config.yaml); give the --out of an earlier command")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is damaged ({str(error).splitlines()[0]}); restore it, or start a new run") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged (it holds no options); restore it, or start a new run")
    return content


def changed(path: Path, dataset: Dataset, *, stream: bool) -> bool:
    """Whether the images differ from those that a run, read in the same way, began with; not if that is not known."""
    file = path / DATA
    if not file.exists() or read_config(path).get("stream", False) != stream:
        return False
    was: dict[str, str] = json.loads(file.read_text())
    return was["dataset"] == dataset.name and was["fingerprint"] != dataset.fingerprint


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a run's metrics.jsonl; none if it has none. A line that a crash cut short is none."""
    file = path / "metrics.jsonl"
    for line in file.read_text().splitlines() if file.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)
