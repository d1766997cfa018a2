"""Images without any class: enough to pre-train on, to embed, to check and to shard; labels come later, if at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import NET, equal, fails, weights, write_images

from fasthebb.cli import main
from fasthebb.data import load

QUICK = (*NET, "--epochs", "1", "--batch-size", "16", "--quiet")
LAYOUTS = ("flat", "train", "unlabeled", "shards")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same images without a class, by layout; and with classes."""
    root = tmp_path_factory.mktemp("images")
    labelled = write_images(root / "classes")
    specs = {"classes": f"folder:{labelled}"}
    for name, below in (("flat", "."), ("train", "train"), ("unlabeled", "unlabeled")):
        folder = root / name / below
        folder.mkdir(parents=True)
        for file in sorted(labelled.rglob("*.png")):
            shutil.copy(file, folder / f"{file.parent.name}-{file.name}")
        specs[name] = f"folder:{root / name}"
    assert main(["data", "shard", specs["flat"], str(root / "shards"), "--quiet"]) == 0
    return {**specs, "shards": f"shards:{root / 'shards'}"}


@pytest.fixture(scope="module")
def run(places: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    assert main(["pretrain", *QUICK, "--data", places["flat"], "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_every_layout_gives_the_same_net(layout: str, places: dict[str, str], run: Path, tmp_path: Path) -> None:
    assert main(["pretrain", *QUICK, "--data", places[layout], "--out", str(tmp_path / "run")]) == 0
    same = equal(weights(tmp_path / "run"), weights(run))
    assert same is (layout != "shards"), "shards are gone through in an order of their own"


def test_it_is_finetuned_on_labels_from_elsewhere(places: dict[str, str], run: Path, tmp_path: Path) -> None:
    words = ["--run", str(run), "--data", places["classes"], "--labels", "12", "--min-steps", "1", "--epochs", "1"]
    assert main(["finetune", *words, "--out", str(tmp_path / "tuned"), "--quiet"]) == 0
    assert weights(tmp_path / "tuned")["8.weight"].shape[0] == 3, "a class each"
    assert main(["evaluate", "--run", str(run), "--data", places["classes"], "--knn", "--quiet"]) == 0


def test_features_and_an_export(places: dict[str, str], run: Path, tmp_path: Path) -> None:
    assert main(["embed", "--run", str(run), "--out", str(tmp_path / "x.npz"), "--quiet"]) == 0
    found = np.load(tmp_path / "x.npz")
    assert (len(found["features"]), set(found["labels"].tolist()), set(found["parts"])) == (36, {-1}, {"train"})
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert "Classes" not in (tmp_path / "out" / "README.md").read_text()


def test_check(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    for layout in LAYOUTS:
        assert main(["data", "check", places[layout]]) == 0
        assert [line.split()[:4] for line in capsys.readouterr().out.splitlines() if line.startswith("train")] == [
            ["train", "36", "36", "0"]
        ]


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--run", "{run}", "--knn"],
        ["finetune", "--run", "{run}", "--labels", "3"],
        ["study", "--data", "{flat}", "--out", "{new}"],
        ["study", "--data", "{flat}", "--out", "{new}", "--minutes", "1"],
        ["study", "--data", "{shards}", "--out", "{new}"],
    ],
)
def test_what_needs_classes_says_so(
    words: list[str], places: dict[str, str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [word.format(**places, run=run, new=tmp_path / "new") for word in words]
    said = fails(capsys, 1, *filled)
    assert "holds 36 images and no class, which is enough for pretrain and embed alone: put images into one" in said


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--run", "{run}", "--knn"],
        ["finetune", "--run", "{run}", "--labels", "3"],
        ["study", "--out", "{new}"],
        ["study", "--out", "{new}", "--minutes", "1"],
    ],
)
def test_a_single_class_is_enough_for_what_reads_no_label(
    words: list[str], places: dict[str, str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "high").mkdir()
    (tmp_path / "high" / "photos").symlink_to(places["classes"].removeprefix("folder:"))
    high = f"folder:{tmp_path / 'high'}"
    filled = [word.format(run=run, new=tmp_path / "new") for word in words]
    said = fails(capsys, 1, *filled, "--data", high)
    assert f"{high} has a single class, 'photos', and a classifier needs two: PATH may be one level too high" in said
    assert main(["embed", "--run", str(run), "--data", high, "--out", str(tmp_path / "x.npz"), "--quiet"]) == 0
    assert main(["pretrain", *QUICK, "--data", high, "--out", str(tmp_path / "run")]) == 0


def test_from_python(places: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="holds 36 images and no class"):
        load(places["flat"])
    found = load(places["flat"], image_size=12, labelled=False)
    assert (found.classes, len(found.train), len(found.test), found.val) == ((), 36, 0, None)
    assert found.test.images.shape == (0, 3, 12, 12)
