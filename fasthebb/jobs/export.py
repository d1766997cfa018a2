"""`fasthebb export`: a trained net for others: weights, a model card, and programs that need no fasthebb."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fasthebb.console import Console
from fasthebb.evaluation.features import extract
from fasthebb.files import atomic_save, atomic_write
from fasthebb.jobs.card import card
from fasthebb.jobs.net import Net
from fasthebb.jobs.trained import read_net, trained_folder
from fasthebb.models.ready import CONFIG, WEIGHTS, WHITENING, Program
from fasthebb.training import checkpoint

TOLERANCE = 1e-4  # of the largest output
HALF_TOLERANCE = 1e-2  # of weights of 16 bits
IMAGES = 4  # on which programs are compared with the net


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write a trained net for others: weights as safetensors, a model card, and programs if asked for.

    Args:
        run: the run folder, of pre-training or of fine-tuning, an exported net, or the name of ready weights.
        out: the folder to make.
        trust: let an exported net run the code that builds it, where that is a module:function of its author's.
        formats: safetensors is always written; torch adds a program of torch.export, onnx one of ONNX.
        half: write the weights as 16-bit floats, half the size; they are read as 32-bit ones.
    """

    run: Path
    out: Path
    trust: bool = False
    formats: list[Literal["safetensors", "torch", "onnx"]] = field(default_factory=lambda: ["safetensors"])
    half: bool = False


def run(options: ExportOptions, console: Console) -> dict[str, Any]:
    """Write the folder, once every file in it gives what the run's net gives; returns the differences.

    Raises:
        ValueError: the folder is not empty, a package is missing, or a program differs from the net.
    """
    out = options.out
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"--out {out}: it is there already, and not an empty folder; name another")
    if "onnx" in options.formats:
        _package("onnx"), _package("onnxscript")
    source = trained_folder(options.run)
    kept, model = read_net(source, console, trust=options.trust)
    net = _public(kept)
    model.eval()
    images = torch.rand(
        IMAGES, len(net.mean), net.image_size, net.image_size, generator=torch.Generator().manual_seed(0)
    )
    wanted = _outputs(net, model, images)
    differences: dict[str, float] = {}
    with _aside(out) as folder:
        for name, write in _writers(options.formats, options.half).items():
            file = folder / name
            given = write(file, net, model, images)
            tolerance = HALF_TOLERANCE if options.half and name == WEIGHTS else TOLERANCE
            differences[name] = _difference(given, wanted, f"{options.run}: {name}", tolerance)
            console.say(f"{name}: differs from the net by {differences[name]:.1e} of its largest output")
        if net.whitening is not None:
            net.whitening.save(folder / WHITENING)
        atomic_write(folder / CONFIG, json.dumps(net.plain(), indent=1, ensure_ascii=False) + "\n")
        atomic_write(folder / "README.md", card(net, source, kept.dataset, differences))
    console.say(f"exported: {out}")
    return {"run": options.run, "out": out, "differences": differences}


def _public(net: Net) -> Net:
    # Without the folders of this machine: of a folder or shards the last part of the path alone, which is no source.
    kind, colon, path = net.dataset.partition(":")
    name = f"{kind}:{Path(path).name}" if colon else kind
    return replace(net, dataset=name, source={} if colon else {"data": name})


Writer = Callable[[Path, Net, nn.Module, Tensor], Tensor]


def _writers(formats: list[Any], half: bool) -> dict[str, Writer]:
    """By file, what writes it and gives what it makes of some images."""
    extra: dict[str, tuple[str, Writer]] = {"torch": ("model.pt2", _write_torch), "onnx": ("model.onnx", _write_onnx)}
    return {WEIGHTS: partial(_write_weights, half=half), **dict(extra[name] for name in extra if name in formats)}


def _write_weights(file: Path, net: Net, model: nn.Module, images: Tensor, *, half: bool = False) -> Tensor:
    about = {"format": "pt", "about": json.dumps(net.plain(), ensure_ascii=False)}
    checkpoint.export(file, _halved(net, model) if half else model, about)
    again = net.build()
    again.load_state_dict(load_file(file))
    return _outputs(net, again.eval(), images)


def _halved(net: Net, model: nn.Module) -> nn.Module:
    """A copy with parameters of 16 bits; statistics of batch norms stay as they are."""
    copy = net.build()
    copy.load_state_dict(model.state_dict())
    for parameter in copy.parameters():
        parameter.data = parameter.data.half()
    return copy


def _write_torch(file: Path, net: Net, model: nn.Module, images: Tensor) -> Tensor:
    atomic_save(file, lambda stream: torch.export.save(_program(net, model, images), stream))
    with torch.no_grad():
        found: Tensor = torch.export.load(file).module()(images[:-1])
    return found


def _write_onnx(file: Path, net: Net, model: nn.Module, images: Tensor) -> Tensor:
    with _silence():
        written = torch.onnx.export(
            _program(net, model, images), input_names=["images"], output_names=["outputs"], dynamo=True, verbose=False
        )
    assert written is not None
    atomic_write(file, written.model_proto.SerializeToString())
    evaluator = _package("onnx.reference").ReferenceEvaluator(str(file))
    (found,) = evaluator.run(None, {"images": images[:-1].numpy()})
    return torch.from_numpy(np.asarray(found))


def _program(net: Net, model: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    fresh = net.build().eval()
    fresh.load_state_dict(model.state_dict())
    batches = {0: torch.export.Dim("batch", min=1)}
    try:
        with torch.no_grad(), _silence():
            return torch.export.export(
                Program(fresh, net.plain(), net.whitening).eval(), (images,), dynamic_shapes=(batches,)
            )
    except Exception as error:  # torch raises many kinds on a forward that is no fixed graph
        reason = f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}"
        raise ValueError(f"{net.model} cannot be made a program ({reason}): export it as safetensors alone") from None


def _outputs(net: Net, model: nn.Module, images: Tensor) -> Tensor:
    """What the run's net says of images in [0, 1], by the way that commands take."""
    x = (images - torch.tensor(net.mean)[:, None, None]) / torch.tensor(net.std)[:, None, None]
    x = x if net.whitening is None else net.whitening(x)
    if not net.classifier:
        return extract(model, net.head, [(x, torch.zeros(len(x)))])[0]
    with torch.no_grad():
        scores: Tensor = model(x)
    return scores


def _difference(given: Tensor, wanted: Tensor, what: str, tolerance: float) -> float:
    """The largest difference, relative to the largest output; `given` may be of the first images only."""
    wanted = wanted[: len(given)]
    difference = float((given.flatten(1) - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12))
    if not difference <= tolerance:
        raise ValueError(f"{what} differs from the net by {difference:.1e} of its largest output: nothing is exported")
    return difference


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what torch's exporters print, log and warn of their inner matters."""
    nowhere, before = io.StringIO(), logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


@contextlib.contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A folder that takes the place of `out` once the block has filled it, and is gone if it fails."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        yield part
        part.replace(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"--formats onnx needs {name}: pip install 'fasthebb[onnx]', or leave it out") from None
