"""Decoded images are kept once, shared by processes, and never trusted when they are not what they should be."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from painted import fill, paint
from tiny import QUIET, snapshot

from fasthebb.data import cache, load
from fasthebb.data.cache import Cache, cache_folder, entry_name
from fasthebb.data.folders import list_images
from fasthebb.data.listing import Item


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Twelve images, one of them unreadable."""
    fill(tmp_path / "images", "abc", 4)
    (tmp_path / "images" / "b" / "001.png").write_bytes(b"no image")
    return [item._replace(label=number) for number, item in enumerate(list_images(tmp_path / "images"))]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each call of the decoder got."""
    counts: list[int] = []
    real = cache.decode_each

    def counted(items: list[Item], *args: object) -> dict[int, str]:
        counts.append(len(items))
        return real(items, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "decode_each", counted)
    return counts


def entry(folder: Path) -> Path:
    (found,) = (folder / "images").iterdir()
    return found


def test_images_are_decoded_once(items: list[Item], tmp_path: Path, decoded: list[int]) -> None:
    folder = tmp_path / "cache"
    want, failures = cache.decode_items(items, 4, 3, "crop", QUIET)
    for _ in range(2):
        images, unreadable = Cache(folder, QUIET).read(items, 4, 3, "crop")
        assert torch.equal(images.images, want.images)
        assert torch.equal(images.labels, want.labels)
        assert (images.paths, unreadable) == (want.paths, failures)
    assert decoded == [12]
    assert {path.name for path in entry(folder).iterdir()} == {".lock", "about.json", "pixels.u8"}
    assert (entry(folder) / "pixels.u8").read_bytes() == want.images.numpy().tobytes()


def test_a_mapped_image_can_be_changed_but_not_the_file(items: list[Item], tmp_path: Path) -> None:
    images, _ = Cache(tmp_path / "cache", QUIET).read(items, 4, 1, "crop")
    before = snapshot(tmp_path / "cache")
    images.images.fill_(77)
    assert snapshot(tmp_path / "cache") == before
    assert Cache(tmp_path / "cache", QUIET).read(items, 4, 1, "crop")[0].images.max() < 77


def test_labels_are_not_part_of_an_entry(items: list[Item], tmp_path: Path, decoded: list[int]) -> None:
    Cache(tmp_path / "cache", QUIET).read(items, 4, 3, "crop")
    images, _ = Cache(tmp_path / "cache", QUIET).read([item._replace(label=-1) for item in items], 4, 3, "crop")
    assert set(images.labels.tolist()) == {-1}
    assert decoded == [12]


def test_what_makes_another_entry(items: list[Item], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def name() -> str:
        return entry_name(items, 4, 3, "crop")

    first = name()
    others = [entry_name(items, *how) for how in ((5, 3, "crop"), (4, 1, "crop"), (4, 3, "pad"))]
    others += [entry_name(items[1:], 4, 3, "crop"), entry_name(items[::-1], 4, 3, "crop")]
    others += [entry_name([items[0]._replace(offset=1), *items[1:]], 4, 3, "crop")]
    assert name() == first
    path = Path(items[0].path)
    stamp = path.stat()
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    others.append(name())
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    others.append(name())
    path.unlink()
    others.append(name())
    assert len({first, *others}) == len(others) + 1
    monkeypatch.chdir(tmp_path)
    beside = [item._replace(path=os.path.relpath(item.path)) for item in items]
    assert entry_name(beside, 4, 3, "crop") == name()


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda entry: (entry / "pixels.u8").write_bytes(b"x"), "holds 1 bytes, not 11 images of [3, 4, 4]"),
        (lambda entry: (entry / "about.json").write_bytes(b"{"), "cannot be read"),
        (lambda entry: (entry / "about.json").write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda entry: (entry / "about.json").write_text("[]"), "cannot be read"),
        (
            lambda entry: (entry / "about.json").write_text('{"format": 1, "unreadable": {"99": "x"}}'),
            "names images beyond its 12",
        ),
        (lambda entry: (entry / "about.json").write_text('{"format": 2}'), "is of format 2, not 1"),
    ],
)
def test_what_is_damaged_is_made_anew(
    items: list[Item], tmp_path: Path, decoded: list[int], capsys: pytest.CaptureFixture[str], harm: object, why: str
) -> None:
    want, _ = Cache(tmp_path / "cache", QUIET).read(items, 4, 3, "crop")
    want_pixels = want.images.clone()
    harm(entry(tmp_path / "cache"))  # type: ignore[operator]
    for _ in range(2):
        images, failures = Cache(tmp_path / "cache", QUIET).read(items, 4, 3, "crop")
        assert torch.equal(images.images, want_pixels)
        assert len(failures) == 1
    assert decoded == [12, 12]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{why}: its images are decoded anew" in said


def test_pixels_without_their_description_are_made_anew(items: list[Item], tmp_path: Path, decoded: list[int]) -> None:
    Cache(tmp_path / "cache", QUIET).read(items, 4, 3, "crop")
    (entry(tmp_path / "cache") / "about.json").unlink()
    assert len(Cache(tmp_path / "cache", QUIET).read(items, 4, 3, "crop")[0]) == 11
    assert decoded == [12, 12]


def test_nothing_readable_is_an_entry_too(tmp_path: Path, decoded: list[int]) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    for _ in range(2):
        images, failures = Cache(tmp_path / "cache", QUIET).read(list_images(tmp_path), 4, 3, "crop")
        assert images.images.shape == (0, 3, 4, 4)
        assert len(failures) == 1
    assert decoded == [1]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for name in ("FASTHEBB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path("/home/someone/.cache/fasthebb")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/fasthebb")
    monkeypatch.setenv("FASTHEBB_CACHE", "~/own")
    assert cache_folder() == Path("/home/someone/own")
    assert cache_folder("/given") == Path("/given")


def test_load_keeps_large_sets_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[int]) -> None:
    fill(tmp_path / "images", "ab", 5)
    (tmp_path / "images" / "a" / "001.png").write_bytes(b"")
    monkeypatch.setenv("FASTHEBB_CACHE", str(tmp_path / "cache"))

    def loaded() -> tuple[int, ...]:
        with pytest.warns(UserWarning, match="1 of 10 image files cannot be read"):
            data = load(f"folder:{tmp_path / 'images'}", image_size=4)
        return (data.skipped, *data.train.images.flatten().tolist(), *data.train.labels.tolist())

    want = loaded()
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr("fasthebb.data.datasets.SMALL", 100)
    assert [loaded() for _ in range(2)] == [want] * 2
    assert decoded == [8, 2]
    paint(tmp_path / "images" / "b" / "000.png", 99)
    assert loaded() != want
    shutil.rmtree(tmp_path / "cache")
    with pytest.warns(UserWarning, match="1 of 10"):
        load(f"folder:{tmp_path / 'images'}", image_size=4, cache_dir=tmp_path / "c")
    assert not (tmp_path / "cache").exists()
    about = [json.loads(path.read_bytes())["format"] for path in (tmp_path / "c").glob("images/*/about.json")]
    assert about == [1, 1]
