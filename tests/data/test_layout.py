"""Slips in the layout of a folder are told; links to folders lead to the images of a folder without classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from painted import fill, paint

from fasthebb.data.check import check
from fasthebb.data.folders import list_files, list_images, list_unlabelled, survey


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["a/0.png", "Unlabeled/1.png"], ["Unlabeled/ is taken for a class: if it is not, call it unlabeled/"]),
        (["train/a/0.png", "train/b/0.png", "train/UNLABELLED/1.png"],
         ["train/UNLABELLED/ is taken for a class: if it is not, call it unlabelled/"]),
        (["Train/a/0.png", "Test/a/1.png"],
         ["Test/ is taken for a class: if it is not, call it test/",
          "Train/ is taken for a class: if it is not, call it train/"]),
        (["Train/0.png", "Ship/0.png"], []),
        (["train/0.png", "ship/0.png"], []),
        (["train/a/0.png", "Test/a/0.png"], ["Test/ beside train/ is not read, though it holds images: call it test/"]),
        (["train/a/0.png", "validation/a/0.png", "notes/readme.txt"],
         ["validation/ beside train/ is not read, though it holds images: parts are train/, val/, test/, unlabeled/"]),
        (["train/a/0.png", "1.png"], ["1 images beside train/ are not read: put them into unlabeled/ to train on them "
                                      "without a class"]),
        (["a/0.png", "a/1.HEIC", "a/2.heic", "b/x/3.avif", "a/x.txt", ".x/4.heic"],
         ["3 image files are of kinds that are not read (1 avif, 2 heic): convert them to png or jpg"]),
        (["train/a/0.png", "test/a/0.png", "test/a/1.jfif", "2.heif"],
         ["2 image files are of kinds that are not read (1 heif, 1 jfif): convert them to png or jpg"]),
    ],
)  # fmt: skip
def test_slips(files: Sequence[str], said: Sequence[str], tmp_path: Path) -> None:
    for number, name in enumerate(files):
        if name.endswith(".png"):
            paint(tmp_path / name, number)
            if "/" in name:
                paint(tmp_path / name.replace(".png", "-.png"), 100 + number)
        else:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")
    assert survey("folder:x", tmp_path).slips == said
    assert [line for line in check(f"folder:{tmp_path}").warnings() if "single class" not in line] == said
    if said:
        with pytest.warns(UserWarning, match=r"^folder:x: ") as warned:
            list_files("folder:x", tmp_path)
        assert [str(warning.message) for warning in warned] == [f"folder:x: {line}" for line in said]


@pytest.mark.parametrize("place", ["a/gone.png", "gone", "train/gone", "val", "train/a/loop.png"])
def test_links_that_lead_nowhere(place: str, tmp_path: Path) -> None:
    fill(tmp_path / "train" if "train" in place or place == "val" else tmp_path, "ab", 3)
    link = tmp_path / place
    link.symlink_to(link if "loop" in place else tmp_path / "no" / "where")
    (line,) = survey("folder:x", tmp_path).slips
    assert line == f"1 links lead nowhere, first {link}: mend or remove them"


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    fill(tmp_path / "real", "ab", 2)
    paint(root / "x.png")
    (tmp_path / "real" / "a" / "deeper").symlink_to(tmp_path / "real" / "b")
    for name, target in (("here", root), ("up", tmp_path), ("a", tmp_path / "real" / "a"), ("loop", root / "loop")):
        (root / name).symlink_to(target)
    names = ["a/000.png", "a/001.png", "x.png"]
    assert [item.name for item in list_images(root)] == names
    assert [item.name for item in list_unlabelled("folder:x", root)] == names


def test_a_folder_beside_the_parts_need_not_be_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "train", "ab", 3)
    lost = tmp_path / "lost+found"
    lost.mkdir()
    scandir = os.scandir

    def closed(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path) == str(lost):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert survey("folder:x", tmp_path).slips == []
