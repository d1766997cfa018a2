"""`data check`: tables of what is there, warnings of what may spoil a result, and an exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import fails, write_images

from fasthebb.cli import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with train and test parts."""
    for part in ("train", "test"):
        write_images(tmp_path / "data" / part, each=4)
    for number, path in enumerate(sorted((tmp_path / "data" / "test").rglob("*.png"))):
        path.write_bytes(path.read_bytes() + bytes([number]))  # no longer those of train/
    return tmp_path / "data"


def check(capsys: pytest.CaptureFixture[str], folder: Path, *words: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["data", "check", "--data", f"folder:{folder}", *words]) == code
    said = capsys.readouterr()
    return said.out, said.err


def test_sound_data(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = check(capsys, data)
    assert err == ""
    assert "\nblue       4     4\n" in out
    assert "12 RGB" in out


def test_duplicates_across_splits_are_a_warning(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(data / "train" / "red" / "000.png", data / "test" / "red" / "other.png")
    _, err = check(capsys, data)
    assert err == "warning: 1 images are in train and test, first train/red/000.png = test/red/other.png\n"


def test_unreadable_files_beyond_max_bad(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x.png", "y.png"):
        (data / "train" / "red" / name).write_bytes(b"")
    out, err = check(capsys, data)
    assert "train/red/x.png (" in out
    assert "2 of 14 images of train cannot be read" in err
    _, err = check(capsys, data, "--max-bad", "0.01", code=1)
    assert f"error: folder:{data}: 2 of 26 images cannot be read" in err


def test_classes_that_differ(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(data / "test" / "red")
    _, err = check(capsys, data, code=1)
    assert err.splitlines()[-1].startswith(f"error: folder:{data}: only one of train/ and test/ has images of red")


def test_a_document_even_of_unsound_data(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(data / "test" / "red")
    out, _ = check(capsys, data, "--json", code=1)
    document: dict[str, Any] = json.loads(out)
    assert [part["images"] for part in document["parts"]] == [12, 8]
    assert document["differences"]
    assert document["parts"][1]["per_class"] == {"blue": 4, "green": 4, "red": 0}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), "fasthebb data needs --verb (what to do, check"),
        (("chek",), "--verb chek: give one of check"),
        (("check", "digits", "x"), "--out x is of no effect with data check, which writes nothing: leave it out"),
        (("check", "a", "b", "--data", "c"), "'b' is one word too many"),
        (("check", "a", "b", "twice"), "'twice' is one word too many"),
    ],
)
def test_the_verb(words: tuple[str, ...], wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert wanted in fails(capsys, 2, "data", *words)


def test_shards_are_written_and_looked_over(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shards"
    words = ["data", "shard", "--data", f"folder:{data}", "--out", str(out), "--images-per-shard", "8"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["out"], found["shards"], found["images"], found["unreadable"]) == (str(out), 4, 24, [])
    assert main(words) == 1
    assert "holds shards already; add --resume" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert f"24 images in 4 shards, 0.1 MiB; read them by --data shards:{out}" in capsys.readouterr().out
    assert main(["data", "check", "--data", f"shards:{out}"]) == 0
    assert "12 RGB" in capsys.readouterr().out
    shard = out / "test-000001.tar"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1  # behind the end of the tar, where only the checksum looks
    shard.write_bytes(content)
    assert main(["data", "check", "--data", f"shards:{out}"]) == 1
    assert "shard test-000001.tar is damaged: other bytes: restore it" in capsys.readouterr().err


def test_shards_without_what_cannot_be_read(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "train" / "red" / "x.png").write_bytes(b"")
    words = ["data", "shard", "--data", f"folder:{data}", "--short-side", "8"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    assert "1 images cannot be read and were left out, first train/red/x.png (" in capsys.readouterr().err
    for again in ((), ("--resume",)):
        assert main([*words, "--out", str(tmp_path / "b"), "--max-bad", "0", *again]) == 1
        assert "mend them and write all anew" in capsys.readouterr().err
    for wrong, said in (((), "data shard needs --out"), (("--out", "x", "--unlabeled", "digits"), "one set at a time"),
                        (("--out", "x", "--short-side", "0"), "--short-side 0: give 1 or more")):  # fmt: skip
        assert fails(capsys, 2, "data", "shard", "--data", f"folder:{data}", *wrong).count(said) == 1
