"""First-layer filters of real images: rules whose units differ find structure, the others one component."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import fasthebb
from fasthebb.bench import filters, gallery
from fasthebb.bench.filters import SETTINGS, Images, beginning, images_of, learn, measure, verdict
from fasthebb.cli import main
from fasthebb.console import Console
from fasthebb.data import Dataset, ImageSet
from fasthebb.diagnostics import spectral_concentration

DIFFER = [name for name, setting in SETTINGS.items() if setting.fate == "differ"]
COLLAPSE = [name for name, setting in SETTINGS.items() if setting.fate == "collapse"]


def photographs(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The part and class of every CIFAR-10 image of the archive, "train/bird", and its pixels [3, 32, 32]."""
    with tarfile.open(folder / "cifar10_jpeg.tar.xz", "r|xz") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None and member.name.endswith(".jpg"):
                pixels = Image.open(io.BytesIO(content.read())).convert("RGB").tobytes()
                image = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(32, 32, 3).permute(2, 0, 1)
                yield member.name.rpartition("/")[0], image


def tiles(images: Tensor) -> Tensor:
    """The four quarters [4·N, 3, 16, 16] of images [N, 3, 32, 32]: cheap to whiten."""
    return F.unfold(images.float(), 16, stride=16).mT.reshape(-1, 3, 16, 16).to(torch.uint8)


@pytest.fixture(scope="module")
def few(shared_data: Path) -> Dataset:
    """Quarters of 400 photographs, of one class."""
    images = torch.stack([image for _, image in itertools.islice(photographs(shared_data), 400)])
    part = ImageSet(tiles(images), torch.zeros(1600, dtype=torch.int64))
    return Dataset("few", ("airplane",), part, part, None, 0)


def test_settings_are_of_all_rules_whose_units_differ() -> None:
    assert set(DIFFER) == {"HPCA", "HardWTA", "KWTA", "SoftWTA", "ICA", "HICA", "SoftHebb", "Krotov", "SOM"}
    assert {"Hebb", "Oja"} <= set(COLLAPSE)
    assert {"Subspace", "BCM"} <= set(SETTINGS)
    assert all(type(setting.rule).__name__ == name for name, setting in SETTINGS.items())
    words = [setting.words() for setting in SETTINGS.values()]
    assert not any(" at 0x" in line for line in words)
    assert (
        SETTINGS["ICA"].words()
        == "`ICA()`, rate 0.1, 600 steps, 48 units, from a random mixture of principal components"
    )


def kurtosis(w: Tensor, images: Images) -> float:
    """E[y⁴]/E[y²]² of responses, in the mean over units: 3 for Gaussian ones, more for independent parts of images."""
    squares = (images.patches() @ w.flatten(1).T).square()
    return float((squares.square().mean(0) / squares.mean(0).square()).mean())


@pytest.mark.parametrize("name", ["HPCA", "SoftWTA", "ICA"])
def test_filters_are_more_structured_than_random_ones(name: str, few: Dataset) -> None:
    setting = replace(SETTINGS[name], steps=150)
    images = images_of(few, whiten=setting.whiten)
    found = learn(setting, images, seed=0)
    random = torch.nn.Conv2d(3, 96, 5).weight.detach()
    assert spectral_concentration(random).mean() == pytest.approx(0.102, abs=0.01)
    assert spectral_concentration(found).mean() > 0.15
    assert torch.equal(learn(setting, images, seed=0), found)
    if name == "ICA":
        mixture = beginning(setting, images, seed=0)
        assert spectral_concentration(found).mean() > spectral_concentration(mixture).mean()
        assert kurtosis(found, images) > 1.5 * kurtosis(mixture, images)


def test_all_units_of_ojas_rule_are_the_first_component(few: Dataset) -> None:
    images = images_of(few, whiten=False)
    assert filters.first_component(learn(SETTINGS["Oja"], images, seed=0), images).min() > filters.COLLAPSED


@pytest.mark.slow
def test_rules_beat_random_filters_in_read_out_and_structure(shared_data: Path) -> None:
    """4 000 photographs to learn from, 2 000 to test on, half of the steps."""
    kept: dict[str, list[Tensor]] = {}
    for name, image in photographs(shared_data):
        if len(kept.setdefault(name, [])) < (400 if name.startswith("train") else 200):
            kept[name].append(image)
    classes = tuple(sorted(name.partition("/")[2] for name in kept if name.startswith("train")))
    parts = []
    for part in ("train", "test"):
        each = [torch.stack(kept[f"{part}/{name}"]) for name in classes]
        parts.append(ImageSet(torch.cat(each), torch.arange(10).repeat_interleave(len(each[0]))))
    dataset = Dataset("photographs", classes, *parts, None, 0)
    images = {whiten: images_of(dataset, whiten=whiten) for whiten in (False, True)}
    for name in (*DIFFER, *COLLAPSE):
        setting = replace(SETTINGS[name], steps=300)
        figures, _ = measure(setting, images[setting.whiten], seeds=[0])
        wanted = "better than random in read-out and structure"
        assert verdict(figures) == (wanted if name in DIFFER else "all units are the first component"), (name, figures)


def test_start_and_read_out_by_hand() -> None:
    torch.manual_seed(0)
    labels = torch.arange(200) % 2
    x = torch.randn(200, 3, 9, 9) * torch.where(labels == 0, 1.0, 3.0)[:, None, None, None]
    images = Images(x, labels, x.flip(0), labels.flip(0))
    patches = images.patches(900)
    assert patches.shape == (900, 75)
    assert torch.equal(patches[9], x[1, :, :5, :5].flatten())
    start = filters.components(torch.zeros(7, 75), patches, torch.Generator())
    y = patches @ start.T
    assert torch.allclose(y.square().mean(0), torch.ones(7), atol=1e-4)
    centred = y - y.mean(0)
    assert (centred.T @ centred / 900).fill_diagonal_(0).abs().max() < 1e-3
    long = filters.long(torch.randn(7, 75), patches, torch.Generator())
    assert torch.allclose(long.norm(dim=1), torch.full((7,), 4.0))
    random = torch.randn(6, 3, 5, 5)
    assert filters.probe(random, images) == filters.probe(100 * random, images) > 95, "the classes differ in contrast"
    shuffled = images._replace(labels=labels[torch.randperm(200)])
    assert filters.probe(random, shuffled) < 90


def test_verdicts() -> None:
    figures = {
        "least_first": [0.5, 0.999], "probe": [2.0, 3.0], "random_probe": [1.0, 2.0],
        "concentration": [0.3, 0.11], "random_concentration": [0.1, 0.1],
    }  # fmt: skip
    assert verdict(figures) == "better than random in read-out"
    assert verdict({**figures, "least_first": [0.99, 1.0]}) == "all units are the first component"
    assert verdict({**figures, "concentration": [0.3, 0.13]}) == "better than random in read-out and structure"
    assert verdict({**figures, "probe": [2.0, 2.0]}) == "no better than random"


def dataset() -> Dataset:
    pixels = torch.randint(256, (60, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    part = ImageSet(pixels, torch.arange(60) % 3, tuple(f"{i}.jpg" for i in range(60)))
    return Dataset("noise", ("a", "b", "c"), part, part, None, 0)


def test_a_page_and_pictures_grow_rule_by_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gallery, "SETTINGS", {name: replace(SETTINGS[name], steps=3, units=8, start=None) for name in SETTINGS}
    )
    out, console = tmp_path / "filters.json", Console(quiet=True)
    gallery.run(["SoftWTA"], dataset(), console, seeds=[0, 1], out=out)
    report = gallery.run(["HPCA"], dataset(), console, seeds=[0, 1], out=out)
    assert json.loads(out.read_text()) == report
    assert set(report["rules"]) == {"SoftWTA", "HPCA"}
    assert len(report["rules"]["HPCA"]["probe"]) == 2
    page = (tmp_path / "filters.md").read_text()
    assert page.index("| HPCA |") < page.index("| SoftWTA |"), "in the order of the settings"
    assert "read from JPEG files" in page
    assert "$" not in page
    for name in ("hpca", "softwta"):
        assert f"(filters/{name}.png)" in page
        assert Image.open(tmp_path / "filters" / f"{name}.png").size == (4 * (4 * 6 - 1), 4 * (2 * 6 - 1))
    with pytest.raises(ValueError, match="holds figures of other images or seeds: name another file"):
        gallery.run(["HPCA"], dataset(), console, seeds=[0], out=out)
    out.write_text("[]")
    with pytest.raises(ValueError, match="holds something else than figures of filters"):
        gallery.run(["HPCA"], dataset(), console, seeds=[0], out=out)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(gallery.SETTINGS, "Oja", replace(SETTINGS["Oja"], steps=200, units=4))  # type: ignore[index]
    out = tmp_path / "found.json"
    assert main(["bench", "filters", "--rules", "Oja", "--data", "digits", "--seeds", "0", "--out", str(out)]) == 0
    assert "all units are the first component" in capsys.readouterr().out
    assert (tmp_path / "found" / "oja.png").exists()
    assert isinstance(SETTINGS["Oja"].rule, fasthebb.Oja)
