"""What `data check` finds: counts, sizes, unreadable files, duplicates, classes that differ."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from painted import fill, paint
from PIL import Image

from fasthebb.console import Console
from fasthebb.data import named
from fasthebb.data.check import COLUMNS, check
from fasthebb.data.listing import Arrays


def test_a_folder_of_every_trouble(tmp_path: Path) -> None:
    fill(tmp_path / "train", "ab", 5)
    fill(tmp_path / "test", "ac", 2, first=10)
    paint(tmp_path / "train" / "a" / "wide.bmp", 50).unlink()
    Image.new("L", (9, 3), 50).save(tmp_path / "train" / "a" / "wide.bmp")
    (tmp_path / "train" / "a" / "copy.png").write_bytes((tmp_path / "train" / "b" / "001.png").read_bytes())
    (tmp_path / "test" / "a" / "copy.png").write_bytes((tmp_path / "train" / "a" / "wide.bmp").read_bytes())
    (tmp_path / "test" / "a" / "bad.png").write_bytes(b"no image")
    paint(tmp_path / "train" / "loose.png", 77)
    report = check(f"folder:{tmp_path}")
    train, test = report.parts
    assert (train.name, train.images, train.unlabelled, train.per_class) == ("train", 13, 1, {"a": 7, "b": 5, "c": 0})
    assert (train.widths, train.heights, train.modes) == ((4, 4, 9), (3, 4, 4), {"L": 1, "RGB": 12})
    assert (train.unreadable, test.unreadable) == ((), ("test/a/bad.png (no image of a known kind)",))
    # a/000 to 004 equal b/000 to 004, and copy.png is one more of them
    assert (train.duplicates, test.duplicates) == (6, 2)
    (shared,) = report.shared
    assert (shared.parts, shared.count) == (("train", "test"), 1)
    assert shared.first == ("train/a/wide.bmp", "test/a/copy.png")
    assert report.differences == ("only one of train/ and test/ has images of b, c",)
    assert report.warnings() == [
        "only one of train/ and test/ has images of b, c",
        "1 of 6 images of test cannot be read, first test/a/bad.png (no image of a known kind)",
        "1 images are in train and test, first train/a/wide.bmp = test/a/copy.png",
    ]


def test_rows_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, "ab", 5)
    paint(tmp_path / "a" / "x.png", 9, side=8)
    report = check(f"folder:{tmp_path}")
    train, test = report.rows()
    assert len(train) == len(test) == len(COLUMNS)
    assert train[:-1] == ("train", "9", "0", "2", "4 to 5, 4.5 on average", "4x4 / 4x4 / 8x8", "9 RGB", "0")
    assert test[:4] == ("test", "2", "0", "2")
    Console().table(report.data, COLUMNS, report.rows())
    assert "4x4 / 4x4 / 8x8" in capsys.readouterr().out
    plain = json.loads(json.dumps(report.plain()))
    assert plain["data"] == f"folder:{tmp_path}"
    assert plain["parts"][0]["per_class"] == {"a": 5, "b": 4}
    assert plain["warnings"] == report.warnings()


def test_arrays_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 1, 4, 5), np.uint8)
    pixels[3] = pixels[1]
    labels = np.array([0, 1, 0, 1, 1, -1])
    arrays = Arrays(("zero", "one"), {"train": (pixels, labels), "test": (pixels[1:3], labels[1:3])})
    monkeypatch.setattr(named, "find", lambda *args, **more: arrays)
    report = check("mnist")
    train, test = report.parts
    assert (train.images, train.unlabelled, train.per_class) == (6, 1, {"zero": 2, "one": 3})
    assert (train.widths, train.heights, train.modes, train.duplicates) == ((5, 5, 5), (4, 4, 4), {"L": 6}, 1)
    assert test.per_class == {"zero": 1, "one": 1}
    assert report.warnings() == ["2 images are in train and test, first train[1] = test[0]"]
    assert json.dumps(report.plain())


def test_an_unlabelled_set_is_a_part_of_its_own(tmp_path: Path) -> None:
    fill(tmp_path / "a", "ab", 5)
    paint(tmp_path / "b" / "x.png", 0)
    paint(tmp_path / "b" / "y.png", 99)
    report = check(f"folder:{tmp_path / 'a'}", unlabeled=f"folder:{tmp_path / 'b'}")
    extra = report.parts[-1]
    assert (extra.name, extra.images, extra.unlabelled, extra.per_class) == ("unlabeled", 2, 2, {})
    assert ("train", "unlabeled") in [shared.parts for shared in report.shared]
    assert report.rows()[-1][3:5] == ("0", "–")


def test_a_labels_file_decides_the_classes(tmp_path: Path) -> None:
    for number in range(6):
        paint(tmp_path / f"{number}.png", number)
    (tmp_path / "labels.csv").write_text("path,label\n0.png,x\n1.png,x\n2.png,y\n3.png,y\n")
    report = check(f"folder:{tmp_path}", labels_file=tmp_path / "labels.csv")
    assert [(part.images, part.unlabelled, part.per_class) for part in report.parts] == [
        (4, 2, {"x": 1, "y": 1}),
        (2, 0, {"x": 1, "y": 1}),
    ]
    assert report.warnings() == []


def test_names_that_are_no_text_and_a_part_without_readable_images(tmp_path: Path) -> None:
    fill(tmp_path / "train", "a", 2)
    folder = tmp_path / "test" / "a"
    folder.mkdir(parents=True)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(b"")
    report = check(f"folder:{tmp_path}")
    lost, single, line = report.warnings()
    assert lost.startswith("no image of class 'a' of test can be read")
    assert single.endswith("has a single class, 'a', and a classifier needs two: PATH may be one level too high, or a "
                           "class is missing")  # fmt: skip
    assert line == r"1 of 1 images of test cannot be read, first test/a/\udcff.png (no image of a known kind)"
    assert line.encode()
    assert report.parts[1].widths == ()
    assert report.rows()[1][5:7] == ("–", "–")


def test_digits() -> None:
    report = check("digits")
    assert [(part.images, len(part.per_class), part.widths) for part in report.parts] == [
        (1437, 10, (8, 8, 8)),
        (360, 10, (8, 8, 8)),
    ]


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is missing: check the path"):
        check(f"folder:{tmp_path / 'none'}")
    with pytest.raises(ValueError, match="data set 'x' is unknown"):
        check("x")
