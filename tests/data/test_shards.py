"""Shards: what is written is read back, an interrupted writer goes on, shards of others are read as they mean it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import QUIET, write_images

from fasthebb.data import load, shard_writer
from fasthebb.data.shard_writer import Written, write_shards
from fasthebb.data.shards import damages, find_shards
from fasthebb.data.sources import find_source


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        write_images(tmp_path / "images" / part, each=7)
    Image.new("RGB", (12, 12), "white").save(tmp_path / "images" / "train" / "of no class.png")
    return tmp_path / "images"


def write(images: Path | str, out: Path, **how: object) -> Written:
    spec = images if isinstance(images, str) else f"folder:{images}"
    source = find_source(spec, data_dir=None, labels_file=None, download=False, console=QUIET)
    return write_shards(source, out, console=QUIET, **({"images_per_shard": 5} | how))  # type: ignore[arg-type]


def test_what_is_written_is_read(images: Path, tmp_path: Path) -> None:
    written = write(images, tmp_path / "shards")
    assert (written.shards, written.images, written.unreadable) == (5 + 5, 43, [])
    before, after = load(f"folder:{images}", image_size=12), load(f"shards:{tmp_path / 'shards'}", image_size=12)
    assert after.classes == before.classes
    assert torch.equal(after.test.images, before.test.images), "a part to test on keeps its order"
    assert torch.equal(after.test.labels, before.test.labels)
    order = torch.randperm(22, generator=torch.Generator().manual_seed(0))
    assert torch.equal(after.train.images, before.train.images[order])
    assert torch.equal(after.train.labels, before.train.labels[order])
    assert after.train.paths[0].startswith(f"train-000000.tar/{int(order[0]):08}_")
    for path in (tmp_path / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:  # others read them too
            assert {member.mode for member in tar} == {0o644}
    assert list(damages(tmp_path / "shards")) == []


def test_arrays_lose_nothing(tmp_path: Path) -> None:
    written = write("digits", tmp_path / "shards", images_per_shard=1000)
    assert (written.shards, written.images) == (3, 1797)
    before = load("digits", image_size=8)
    after = load(f"shards:{tmp_path / 'shards'}", image_size=8, channels=1)
    assert torch.equal(after.test.images, before.test.images)
    assert torch.equal(after.train.labels.bincount(), before.train.labels.bincount())


def test_larger_images_become_smaller(tmp_path: Path) -> None:
    for name, size in (("wide", (90, 40)), ("small", (10, 30))):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", size, "red").save(tmp_path / "images" / name / f"{number}.png")
    write(tmp_path / "images", tmp_path / "shards", short_side=20)
    seen = set()
    for path in (tmp_path / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if not member.name.endswith("cls"):
                    opened = Image.open(tar.extractfile(member))  # type: ignore[arg-type]
                    seen.add((opened.format, opened.size))
    assert seen == {("JPEG", (45, 20)), ("PNG", (10, 30))}


def test_an_interrupted_writer_goes_on(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(images, tmp_path / "whole")
    save, calls = shard_writer.atomic_save, 0

    def failing(path: Path, fill: Callable[..., None]) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError("no space left on the disk")
        save(path, fill)

    out = tmp_path / "shards"
    monkeypatch.setattr(shard_writer, "atomic_save", failing)
    with pytest.raises(OSError, match="no space left"):
        write(images, out)
    with pytest.raises(ValueError, match="has 3 of 10 shards: finish it by the same"):
        find_shards("shards:x", out)
    with pytest.raises(ValueError, match="holds shards already; add --resume"):
        write(images, out)
    with pytest.raises(ValueError, match="other images or options"):
        write(images, out, images_per_shard=6, resume=True)
    (out / "train-000001.tar").unlink()
    with (out / "index.jsonl").open("a") as index:
        index.write('{"shard": "torn')
    written = write(images, out, resume=True)
    assert calls == 4 + 8
    assert (written.shards, written.images) == (10, 43)
    for path in (tmp_path / "whole").glob("*.tar"):
        assert path.read_bytes() == (out / path.name).read_bytes()
    assert write(images, out, resume=True) == written


def test_damage_is_named(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    write(images, out)
    whole = (out / "train-000002.tar").read_bytes()
    flipped = bytearray(whole)
    flipped[700] ^= 1
    (out / "train-000002.tar").write_bytes(flipped)
    assert list(damages(out)) == ["shard train-000002.tar is damaged: other bytes"]
    (out / "train-000002.tar").write_bytes(whole[:1300])
    with pytest.warns(UserWarning, match=r"shards:x: .*train-000002.tar is damaged: it has 1300 bytes, not \d+"):
        assert len(find_shards("shards:x", out).parts["train"]) == 22
    (out / "train-000002.tar").unlink()
    assert list(damages(out)) == ["shard train-000002.tar is damaged: it is missing"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("bytes_", [1300, None])
def test_images_of_a_torn_shard_are_left_out_or_too_many(
    images: Path, tmp_path: Path, bytes_: int | None, stream: bool
) -> None:
    out = tmp_path / "shards"
    write(images, out)
    shard, gone = out / "train-000002.tar", 5 if bytes_ is None else 4
    if bytes_ is None:
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:bytes_])
    with pytest.warns(UserWarning, match="train-000002.tar is damaged"):
        left = load(f"shards:{out}", image_size=12, stream=stream, max_bad=0.2)
    assert (len(left.train), left.skipped) == (22 - gone, gone)
    assert sum(path.startswith("train-000002.tar/") for path in left.train.paths) == 5 - gone
    with (
        pytest.warns(UserWarning, match="train-000002.tar is damaged"),
        pytest.raises(
            ValueError, match=rf"{gone} of 43 image files cannot be read, first train-000002.tar/.*: mend or"
        ),
    ):
        load(f"shards:{out}", image_size=12, stream=stream, max_bad=0.05)


def test_what_cannot_be_read_is_left_out(images: Path, tmp_path: Path) -> None:
    (images / "train" / "red" / "bad.png").write_bytes(b"no image")
    assert write(images, tmp_path / "as they are").images == 44, "files are not looked into"
    written = write(images, tmp_path / "smaller", short_side=4)
    assert written.images == 43
    assert written.unreadable == ["train/red/bad.png (no image of a known kind)"]
    again = write(images, tmp_path / "smaller", short_side=4, resume=True)
    assert again == written, "what could not be read is told again"
    index = tmp_path / "smaller" / "index.jsonl"
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    older = [{name: value for name, value in row.items() if name != "unreadable"} for row in rows]
    index.write_text("".join(f"{json.dumps(row)}\n" for row in older))
    assert write(images, tmp_path / "smaller", short_side=4, resume=True) == written._replace(unreadable=[])


def test_a_folder_of_other_files_is_left_alone(images: Path) -> None:
    with pytest.raises(ValueError, match=r"images is not empty and holds no shards \(it holds test\)"):
        write(images, images)
    assert not (images / "index.jsonl").exists()


def test_what_is_not_there(images: Path, tmp_path: Path) -> None:
    for pattern in ("none.tar", "none-*.tar", "none-{00..01}.tar"):
        with pytest.raises(ValueError, match=r"shards:x: there is no .*none.*: check the path"):
            find_shards("shards:x", tmp_path / pattern)
    with pytest.raises(ValueError, match=r"has no index.jsonl: name the shards by a pattern \(.*/train-\*.tar\)"):
        find_shards("shards:x", images)
    (images / "index.jsonl").write_text(json.dumps({"format": "of another program"}) + "\n")
    with pytest.raises(ValueError, match="is no index of shards"):
        find_shards("shards:x", images)
