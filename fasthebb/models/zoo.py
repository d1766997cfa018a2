"""Untrained nets of torchvision and timm, by name: "torchvision:resnet18", "timm:resnet18". Nothing is downloaded."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from types import ModuleType

from torch import nn

from fasthebb.models.blocks import one_of

LIBRARIES = ("torchvision", "timm")

# torchvision's nets of several outputs, and what leaves them with one
_ONE_OUTPUT = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}


def zoo(library: str, name: str, *, classes: int, channels: int, width: float) -> nn.Module:
    """Build the classifier `name` of a library, one of LIBRARIES, with its own initial weights.

    Raises ValueError, on one line: the library is not installed or does not load, has no such model, or cannot build
    it for so many channels; or a width other than 1.
    """
    models = _models(library)
    names = _names(library, models)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"did you mean {' or '.join(near)}" if near else f"it has {len(names)}, see {library}'s own list"
        raise ValueError(f"model '{library}:{name}' is unknown to {library}: {hint}")
    if width != 1:
        raise ValueError(f"width {width} does not apply to '{library}:{name}', which has its own: leave it at 1")
    if library == "timm":
        model: nn.Module = models.create_model(name, pretrained=False, num_classes=classes, in_chans=channels)
        return model
    if channels != 3:
        raise ValueError(f"'torchvision:{name}' takes 3 channels, not {channels}: give colour images, or use timm")
    model = models.get_model(name, weights=None, num_classes=classes, **_ONE_OUTPUT.get(name, {}))
    return model


def full_name(name: str, choices: Sequence[str]) -> str:
    """Return "library:name" of the first library that has a model of the plain name `name`.

    Raises ValueError when none has it, naming the nearest of `choices` and, if a library could not be asked, why.
    """
    reasons: list[str] = []
    for library in LIBRARIES:
        try:
            if name in _names(library, _models(library)):
                return f"{library}:{name}"
        except ValueError as error:
            reasons.append(str(error))
    try:
        return one_of("model", name, choices)
    except ValueError as error:
        raise ValueError("; ".join([str(error), *reasons[:1]])) from None  # timm stands on torchvision


def _models(library: str) -> ModuleType:
    """The module of a library that builds models."""
    try:
        module = importlib.import_module(library)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in LIBRARIES:
            raise ValueError(f"a model of {library} needs {error.name}: pip install 'fasthebb[vision]'") from None
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"a model of {library} needs {library}, but importing it failed with {reason}") from error
    models: ModuleType = module if library == "timm" else module.models
    return models


def _names(library: str, models: ModuleType) -> list[str]:
    """Names of a library's image classifiers."""
    names: list[str] = models.list_models() if library == "timm" else models.list_models(module=models)
    return names
