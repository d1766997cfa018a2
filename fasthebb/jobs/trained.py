"""The trained net that a command is given: of a run folder, of an exported one, or ready weights by their name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from fasthebb.console import Console
from fasthebb.data.whitening import Whitening
from fasthebb.jobs.net import Net
from fasthebb.models.ready import CONFIG, WHITENING, read_net_files, ready_folder, ready_names
from fasthebb.training import checkpoint
from fasthebb.training.run import finished


def trained_folder(run: Path) -> Path:
    """The folder of a run, or of ready weights of that name.

    Raises:
        ValueError: there is no such folder, or nothing trained is in it.
    """
    if not run.is_dir():
        ready = ready_folder(run)
        if ready is None:
            raise ValueError(
                f"{run}: there is no such run folder; give the --out of an earlier pretrain or finetune, or the name "
                f"of ready weights ({ready_names()})"
            )
        return ready.resolve()
    if (run / "cells").is_dir():
        cells = sorted(checkpoint.parent.parent for checkpoint in (run / "cells").glob("*/checkpoints/last.pt"))
        first = f", such as {cells[0]}" if cells else ""
        raise ValueError(f"{run} is a study: give the folder of one of its nets{first}")
    return run


def is_exported(folder: Path) -> bool:
    """Whether a folder is what `fasthebb export` writes, which holds a net and no run."""
    return (folder / CONFIG).is_file() and not (folder / "checkpoints").is_dir()


def place_of(out: Path | None, run: Path, name: str) -> Path:
    """Where a command writes what it makes of a net: where --out says, or in the net's run folder under a name.

    Raises:
        ValueError: it is for --out to say, because the net is an exported one.
    """
    if out is None and is_exported(run):
        raise ValueError(f"{run} is an exported net, not a run: say with --out where to write")
    return out or run / name


def read_net(run: Path, console: Console, *, trust: bool = False) -> tuple[Net, nn.Module]:
    """The trained net of a folder as of `trained_folder`, of a run from its checkpoint; warns if it is not finished.

    trust: whether an exported one may run code of its author's.

    Raises:
        ValueError: there is no net in it, its checkpoint or whitening is not sound, or it is not trusted.
    """
    if is_exported(run):
        about, model, whitening = read_net_files(run, trust=trust)
        return replace(Net.of(about, run), whitening=whitening), model
    state = checkpoint.load(run / "checkpoints" / "last.pt")
    net = Net.of(state["about"], run)
    if net.whitened:
        net = replace(net, whitening=Whitening.load(run / WHITENING))
    model = net.build()
    try:
        model.load_state_dict(state["parts"]["model"])
    except (RuntimeError, KeyError):
        raise ValueError(f"{run}: its checkpoint does not fit the net {net.model!r}; train it again") from None
    if (run / "config.yaml").exists() and not finished(run):
        console.warn(f"{run} is not finished: its net is as of step {state['progress']['step']}")
    return net, model
