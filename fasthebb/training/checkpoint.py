"""Checkpoints: one file that holds everything resume needs, and an export of the weights beside it.

`last.pt` holds tensors and plain values only and is read with `weights_only=True`: a file made to execute code is
refused.
"""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from torch import nn

from fasthebb.diagnostics import broken_layer
from fasthebb.files import atomic_save, atomic_write
from fasthebb.training.loop import Progress, Stateful

FORMAT = "fasthebb checkpoint 1"
KEYS = {"parts", "progress", "random", "about"}


def save(path: Path, parts: Mapping[str, Stateful], progress: Progress, about: Mapping[str, Any]) -> None:
    """Write parts, progress, random state and `about` (plain values) to `path`, all at once or not at all.

    Raises:
        FloatingPointError: the model is not finite; what `path` holds stays.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    broken = broken_layer(states["model"])
    if broken is not None:
        step = progress.step
        why = f"after step {step}: lower the learning rate" if step else "before the first step: check the model"
        raise FloatingPointError(f"Layer {broken!r} is not finite {why}")
    state = {
        "format": FORMAT,
        "parts": states,
        "progress": asdict(progress),
        "random": {"torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
        "about": dict(about),
    }
    atomic_save(path, lambda file: torch.save(state, file))


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint, on the CPU.

    Raises:
        ValueError: there is none, it is damaged, of another program, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no checkpoint; train first, or name another run folder")
    try:
        _check_sums(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are refused anyhow
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a sound checkpoint ({_reason(error)}); restore it, or start anew") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT or not state.keys() >= KEYS:
        raise ValueError(f"{path} is not a checkpoint of fasthebb; name a run folder that fasthebb made")
    return state


def restore(state: Mapping[str, Any], parts: Mapping[str, Stateful]) -> Progress:
    """Put parts and random state where a checkpoint left them, and say how far that was.

    Raises:
        ValueError: the checkpoint is of other parts, or of another model.
    """
    if set(parts) != set(state["parts"]):
        raise ValueError(
            f"The checkpoint holds {', '.join(state['parts'])}, not {', '.join(parts)}: it is of another command"
        )
    for name, part in parts.items():
        try:
            part.load_state_dict(state["parts"][name])
        except (RuntimeError, KeyError, ValueError) as error:
            raise ValueError(
                f"The checkpoint's {name} does not fit ({_reason(error)}): it is of another model"
            ) from None
    torch.set_rng_state(state["random"]["torch"])
    torch.cuda.set_rng_state_all(state["random"]["cuda"][: torch.cuda.device_count()])
    return Progress(**state["progress"])


def export(path: Path, model: nn.Module, about: Mapping[str, str]) -> None:
    """Write the model's weights as safetensors, with `about` as its metadata."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    atomic_write(path, to_safetensors(tensors, metadata=dict(about)))


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _check_sums(path: Path) -> None:
    # torch.load does not notice a bit that flipped in a tensor.
    with contextlib.suppress(BadZipFile), ZipFile(path) as parts:
        damaged = parts.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} in it is damaged")


def _reason(error: Exception) -> str:
    text = str(error)
    if "weights_only" in text or "Unsupported" in text:
        return "it holds more than tensors and plain values, which could execute code"
    return f"{type(error).__name__}: {text.strip().splitlines()[0]}" if text.strip() else type(error).__name__
