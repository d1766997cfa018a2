"""Data sets: from files or arrays, of any size and channels, with unlabelled images of another set."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from painted import fill, paint
from PIL import Image

from fasthebb.console import Console
from fasthebb.data import load, named
from fasthebb.data.check import check
from fasthebb.data.listing import Arrays, Listing
from fasthebb.data.named import NAMES


def test_digits() -> None:
    data = load("digits")
    assert data.classes == tuple("0123456789")
    assert data.train.images.shape == (1437, 1, 32, 32)
    assert data.test.images.shape == (360, 1, 32, 32)
    assert (data.val, data.skipped, data.name) == (None, 0, "digits")
    assert data.train.images.max() == 255
    colour = load("digits", channels=3).train.images
    assert torch.equal(colour, data.train.images.expand(-1, 3, -1, -1))
    assert torch.bincount(data.test.labels).float().std() < 1.5
    again = load("digits", image_size=8)
    assert torch.equal(again.test.labels, data.test.labels)
    assert again.train.images.shape == (1437, 1, 8, 8)
    assert len(again.train.images.unique()) == 17
    assert load("digits", image_size=4).train.images.shape[-1] == 4


def test_a_folder_of_classes_holds_out_a_fixed_fifth(tmp_path: Path) -> None:
    fill(tmp_path, "ba", 10)
    (tmp_path / ".cache").mkdir()
    paint(tmp_path / "a" / ".thumbs" / "x.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "docs").mkdir()
    data = load(f"folder:{tmp_path}", image_size=4, channels=1)
    assert data.classes == ("a", "b")
    assert data.train.labels.tolist() == [0] * 8 + [1] * 8
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert sorted(data.train.paths + data.test.paths) == [f"{c}/{i:03}.png" for c in "ab" for i in range(10)]
    assert list(data.train.paths) == sorted(data.train.paths)
    for part in (data.train, data.test):
        assert [int(Path(path).stem) for path in part.paths] == part.images[:, 0, 0, 0].tolist()
    assert load(f"folder:{tmp_path}", image_size=4).test.paths == data.test.paths


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("train", "val"), ("train", "test"), ("train",)])
def test_a_folder_with_parts(tmp_path: Path, parts: tuple[str, ...]) -> None:
    for number, part in enumerate(parts):
        fill(tmp_path / part, "ab", 5, first=10 * number)
    data = load(f"folder:{tmp_path.name}", image_size=4, data_dir=tmp_path.parent)
    held_out = "test" not in parts
    assert len(data.train) == (8 if held_out else 10)
    assert len(data.test) == (2 if held_out else 10)
    assert {Path(path).parts[0] for path in data.test.paths} == {"train" if held_out else "test"}
    assert (data.val is not None) == ("val" in parts)
    if data.val is not None:
        assert {Path(path).parts[0] for path in data.val.paths} == {"val"}
        assert data.val.labels.tolist() == [0] * 5 + [1] * 5


def test_unreadable_files_are_skipped_and_counted(tmp_path: Path) -> None:
    fill(tmp_path, "ab", 10)
    (tmp_path / "a" / "000.png").write_bytes(b"not an image")
    whole = (tmp_path / "b" / "001.png").read_bytes()
    (tmp_path / "b" / "001.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "b" / "nan.tif")
    with pytest.warns(
        UserWarning, match=r"3 of 21 image files cannot be read, first .*\.png \(.*\): skipped$"
    ) as caught:
        data = load(f"folder:{tmp_path}", max_bad=0.15)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert data.skipped == 3
    assert len(data.train) + len(data.test) == 18
    assert len(data.train.paths) == len(data.train)
    assert not {"a/000.png", "b/001.png", "b/nan.tif"} & set(data.train.paths + data.test.paths)
    with pytest.raises(
        ValueError, match=r"3 of 21 image files cannot be read, first .* allow more than 0.1 with"
    ) as error:
        load(f"folder:{tmp_path}")
    assert "\n" not in str(error.value)


def test_exactly_max_bad_passes(tmp_path: Path) -> None:
    fill(tmp_path, "ab", 5)
    (tmp_path / "a" / "000.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 10"):
        assert load(f"folder:{tmp_path}", max_bad=0.1).skipped == 1


def test_a_part_without_a_readable_image(tmp_path: Path) -> None:
    fill(tmp_path / "train", "a", 5)
    (tmp_path / "test" / "a").mkdir(parents=True)
    (tmp_path / "test" / "a" / "1.png").write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="no image of the test part can be read"):
            load(f"folder:{tmp_path}", max_bad=0.5)


def test_a_class_without_a_readable_image_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "train", "abc", 4)
    fill(tmp_path / "test", "abc", 4, first=10)
    for file in (tmp_path / "train" / "b").iterdir():
        file.write_bytes(b"")
    lost = "no image of class 'b' of train can be read: mend or replace its files, or leave the class out"
    with pytest.warns(UserWarning, match="4 of 24 image files|no image of class") as warned:
        load(f"folder:{tmp_path}", max_bad=0.5)
    assert [str(warning.message) for warning in warned][1:] == [f"folder:{tmp_path}: {lost}"]
    assert [line for line in check(f"folder:{tmp_path}").warnings() if "class" in line] == [lost]


def test_progress_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("fasthebb.console.FIRST_LINE", 0.0)
    monkeypatch.setattr("fasthebb.console.EVERY", 0.0)
    fill(tmp_path, "a", 5)
    load(f"folder:{tmp_path}", console=Console())
    assert "reading images: 4/4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "data set 'digit' is unknown: there is KNOWN; did you mean digits?"),
        ("fodler:x", "data set 'fodler:x' is unknown: there is KNOWN; did you mean folder:PATH?"),
        ("folder", "data set 'folder' is unknown: there is KNOWN; did you mean folder:PATH?"),
        ("folder:", "data set 'folder:' is unknown: there is KNOWN; did you mean folder:PATH?"),
        ("cifar", "data set 'cifar' is unknown: there is KNOWN; did you mean cifar10?"),
        ("zzz", "data set 'zzz' is unknown: there is KNOWN"),
        ("", "data set '' is unknown: there is KNOWN"),
    ],
)
def test_unknown_data_sets(spec: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        load(spec)
    assert str(error.value) == message.replace("KNOWN", ", ".join(("digits", "folder:PATH", "shards:PATH", *NAMES)))


def test_a_bare_path_is_pointed_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"did you mean folder:{tmp_path}?"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image size 0 must be at least 1"),
        ({"channels": 2}, "2 channels: images have 1"),
        ({"resize": "zoom"}, "resize 'zoom' is unknown: choose from crop, stretch, pad"),
        ({"max_bad": 10.0}, "max bad 10.0 is a fraction"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("digits", **options)


def found(monkeypatch: pytest.MonkeyPatch, source: Arrays | Listing) -> list[tuple[Any, ...]]:
    """Let every named set be `source`; returns what the finder is asked."""
    asked: list[tuple[Any, ...]] = []

    def find(name: str, folders: Sequence[Path], *, download: bool, console: Console) -> Arrays | Listing:
        asked.append((name, list(folders), download))
        return source

    monkeypatch.setattr(named, "find", find)
    return asked


def arrays(depth: int = 1, side: int = 6) -> Arrays:
    pixels = np.arange(5 * depth * side * side, dtype=np.uint8).reshape(5, depth, side, side)
    labels = np.array([0, 1, -1, 1, 0])
    for array in (pixels, labels):
        array.flags.writeable = False
    return Arrays(("zero", "one"), {"train": (pixels, labels), "test": (pixels[:2], labels[:2])})


def test_a_named_set_of_arrays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = found(monkeypatch, arrays())
    data = load("mnist", image_size=6)
    assert (data.classes, data.train.labels.tolist(), data.train.paths) == (("zero", "one"), [0, 1, -1, 1, 0], ())
    assert np.array_equal(data.train.images.numpy(), arrays().parts["train"][0])
    assert data.test.images.shape == (2, 1, 6, 6)
    data.train.images.fill_(1)
    assert load("cifar10", image_size=3, data_dir=tmp_path, download=True).train.images.shape == (5, 3, 3, 3)
    assert asked == [
        ("mnist", [Path("data"), Path("/usr/share/datasets")], False),
        ("cifar10", [tmp_path], True),
    ]


def test_unlabelled_images_of_another_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "b", "xy", 5)
    fill(tmp_path / "a", "pq", 2, first=100)
    paint(tmp_path / "loose" / "1.png", 200)
    (tmp_path / "loose" / "2.png").write_bytes(b"")
    plain = load(f"folder:{tmp_path / 'b'}", image_size=6)
    more = load("folder:b", unlabeled="folder:a", data_dir=tmp_path, image_size=6)
    assert (more.classes, more.test.paths) == (("x", "y"), plain.test.paths)
    assert torch.equal(more.train.images[:8], plain.train.images)
    assert more.train.labels.tolist() == [*plain.train.labels.tolist(), -1, -1, -1, -1]
    assert more.train.paths[8:] == ("p/100.png", "p/101.png", "q/100.png", "q/101.png")
    with pytest.warns(UserWarning, match="1 of 12 image files cannot be read"):
        loose = load("folder:b", unlabeled="folder:loose", data_dir=tmp_path, image_size=6)
    assert loose.train.images[8:].unique().tolist() == [200]
    found(monkeypatch, arrays())
    mixed = load("folder:b", unlabeled="mnist", data_dir=tmp_path, image_size=6)
    assert mixed.train.labels.tolist() == [0] * 4 + [1] * 4 + [-1] * 5
    assert mixed.train.paths == (*plain.train.paths, *[""] * 5)
    other = load("mnist", unlabeled="folder:b", data_dir=tmp_path, image_size=6)
    assert other.train.images.shape == (15, 1, 6, 6)
    assert other.train.labels.tolist() == [0, 1, -1, 1, 0] + [-1] * 10
    assert load("mnist", unlabeled="digits", image_size=6).train.paths == ()


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    for name in NAMES:
        with pytest.raises(ValueError, match=f"^{name}"):
            load(name, data_dir=tmp_path)
