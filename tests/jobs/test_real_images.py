"""Three commands on 2 000 photographs: features that no label made tell classes apart."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from fasthebb.cli import main
from fasthebb.data import few_labels, load
from fasthebb.evaluation import linear_probe
from fasthebb.models import load as ready

EACH = {"train": 160, "test": 40}  # images of each of ten classes


@pytest.fixture(scope="module")
def photographs(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder train|test/CLASS/ of CIFAR-10 images."""
    root = tmp_path_factory.mktemp("cifar10")
    left: dict[str, int] = {}
    with tarfile.open(shared_data / "cifar10_jpeg.tar.xz") as archive:
        for member in archive:
            part = member.name.partition("/")[0]
            place = str(Path(member.name).parent)
            if member.isfile() and part in EACH and left.setdefault(place, EACH[part]):
                left[place] -= 1
                target = root / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None
                target.write_bytes(content.read())
    assert sum(1 for _ in root.rglob("*.jpg")) == 2000
    return root


@pytest.mark.slow
def test_three_commands(photographs: Path, tmp_path: Path) -> None:
    run, tuned = tmp_path / "run", tmp_path / "tuned"
    words = ("--width", "0.25", "--epochs", "10", "--max-steps", "120", "--lr", "0.01", "--rule", "HPCA")
    finish = ("--rule.finish", "fasthebb.finish.fan_in")
    assert main(["pretrain", "--data", f"folder:{photographs}", *words, *finish, "--out", str(run)]) == 0
    words = ("--labels", "0.1", "--lr", "0.01", "--epochs", "20")
    assert main(["finetune", "--run", str(run), *words, "--out", str(tuned)]) == 0
    assert main(["evaluate", "--run", str(run), "--knn", "--probe", "--labels", "0.1"]) == 0
    frozen, end_to_end = results(run), results(tuned)
    assert {r["labels"] for r in (*frozen, *end_to_end)} == {160}
    assert {r["depth"] for r in frozen} == {1, 2, 3, 4, 5, None}
    probe = {r["depth"]: r["top1"] for r in frozen if r["method"] == "probe"}
    assert probe[None] > 20, "chance is 10 %"
    assert max(probe.values()) < 70, "and 160 labels are few"
    assert end_to_end[0]["top1"] > 15
    assert end_to_end[0]["top5"] > end_to_end[0]["top1"]


def results(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((run / "results.json").read_text())
    return found


@pytest.mark.slow
def test_the_ready_weights_are_worth_their_labels(photographs: Path) -> None:
    dataset = load(f"folder:{photographs}", image_size=32)
    chosen = few_labels(dataset.train.labels, 300, seed=0)
    net = ready("cifar10-softhebb")
    with torch.no_grad():
        few, tested = (
            torch.cat([net(x.float() / 255) for x in images.split(50)])
            for images in (dataset.train.images[chosen], dataset.test.images)
        )
    probe = linear_probe(few, dataset.train.labels[chosen])
    assert probe.score(tested, dataset.test.labels) > 45, "chance is 10 %"
