"""Shards that others wrote: labels, parts and damage as their files tell them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fasthebb.data import load
from fasthebb.data.decoded import stream_items
from fasthebb.data.shard_members import LARGEST
from fasthebb.data.shards import find_shards
from fasthebb.data.stream import missing


def png(colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (12, 12), (colour, 0, 0)).save(out, "PNG")
    return out.getvalue()


def pack(path: Path, members: dict[str, bytes], kind: int = tarfile.USTAR_FORMAT, **info: object) -> Path:
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in info.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_shards_of_others(kind: int, tmp_path: Path) -> None:
    long = "a/" + "long" * 20 + "/" + "name" * 9
    pack(tmp_path / "set-train-00.tar", {"0.png": png(0), "0.cls": b"1", "1.png": png(1), "1.cls": b"2"}, kind)
    pack(tmp_path / "set-train-01.tar", {"._0.png": b"", "b/0.json": b'{"label": 0}', "b/0.seg.png": png(7)}, kind,
         mtime=1.5)  # fmt: skip
    pack(tmp_path / "set-validation-00.tar", {f"{long}.jpg": png(9), f"{long}.cls": b"2\n", "z.txt": b"words"}, kind)
    found = find_shards("shards:x", tmp_path / "set-{train,validation}-{00..00}.tar")
    assert [item.name for item in found.parts["train"]] == ["set-train-00.tar/0.png", "set-train-00.tar/1.png"]
    assert [(item.name, item.label) for item in found.parts["test"]] == [(f"set-validation-00.tar/{long}.jpg", 2)]
    assert found.classes == ("0", "1", "2")
    dataset = load(f"shards:{tmp_path}/*.tar", image_size=12)
    assert dataset.train.labels.tolist() == [1, 2, 0]
    assert dataset.train.images[:, 0, 0, 0].tolist() == [0, 1, 7]
    assert dataset.test.images[0, 0, 0, 0] == 9


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("contest-000", "latest-train-0", "x-test-0"), {"train": 2, "test": 1}),
        (("carnival-00", "x-VAL-0"), {"train": 1, "test": 1}),
        (("train-0", "x_test"), {"train": 1, "test": 1}),
    ],
)
def test_parts_are_told_by_whole_words(names: Sequence[str], parts: dict[str, int], tmp_path: Path) -> None:
    for name in names:
        pack(tmp_path / f"{name}.tar", {"0.png": png(0), "0.cls": b"0"})
    found = find_shards("shards:x", tmp_path / "*.tar")
    assert {part: len(items) for part, items in found.parts.items()} == parts


def test_numbers_are_classes_and_minus_one_is_none(tmp_path: Path) -> None:
    said = {n: b"-1" if n == 0 else b"%d" % n for n in range(12)}
    pack(
        tmp_path / "train.tar",
        {f"{n}.{kind}": png(n) if kind == "png" else said[n] for n in said for kind in ("png", "cls")},
    )
    pack(tmp_path / "test.tar", {"0.depth.png": png(9), "0.png": png(3), "0.cls": b"3"})
    found = find_shards("shards:x", tmp_path / "*.tar")
    assert found.classes == tuple(map(str, range(12)))
    assert [item.label for item in found.parts["train"]] == [-1, *range(1, 12)]
    assert [(item.name, item.label) for item in found.parts["test"]] == [("test.tar/0.png", 3)]


@pytest.mark.parametrize(
    ("members", "classes", "label"),
    [
        ({"a.cls": b"7", "a.index": b"1"}, 8, 7),
        ({"a.index": b"1"}, 0, -1),
        ({"a.index": b"5", "a.json": b'{"label": 2}'}, 3, 2),
        ({"a.json": b'{"label": 3.0}'}, 4, 3),
        ({"a.json": b'{"label": -100}'}, 0, -1),
        ({"a.json": b'{"label": 1, "boxes": "' + b"x" * (2 << 20) + b'"}'}, 2, 1),
        ({"a.cls": b"-2"}, 0, -1),
        ({"a.cls": b"007"}, 8, 7),
    ],
)
def test_what_is_said_of_a_class(members: dict[str, bytes], classes: int, label: int, tmp_path: Path) -> None:
    pack(tmp_path / "train.tar", {"a.png": png(0), **members})
    pack(tmp_path / "test.tar", {"a.png": png(1)})
    found = find_shards("shards:x", tmp_path / "*.tar")
    assert (len(found.classes), found.parts["train"][0].label) == (classes, label)


def test_parts_may_be_told_by_folders(tmp_path: Path) -> None:
    for number, folder in enumerate(("train", "val")):
        (tmp_path / "wd" / folder).mkdir(parents=True)
        pack(tmp_path / "wd" / folder / "00000.tar", {"0.png": png(number), "0.cls": b"0"})
    found = find_shards("shards:x", tmp_path / "wd" / "{train,val}" / "*.tar")
    assert {part: [item.name for item in items] for part, items in found.parts.items()} == {
        "train": ["train/00000.tar/0.png"],
        "test": ["val/00000.tar/0.png"],
    }
    pack(tmp_path / "wd" / "val" / "00001.tar", {"0.png": png(0), "0.cls": b"0"})
    alone = find_shards("shards:x", tmp_path / "wd" / "val" / "*.tar")
    assert sorted(item.name for part in alone.parts.values() for item in part) == ["00000.tar/0.png", "00001.tar/0.png"]


def test_odd_members_cost_their_own_image(tmp_path: Path) -> None:
    members = {"a.png": png(0), "a.cls": b"\xff", "b.jpg": png(1), "b.png": png(2), "b.cls": b"0", "c.png": png(3)}
    pack(tmp_path / "train.tar", members)
    pack(tmp_path / "test.tar", {"a.png": png(4), "a.cls": b"0"})
    with pytest.warns(UserWarning, match=r"^shards:x: ") as warned:
        found = find_shards("shards:x", tmp_path / "*.tar")
    assert [(item.name, item.label) for item in found.parts["train"]] == [
        ("train.tar/a.png", -1), ("train.tar/b.jpg", 0), ("train.tar/c.png", -1),
    ]  # fmt: skip
    assert [str(warning.message) for warning in warned] == [
        "shards:x: several images have one key, train.tar/b, of which b.jpg is read: give each a key",
        f"shards:x: not UTF-8, so that its image has no label: {tmp_path}/train.tar/a.cls",
    ]


def test_a_file_cut_short_costs_its_own_images(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        pack(
            tmp_path / folder / "train-0.tar",
            {f"{n}.{k}": png(n) if k == "png" else b"0" for n in range(8) for k in ("png", "cls")},
        )
    items = list(find_shards("shards:x", tmp_path / "{a,b}" / "train-0.tar").parts["train"])
    broken = Path(items[-1].path)
    with broken.open("r+b") as file:
        file.truncate(sorted(item.offset for item in items if item.path == str(broken))[2])
    absent = missing(items)
    assert {items[number].path for number in absent} == {str(broken)}
    kept, said = stream_items(items, 8, 3, "crop", 1.0)
    assert len(kept) == len(items) - len(said) == len(items) - len(absent)


def test_class_names_and_a_part_to_test_on(tmp_path: Path) -> None:
    members = {f"{n:02}.png": png(n) for n in range(20)}
    members |= {f"{n:02}.cls": b"cat" if n % 2 else b"dog" for n in range(18)}
    pack(tmp_path / "a.tar", dict(sorted(members.items())))
    found = find_shards("shards:x", tmp_path / "a.tar")
    assert found.classes == ("cat", "dog")
    assert {part: np.unique([i.label for i in items], return_counts=True)[1].tolist()
            for part, items in found.parts.items()} == {"train": [2, 7, 7], "test": [2, 2]}  # fmt: skip


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a.txt": b"words"}, "has no training image"),
        ({"a.png": png(1), "a.json": b"no JSON"}, "a.json is no JSON"),
        ({"a.png": png(1), "a.cls": b"123456789"}, "shards name class 123456789"),
        ({"a.png": png(1), "a.json": b'{"label": [1, 2]}'}, r"a.json has the label \[1, 2\], which is not one class"),
        ({"a.png": png(1), "a.json": b'{"label": 1.5}'}, r"a.json has the label 1.5, which is not one class"),
        ({"a.png": png(1), "a.json": b" " * (LARGEST + 1)}, "a.json has 67108865 bytes, more than a label's 64 MiB"),
    ],
)
def test_what_is_not_understood(members: dict[str, bytes], said: str, tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match=said):
        find_shards("shards:x", tmp_path / "a.tar")


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_of_a_torn_shard_of_others_what_is_before_is_read(tmp_path: Path, kind: int) -> None:
    stem = "long" * 30 if kind == tarfile.PAX_FORMAT else "short"
    members: dict[str, bytes] = {}
    for number in range(9):
        members |= {f"{stem}-{number}.cls": b"0", f"{stem}-{number}.png": png(number)}
    torn = pack(tmp_path / "torn.tar", members, kind)
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    pack(
        tmp_path / "whole.tar",
        {f"{n}.{kind}": png(n) if kind == "png" else b"0" for n in range(5) for kind in ("cls", "png")},
    )
    with pytest.warns(UserWarning, match=r"torn.tar is torn after .*png: what is before is read"):
        found = find_shards("shards:x", tmp_path / "*.tar")
    assert 5 + 2 <= sum(map(len, found.parts.values())) < 5 + 9


def test_one_that_is_cut_short_within_its_first_image(tmp_path: Path) -> None:
    torn = pack(tmp_path / "torn.tar", {"a.png": png(1), "b.png": png(2)})
    torn.write_bytes(torn.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"torn.tar cannot be read \(.*truncated or damaged"):
        find_shards("shards:x", torn)
