"""`finetune --classifier ridge`: the head gives the scores of a ridge probe, and the run is a classifier as any."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import NET, equal, fails, snapshot, weights, write_images
from torch import Tensor, nn
from torch.nn import functional as F

from fasthebb.cli import main
from fasthebb.data import load
from fasthebb.evaluation import Probe, linear_probe
from fasthebb.jobs.net import Spot
from fasthebb.jobs.ridge_head import averaging, sharpness, write_head
from fasthebb.models import load as ready

POOLED = ("--classifier", "ridge", "--pool", "2", "--labels", "200")


@pytest.mark.parametrize(("height", "width", "pool"), [(4, 4, 2), (5, 3, 2), (3, 7, 4), (1, 1, 2)])
def test_averaging_is_adaptive_pooling(height: int, width: int, pool: int) -> None:
    maps = torch.rand(6, 3, height, width, dtype=torch.float64)
    wanted = F.adaptive_avg_pool2d(maps, (min(pool, height), min(pool, width)))
    assert torch.allclose(maps.flatten(2) @ averaging(height, width, pool).T, wanted.flatten(2))


def probe_of(features: int, classes: int) -> Probe:
    generator = torch.Generator().manual_seed(0)
    weight, bias, mean, scale = (
        torch.rand(*shape, generator=generator, dtype=torch.float64) + 0.5
        for shape in ((classes, features), (classes,), (features,), (features,))
    )
    return Probe(weight, bias, mean, scale)


@pytest.mark.parametrize("pool", [None, 2])
def test_a_head_gives_the_scores_of_the_probe(pool: int | None) -> None:
    maps = torch.rand(8, 3, 5, 4)
    features = (maps if pool is None else F.adaptive_avg_pool2d(maps, pool)).flatten(1)
    probe, head = probe_of(features.shape[1], 4), nn.Linear(60, 6)
    write_head(head, probe, Spot("flatten", pool, features.shape[1], maps.shape[1:]), sharp=3.0)
    with torch.no_grad():
        scores = head(maps.flatten(1))
    assert torch.allclose(scores[:, :4].double(), 3 * probe.scores(features), rtol=1e-4)
    assert (scores[:, 4:] == -3).all(), "classes that no label showed"


def noisy(count: int, right: float) -> tuple[Tensor, Tensor]:
    """Features that tell the class, with labels of which a share is right and the rest drawn from all ten."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.arange(count) % 10
    features = F.one_hot(truth).float() + 0.05 * torch.randn(count, 10, generator=generator)
    other = torch.randint(10, (count,), generator=generator)
    return features, torch.where(torch.rand(count, generator=generator) < right, truth, other)


def test_sharpness_makes_confidence_what_accuracy_is() -> None:
    for right in (0.3, 0.6, 0.9):
        features, labels = noisy(16000, right)
        sharp = sharpness(features[:8000], labels[:8000])
        probe = linear_probe(features[:8000], labels[:8000])
        confidence = (sharp * probe.scores(features[8000:])).softmax(1).max(1).values.mean()
        assert 100 * float(confidence) == pytest.approx(probe.score(features[8000:], labels[8000:]), abs=3)


def test_few_labels_that_are_told_apart_leave_doubt() -> None:
    labels = torch.arange(40) % 2
    features = torch.cat([labels[:, None] * 10.0 + torch.rand(40, 1), torch.rand(40, 5)], 1)
    probe = linear_probe(features, labels)
    confidence = (sharpness(features, labels) * probe.scores(features)).softmax(1).max(1).values
    assert 0.8 < confidence.mean() < 0.95  # 8 are held out, none of them wrong: 9/10


def test_sharpness_of_too_few_labels() -> None:
    assert sharpness(torch.rand(2, 3), torch.tensor([0, 1])) == 1.0
    twice = torch.rand(8, 3).repeat(2, 1)
    assert 0.1 <= sharpness(twice, torch.tensor([0, 1, 0, 1, 0, 1, 0, 1] * 2), copies=2) <= 100


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SoftHebb net of digits, and two classifiers in closed form of it."""
    root = tmp_path_factory.mktemp("made")
    net = ("--data", "digits", "--model", "deephebb", "--width", "0.05", "--image-size", "16")
    start = (*net, "--rule", "SoftHebb", "--epochs", "1", "--lr", "0.01", "--out", f"{root / 'run'}")
    assert main(["pretrain", *start, "--quiet"]) == 0
    for name, more in (("plain", ()), ("mirrored", ("--mirror",))):
        assert main(["finetune", "--run", f"{root / 'run'}", *POOLED, *more, "--out", f"{root / name}", "--quiet"]) == 0
    return root


def top1(run: Path, method: str, depth: int | None = None) -> float:
    found = json.loads((run / "results.json").read_text())
    (value,) = [row["top1"] for row in found if row["method"] == method and depth in (None, row["depth"])]
    return float(value)


def test_it_is_as_good_as_the_probe(made: Path) -> None:
    words = ("--probe", "--pool", "2", "--probe-depths", "3", "--labels", "200")
    assert main(["evaluate", "--run", f"{made / 'run'}", *words, "--quiet"]) == 0
    assert top1(made / "plain", "head") == pytest.approx(top1(made / "run", "probe pool 2", 3), abs=0.3)
    assert top1(made / "plain", "head") > 60
    before, after = weights(made / "run"), weights(made / "plain")
    hidden = [name for name in before if not name.startswith("fc4")]
    assert equal({name: before[name] for name in hidden}, {name: after[name] for name in hidden})
    assert not torch.equal(weights(made / "mirrored")["fc4.weight"], after["fc4.weight"])


def test_at_a_depth(made: Path, tmp_path: Path) -> None:
    probe = ("--probe", "--pool", "2", "--probe-depths", "2", "--labels", "200")
    assert main(["evaluate", "--run", f"{made / 'run'}", *probe, "--quiet"]) == 0
    out = tmp_path / "cut"
    words = ("finetune", "--run", f"{made / 'run'}", *POOLED, "--depth", "2", "--out", f"{out}", "--quiet")
    assert main(list(words)) == 0
    assert top1(out, "head") == pytest.approx(top1(made / "run", "probe pool 2", 2), abs=0.3)


def test_predict_and_export_take_it(made: Path, tmp_path: Path) -> None:
    pixels = load("digits", image_size=16).test.images[:30]
    (tmp_path / "new").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image[0].numpy()).save(tmp_path / "new" / f"{number:02}.png")
    out, table = tmp_path / "exported", tmp_path / "classes.csv"
    assert main(["export", "--run", f"{made / 'plain'}", "--out", f"{out}", "--quiet"]) == 0
    assert main(["predict", "--run", f"{made / 'plain'}", f"{tmp_path / 'new'}", "--out", f"{table}", "--quiet"]) == 0
    with torch.no_grad():
        confidences, classes = ready(out)(pixels / 255).softmax(1).max(1)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [str(number) for number in classes.tolist()]
    assert torch.allclose(torch.tensor([float(row["confidence"]) for row in rows]), confidences, atol=1e-4)
    assert "its head alone was trained on labels (200)" in (out / "README.md").read_text()


def test_a_run_of_its_own_that_resumes(made: Path, tmp_path: Path) -> None:
    words = ["finetune", "--run", f"{made / 'run'}", *POOLED, "--quiet", "--resume"]
    assert main(words) == 0
    assert top1(made / "run" / "ridge-200-s0", "head") == top1(made / "plain", "head")
    before = snapshot(made / "run" / "ridge-200-s0")
    assert main(words) == 0
    assert snapshot(made / "run" / "ridge-200-s0") == before


def test_what_does_not_go_together(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, 2, "finetune", "--run", made / "run", "--pool", 2)
    assert "--pool and --mirror are of --classifier ridge" in said
    start = (*NET, "--data", f"folder:{write_images(tmp_path / 'images')}", "--max-steps", "1")
    assert main(["pretrain", *start, "--out", f"{tmp_path / 'flat'}", "--quiet"]) == 0
    said = fails(capsys, 1, "finetune", "--run", tmp_path / "flat", *POOLED, "--labels", 9)
    assert "--pool 2: no maps enter the head '8' of tiny:net" in said
    assert not (tmp_path / "flat" / "ridge-9-s0").exists()
