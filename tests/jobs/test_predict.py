"""`predict`: the classes of a folder of images by a run folder alone, as CSV that any reader can take."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import COLOURS, NET, QUIET, fails, write_images

from fasthebb.cli import main
from fasthebb.data import Loader, decode_image
from fasthebb.data.whitening import Whitening
from fasthebb.jobs import images
from fasthebb.jobs.trained import read_net

TESTS = Path(__file__).parent.parent  # where the module of the small net is found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whitened run, its fine-tuning, and nothing of the images that they saw."""
    root = tmp_path_factory.mktemp("made")
    data = write_images(root / "images", each=20)
    start = (*NET, "--data", f"folder:{data}", "--epochs", "2", "--batch-size", "16", "--whiten")
    assert main(["pretrain", *start, "--out", f"{root / 'run'}", "--quiet"]) == 0
    tune = ("--labels", "100%", "--epochs", "40", "--min-steps", "1", "--batch-size", "16", "--lr", "0.01")
    assert main(["finetune", "--run", f"{root / 'run'}", *tune, "--out", f"{root / 'tuned'}", "--quiet"]) == 0
    shutil.rmtree(data)
    return root


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """New images, some below folders of odd names."""
    folder = write_images(tmp_path / "new", each=2)
    (folder / "red").rename(folder / 'a, "b" ü')
    return folder


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def predict(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[list[dict[str, str]], str]:
    """The rows on stdout and what is on stderr."""
    capsys.readouterr()
    assert main(["predict", *map(str, words)]) == 0
    said = capsys.readouterr()
    return rows(said.out), said.err


def test_it_is_the_softmax_of_the_nets_scores(
    made: Path, strange: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made / "tuned", tmp_path / "alone")
    monkeypatch.setattr(images, "CHUNK", 4)
    found, _ = predict(capsys, "--run", tmp_path / "alone", strange)
    net, model = read_net(made / "tuned", QUIET)
    mean, std = (torch.tensor(values)[:, None, None] for values in (net.mean, net.std))
    whiten = Whitening.load(made / "tuned" / "whitening.safetensors")
    assert [row["path"] for row in found] == sorted(p.relative_to(strange).as_posix() for p in strange.rglob("*.png"))
    for row in found:
        pixels = torch.from_numpy(decode_image(strange / row["path"], net.image_size, 3).copy())[None] / 255
        with torch.no_grad():
            share = model.eval()(whiten((pixels - mean) / std)).double().softmax(1)[0]
        assert row["class"] == net.classes[int(share.argmax())]
        assert float(row["confidence"]) == pytest.approx(float(share.max()), abs=2e-5)


def test_the_classes_are_mostly_right(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = predict(capsys, "--run", made / "tuned", write_images(tmp_path / "known", each=20))
    assert sum(row["path"].startswith(row["class"]) for row in found) > 0.8 * len(found)


def test_a_file_holds_what_stdout_would(made: Path, strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = predict(capsys, "--run", made / "tuned", "--images", strange, "--top", "9")
    assert [row["rank"] for row in found[:3]] == ["1", "2", "3"]
    assert {row["class"] for row in found[:3]} == set(COLOURS)
    assert sum(float(row["confidence"]) for row in found[:3]) == pytest.approx(1, abs=1e-5)
    out = strange.parent / "out.csv"
    assert predict(capsys, "--run", made / "tuned", strange, "--top", "9", "--out", out, "--quiet") == ([], "")
    assert rows(out.read_text(encoding="utf-8")) == found


def test_one_file_will_do(made: Path, strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,), _ = predict(capsys, "--run", made / "tuned", strange / "blue" / "002.png")
    assert row["path"] == "002.png"


def test_a_name_that_is_not_utf8(made: Path, strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (strange / "blue" / "002.png").rename(strange / os.fsdecode(b"\xff.png"))
    found, _ = predict(capsys, "--run", made / "tuned", strange)
    assert "\\udcff.png" in {row["path"] for row in found}


def test_unreadable_images_are_skipped(made: Path, strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        (strange / name).write_bytes(b"no image")
    found, err = predict(capsys, "--run", made / "tuned", strange)
    assert len(found) == 6
    assert (
        err
        == f"warning: {strange}: 2 of 8 image files cannot be read, first a.png (no image of a known kind): skipped\n"
    )
    for path in strange.rglob("*.png"):
        path.write_bytes(b"")
    capsys.readouterr()
    assert main(["predict", "--run", str(made / "tuned"), str(strange)]) == 1
    out, err = capsys.readouterr()
    assert "8 of 8 image files cannot be read" in err
    assert out == "", "no header of a table that does not follow"


BAD: dict[str, tuple[int, tuple[str, ...], str]] = {
    "no classifier": (1, ("--run", "{made}/run", "{new}"), "run holds no classifier: give the run of a finetune"),
    "no images": (1, ("--run", "{made}/tuned", "{empty}"), "holds no images"),
    "no folder": (1, ("--run", "{made}/tuned", "{empty}/x"), "x is missing"),
    "two folders": (2, ("--run", "{made}/tuned", "{new}", "{new}"), "is one word too many"),
    "none": (2, ("--run", "{made}/tuned"), "needs --images"),
    "top": (2, ("--run", "{made}/tuned", "{new}", "--top", "0"), "--top 0: give 1 or more"),
    "out": (2, ("--run", "{made}/tuned", "{new}", "--out", "{new}/x/y.csv"), "name a file in a folder that is there"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, made: Path, strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (strange.parent / "empty").mkdir()
    code, words, wanted = BAD[name]
    places: dict[str, Any] = {"made": made, "new": strange, "empty": strange.parent / "empty"}
    assert wanted in fails(capsys, code, "predict", *(word.format(**places) for word in words))


def test_a_reader_may_stop_early(made: Path, strange: Path) -> None:
    words = [sys.executable, "-m", "fasthebb", "predict", "--run", str(made / "tuned"), str(strange)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TESTS) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_no_more_than_a_chunk_is_decoded_at_once(
    made: Path, strange: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes: list[int] = []
    plain = Loader.__init__

    def noted(self: Loader, found: Any, *words: Any, **more: Any) -> None:
        sizes.append(len(found))
        plain(self, found, *words, **more)

    monkeypatch.setattr(images, "CHUNK", 4)
    monkeypatch.setattr(Loader, "__init__", noted)
    predict(capsys, "--run", made / "tuned", strange)
    assert sizes == [4, 2]


def test_json_holds_the_rows(made: Path, strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = predict(capsys, "--run", made / "tuned", strange)
    capsys.readouterr()
    assert main(["predict", "--run", f"{made / 'tuned'}", str(strange), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["images"] == 6
    assert [{**row, "confidence": str(row["confidence"])} for row in document["predictions"]] == [
        {**row, "rank": 1} for row in found
    ]
