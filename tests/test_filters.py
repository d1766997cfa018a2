"""First-layer filters of real images: rules whose units differ find structure, the others one component."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fasthebb import HPCA, Oja
from fasthebb.bench import filters, gallery
from fasthebb.bench.filters import SETTINGS, Images, Setting, learn, measure, verdict
from fasthebb.cli import main
from fasthebb.console import Console
from fasthebb.data import Dataset, ImageSet
from fasthebb.diagnostics import spectral_concentration

DIFFER = [name for name, setting in SETTINGS.items() if setting.fate == "differ"]
NAMED = {"HPCA", "HardWTA", "KWTA", "SoftWTA", "ICA", "HICA", "SoftHebb", "Krotov", "SOM"}


def pixels(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Tensor:
    content = archive.extractfile(member)
    assert content is not None
    image = Image.open(io.BytesIO(content.read())).convert("RGB")
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(32, 32, 3).permute(2, 0, 1)


def photographs(path: Path, each: dict[str, int]) -> Dataset:
    """So many images of each class of a part; of none but the first class where "test" is not asked for."""
    found: dict[str, dict[str, list[Tensor]]] = {part: {} for part in ("train", "test")}
    with tarfile.open(path, "r|xz") as archive:
        for member in archive:
            part, _, rest = member.name.partition("/")
            kept = found.get(part, {}).setdefault(rest.partition("/")[0], [])
            if member.isfile() and len(kept) < each.get(part, 0):
                kept.append(pixels(archive, member))
            if "test" not in each and len(kept) == each["train"]:
                break
    parts = []
    for of in found.values():
        classes = sorted(name for name, images in of.items() if images) or ["none"]
        images = [image for name in classes for image in of.get(name, [torch.zeros(3, 32, 32, dtype=torch.uint8)])]
        labels = [classes.index(name) for name in classes for _ in of.get(name, [None])]
        parts.append(ImageSet(torch.stack(images), torch.tensor(labels)))
    return Dataset("photographs", tuple(classes), *parts, None, 0)


def test_settings_are_of_all_rules_whose_units_differ() -> None:
    assert set(DIFFER) == NAMED
    assert {name for name, setting in SETTINGS.items() if setting.fate == "collapse"} >= {"Hebb", "Oja"}
    assert {"Subspace", "BCM"} <= set(SETTINGS)
    assert all(type(setting.rule).__name__ == name for name, setting in SETTINGS.items())
    assert all("0x" not in setting.words() for setting in SETTINGS.values())
