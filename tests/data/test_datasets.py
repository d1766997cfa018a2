"""Data sets: the embedded digits, folders of every layout, and what is wrong with them."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fasthebb.console import Console
from fasthebb.data import ImageSet, load


def paint(path: Path, colour: int = 0, side: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (colour, colour, colour)).save(path)
    return path


def fill(root: Path, classes: str, count: int, first: int = 0) -> None:
    for name in classes:
        for number in range(first, first + count):
            paint(root / name / f"{number:03}.png", number)


def test_digits() -> None:
    data = load("digits")
    assert data.classes == tuple("0123456789")
    assert data.train.images.shape == (1437, 3, 32, 32)
    assert data.test.images.shape == (360, 3, 32, 32)
    assert (data.val, data.skipped, data.name) == (None, 0, "digits")
    assert data.train.images.max() == 255
    assert torch.equal(data.train.images[:, 0], data.train.images[:, 2])
    assert torch.bincount(data.test.labels).float().std() < 1.5
    again = load("digits", image_size=8, channels=1)
    assert torch.equal(again.test.labels, data.test.labels)
    assert again.train.images.shape == (1437, 1, 8, 8)
    assert len(again.train.images.unique()) == 17
    assert load("digits", image_size=4).train.images.shape[-1] == 4


def test_image_set() -> None:
    images = ImageSet(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, -1, 1]), ("a", "b", "c"))
    part = images.subset([2, 0])
    assert len(part) == 2
    assert part.labels.tolist() == [1, 0]
    assert part.paths == ("c", "a")
    with pytest.raises(ValueError, match=r"images are torch.float32 \[3, 1, 2, 2\]: give uint8"):
        ImageSet(images.images.float(), images.labels)
    with pytest.raises(ValueError, match=r"labels are torch.int64 \[2\]: give int64 \[3\]"):
        ImageSet(images.images, images.labels[:2])
    with pytest.raises(ValueError, match="1 paths for 3 images"):
        ImageSet(images.images, images.labels, ("a",))


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


def test_images_may_lie_deeper(tmp_path: Path) -> None:
    for part in ("train", "test"):
        paint(tmp_path / part / "n01" / "images" / "x.JPEG")
        paint(tmp_path / part / "n02" / "images" / "y.JPEG")
    data = load(f"folder:{tmp_path}")
    assert data.train.paths == ("train/n01/images/x.JPEG", "train/n02/images/y.JPEG")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "ship"):
        fill(tmp_path / name, "", 0)
        paint(tmp_path / name / "1.png")
        paint(tmp_path / name / "2.png")
    assert load(f"folder:{tmp_path}").classes == ("ship", "train")


def test_small_classes_keep_a_training_image(tmp_path: Path) -> None:
    fill(tmp_path, "a", 1)
    fill(tmp_path, "b", 2)
    data = load(f"folder:{tmp_path}")
    assert data.train.labels.tolist() == [0, 1]
    assert data.test.labels.tolist() == [1]


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


def test_progress_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("fasthebb.console.FIRST_LINE", 0.0)
    monkeypatch.setattr("fasthebb.console.EVERY", 0.0)
    fill(tmp_path, "a", 5)
    load(f"folder:{tmp_path}", console=Console())
    assert "reading images: 4/4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "data set 'digit' is unknown: there is digits, folder:PATH; did you mean digits?"),
        ("fodler:x", "data set 'fodler:x' is unknown: there is digits, folder:PATH; did you mean folder:PATH?"),
        ("folder", "data set 'folder' is unknown: there is digits, folder:PATH; did you mean folder:PATH?"),
        ("folder:", "data set 'folder:' is unknown: there is digits, folder:PATH; did you mean folder:PATH?"),
        ("imagenet", "data set 'imagenet' is unknown: there is digits, folder:PATH"),
        ("", "data set '' is unknown: there is digits, folder:PATH"),
    ],
)
def test_unknown_data_sets(spec: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        load(spec)
    assert str(error.value) == message


def test_a_bare_path_is_pointed_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"did you mean folder:{tmp_path}?"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image size 0 must be at least 1"),
        ({"channels": 2}, "2 channels: images have 1"),
        ({"max_bad": 10.0}, "max bad 10.0 is a fraction"),
    ],
)
def test_bad_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("digits", **options)  # type: ignore[arg-type]


def refused(root: Path) -> str:
    with pytest.raises(ValueError) as error:
        load(f"folder:{root}")
    message = str(error.value)
    assert message.startswith(f"folder:{root}")
    assert "\n" not in message
    return message


def test_folders_that_hold_no_data_set(tmp_path: Path) -> None:
    assert "none is missing: check the path" in refused(tmp_path / "none")
    (tmp_path / "file").write_text("")
    assert "file is not a folder: check the path" in refused(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert f"empty holds no images: put them into {tmp_path / 'empty' / 'CLASS'}/ (bmp, gif, jpeg" in refused(
        tmp_path / "empty"
    )
    (tmp_path / "hollow" / "cat").mkdir(parents=True)
    assert "hollow holds no images" in refused(tmp_path / "hollow")
    paint(tmp_path / "loose" / "a.png")
    assert "loose holds 1 images but no class sub-folders: put them into one folder per class" in refused(
        tmp_path / "loose"
    )


def test_parts_that_do_not_fit(tmp_path: Path) -> None:
    fill(tmp_path / "apart" / "train", "abc", 1)
    fill(tmp_path / "apart" / "test", "abd", 1)
    assert "only one of train/ and test/ has images of c, d: make them agree" in refused(tmp_path / "apart")
    fill(tmp_path / "many" / "train", "abcdefg", 1)
    fill(tmp_path / "many" / "val", "a", 1)
    assert "val/ has images of b, c, d, e, f and 1 more: make them agree" in refused(tmp_path / "many")
    fill(tmp_path / "alone" / "test", "ab", 2)
    assert "alone has test/ but no train/: put the training images into" in refused(tmp_path / "alone")
    fill(tmp_path / "mixed", "ab", 2)
    fill(tmp_path / "mixed" / "val", "ab", 2)
    assert "mixed has val/ but no train/" in refused(tmp_path / "mixed")
    for part in ("train", "test"):
        paint(tmp_path / "flat" / part / "1.png")
    assert "train holds 1 images but no class sub-folders" in refused(tmp_path / "flat")
    fill(tmp_path / "single", "ab", 1)
    assert "one image in each class, none to test on" in refused(tmp_path / "single")


def test_other_folders_beside_the_parts_do_not_count(tmp_path: Path) -> None:
    fill(tmp_path / "train", "ab", 5)
    fill(tmp_path / "extra", "c", 2)
    data = load(f"folder:{tmp_path}")
    assert data.classes == ("a", "b")
