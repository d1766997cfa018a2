"""Nets by name: the ones of this package, of torchvision and timm, or anybody's `module:function`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from fasthebb.models.blocks import one_of
from fasthebb.models.deephebb import deephebb
from fasthebb.models.sixlayer import sixlayer
from fasthebb.models.tenlayer import tenlayer
from fasthebb.models.vgg import vgg
from fasthebb.models.zoo import LIBRARIES, full_name, zoo

NETS: Mapping[str, Callable[..., nn.Module]] = {
    "sixlayer": sixlayer,
    "tenlayer": tenlayer,
    "deephebb": deephebb,
    **{f"vgg{depth}": partial(vgg, depth) for depth in (11, 13, 16, 19)},
}


def build(
    name: str,
    *,
    classes: int,
    channels: int = 3,
    image_size: int = 32,
    width: float = 1.0,
    forward: str = "relu",
    twin: str = "hebbian",
) -> nn.Module:
    """Build the net called `name`: one of NETS, "torchvision:NAME", "timm:NAME", or "module:function" of your own.

    Another plain name is looked for in torchvision, then in timm, where they are installed. Of these, `forward` and
    `twin` change nothing, `width` must be 1, and `image_size` is what their model takes. A module of your own is looked
    for in the current directory and on the path; its function is called with those of the other arguments that its
    signature accepts, and returns a module from [N, channels, H, W] to [N, classes].
    Raises ValueError, on one line, for an unknown name or when a library or your module cannot be used.
    """
    wishes: dict[str, Any] = {"classes": classes, "channels": channels, "image_size": image_size}
    wishes |= {"width": width, "forward": forward, "twin": twin}
    if name in NETS:
        return NETS[name](**wishes)
    if ":" not in name:
        name = full_name(name, [*NETS, *(f"{library}:NAME" for library in LIBRARIES), "module:function"])
    library, _, model_name = name.partition(":")
    if library in LIBRARIES:
        return zoo(library, model_name, classes=classes, channels=channels, width=width)
    function = _imported(name)
    model = function(**_accepted(name, function, wishes))
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {name!r} returned {type(model).__name__}: let it return a torch.nn.Module")
    return model


def is_own(name: str) -> bool:
    """Whether a net of this name is built by a function of the user's, which may do anything."""
    library, colon, _ = name.partition(":")
    return bool(colon) and library not in LIBRARIES


def head_name(model: nn.Module) -> str:
    """Name of the last nn.Linear in module order, taken as the classifier; ValueError when there is none."""
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise ValueError(
            f"{type(model).__name__} has no Linear layer to serve as its head: name another layer as the head"
        )
    return names[-1]


def _imported(name: str) -> Callable[..., Any]:
    """The function that "module:function" names."""
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"model {name!r}: importing {module_name!r} failed with {reason}") from error
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    function: Callable[..., Any] = getattr(module, one_of(f"model {name!r}: function", function_name, functions))
    return function


def _accepted(name: str, function: Callable[..., Any], wishes: dict[str, Any]) -> dict[str, Any]:
    """Those of `wishes` that the signature takes by keyword; ValueError when it requires something else."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return wishes
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for parameter in parameters:
        required = parameter.default is parameter.empty and parameter.kind not in optional
        if required and (parameter.name not in wishes or parameter.kind is parameter.POSITIONAL_ONLY):
            raise ValueError(
                f"model {name!r} requires {parameter.name!r}: give it a default, or use {', '.join(wishes)}"
            )
    return {parameter.name: wishes[parameter.name] for parameter in parameters if parameter.name in wishes}
