"""Which files of a folder are images, of which class and part."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from painted import fill, paint

from fasthebb.data.folders import list_files, list_images, list_unlabelled, survey
from fasthebb.data.listing import Listing


def named(listing: Listing, part: str) -> dict[str, int]:
    return {item.name: item.label for item in listing.parts[part]}


def list_(root: Path) -> Listing:
    return list_files(f"folder:{root}", root)


def refused(root: Path) -> str:
    with pytest.raises(ValueError) as error:
        list_(root)
    message = str(error.value)
    assert message.startswith(f"folder:{root}")
    assert "\n" not in message
    return message


def test_images_may_lie_deeper(tmp_path: Path) -> None:
    for part in ("train", "test"):
        paint(tmp_path / part / "n01" / "images" / "x.JPEG")
        paint(tmp_path / part / "n02" / "images" / "y.JPEG")
    found = list_(tmp_path)
    assert found.classes == ("n01", "n02")
    assert named(found, "train") == {"train/n01/images/x.JPEG": 0, "train/n02/images/y.JPEG": 1}
    (item, _) = found.parts["test"]
    assert item == ("test/n01/images/x.JPEG", 0, str(tmp_path / "test" / "n01" / "images" / "x.JPEG"), 0, -1)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "ship"):
        paint(tmp_path / name / "1.png")
        paint(tmp_path / name / "2.png")
    assert list_(tmp_path).classes == ("ship", "train")


def test_small_classes_keep_a_training_image(tmp_path: Path) -> None:
    fill(fill(tmp_path, "a", 1), "b", 2)
    found = list_(tmp_path)
    assert list(named(found, "train").values()) == [0, 1]
    assert list(named(found, "test").values()) == [1]


def test_hidden_files_and_other_kinds_do_not_count(tmp_path: Path) -> None:
    fill(tmp_path, "a", 3)
    for name in (".cache/x.png", "a/.thumbs/x.png", "a/.x.png"):
        paint(tmp_path / name)
    for name in ("notes.txt", "png", "x.png.part"):
        (tmp_path / "a" / name).write_text("")
    (tmp_path / "a" / "folder.png").mkdir()
    assert [item.name for item in list_images(tmp_path)] == ["a/000.png", "a/001.png", "a/002.png"]


def test_links_to_files_and_class_folders_are_followed(tmp_path: Path) -> None:
    fill(tmp_path / "real", "ab", 3)
    root = tmp_path / "linked"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "real" / "a")
    (root / "b").mkdir()
    (root / "b" / "x.png").symlink_to(tmp_path / "real" / "b" / "000.png")
    (root / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "b" / "around").symlink_to(root)
    found = list_(root)
    assert sorted({**named(found, "train"), **named(found, "test")}) == [
        "a/000.png", "a/001.png", "a/002.png", "b/x.png",
    ]  # fmt: skip


@pytest.mark.parametrize("place", ["x.png", "unlabeled/x.png", "unlabelled/deep/x.png"])
def test_images_without_a_class_are_unlabelled(tmp_path: Path, place: str) -> None:
    paint(fill(tmp_path / "classes", "ab", 5) / place)
    found = list_(tmp_path / "classes")
    assert found.classes == ("a", "b")
    assert named(found, "train")[place] == -1
    assert list(named(found, "train").values()).count(-1) == 1
    assert list(named(found, "train")) == sorted(named(found, "train"))
    assert -1 not in named(found, "test").values()


def test_unlabelled_images_beside_parts(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        fill(tmp_path / part, "ab", 2)
    for name in ("train/x.png", "train/unlabeled/x.png", "unlabelled/1/x.png", "picture.png", "test/x.png"):
        paint(tmp_path / name)
    found = list_(tmp_path)
    loose = {name for name, label in named(found, "train").items() if label == -1}
    assert loose == {"train/x.png", "train/unlabeled/x.png", "unlabelled/1/x.png"}
    assert len(named(found, "test")) == len(named(found, "val")) == 4


def test_a_folder_as_unlabelled_images(tmp_path: Path) -> None:
    paint(tmp_path / "loose" / "x.png")
    fill(tmp_path / "classes", "ab", 2)
    paint(tmp_path / "classes" / "test" / "no part.png")
    for part in ("train", "val", "test", "unlabeled"):
        fill(tmp_path / "parts" / part, "a", 1)
    names = {
        folder.name: [item.name for item in list_unlabelled("folder:x", folder) if item.label == -1]
        for folder in tmp_path.iterdir()
    }
    assert names["loose"] == ["x.png"]
    assert names["classes"] == ["a/000.png", "a/001.png", "b/000.png", "b/001.png", "test/no part.png"]
    assert names["parts"] == ["train/a/000.png", "unlabeled/a/000.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^folder:x: .*empty holds no images: name a folder of images \(bmp"):
        list_unlabelled("folder:x", tmp_path / "empty")


def test_unicode_undecodable_and_very_long_names(tmp_path: Path) -> None:
    names = ["ünï/😀.png", f"{'d' * 200}/{'e' * 200}/{'f' * 200}/{'g' * 240}.png", "two\nlines/x.png"]
    for name in names:
        paint(tmp_path / name)
    raw = os.fsencode(tmp_path) + b"/\xff\xfe"
    Path(os.fsdecode(raw)).mkdir()
    paint(Path(os.fsdecode(raw + b"/\xfd.png")))
    items = list_images(tmp_path)
    assert [item.name for item in items] == sorted([*names, r"\udcff\udcfe/\udcfd.png"])
    assert all(item.name.encode() and Path(item.path).is_file() for item in items)


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a", 2)

    def scandir(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "a cannot be read (Permission denied): check its permissions" in refused(tmp_path)
    with pytest.raises(ValueError, match="cannot be read"):
        list_images(tmp_path)


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
    alone = list_files("folder:loose", tmp_path / "loose")
    assert (alone.classes, [item.name for item in alone.parts["train"]], list(alone.parts)) == (
        (),
        ["a.png"],
        ["train"],
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
    said = refused(tmp_path / "flat")
    assert "train holds 1 images but no class sub-folders: put them into one folder per class" in said
    assert said.endswith(f"or name {tmp_path / 'flat' / 'train'} alone to train without classes")
    fill(tmp_path / "half" / "train", "ab", 1)
    paint(tmp_path / "half" / "test" / "1.png")
    assert "test holds 1 images but no class sub-folders" in refused(tmp_path / "half")
    fill(tmp_path / "single", "ab", 1)
    assert "one image in each class, none to test on" in refused(tmp_path / "single")


def test_other_folders_beside_the_parts_do_not_count(tmp_path: Path) -> None:
    fill(tmp_path / "train", "ab", 5)
    fill(tmp_path / "extra", "c", 2)
    with pytest.warns(UserWarning, match="extra/ beside train/ is not read"):
        assert list_(tmp_path).classes == ("a", "b")


def test_a_survey_names_the_classes_that_differ(tmp_path: Path) -> None:
    fill(tmp_path / "train", "abc", 2)
    fill(tmp_path / "val", "abc", 1)
    fill(tmp_path / "test", "abd", 1)
    found, differences, slips = survey(f"folder:{tmp_path}", tmp_path)
    assert slips == []
    assert differences == ["only one of train/ and test/ has images of c, d"]
    assert found.classes == ("a", "b", "c", "d")
    assert list(named(found, "test").values()) == [0, 1, 3]
