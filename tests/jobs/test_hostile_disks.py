"""Disks that are full or read-only, and images that change while a run is interrupted: no run is ever lost."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import NET, fails, snapshot, write_images

from fasthebb.cli import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images")


@pytest.fixture
def words(tmp_path: Path, data: Path) -> list[str]:
    out = str(tmp_path / "run")
    return ["pretrain", *NET, "--data", f"folder:{data}", "--max-steps", "2", "--batch-size", "8", "--out", out]


@pytest.fixture
def unfinished(tmp_path: Path, words: list[str]) -> Path:
    """A run that stopped after its last checkpoint, before its end."""
    run = tmp_path / "run"
    assert main(words) == 0
    (run / "checkpoints" / "last.safetensors").unlink()
    return run


def in_small_files(words: list[str], limit: int) -> subprocess.CompletedProcess[str]:
    """A command where no file may grow beyond so many bytes, as on a disk that is full."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "fasthebb", *words],
        capture_output=True, text=True, preexec_fn=limited, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_full_disk_from_the_start(tmp_path: Path, words: list[str]) -> None:
    done = in_small_files(words, 4096)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "run").exists(), "a run that never began leaves nothing"


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, words: list[str], unfinished: Path) -> None:
    last = unfinished / "checkpoints" / "last.pt"
    before = last.read_bytes()
    words[words.index("--max-steps") + 1] = "4"
    shutil.copy(unfinished / "config.yaml", tmp_path / "config.yaml")
    text = (unfinished / "config.yaml").read_text().replace("max_steps: 2", "max_steps: 4")
    (unfinished / "config.yaml").write_text(text)
    done = in_small_files([*words, "--resume"], 6000)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert last.read_bytes() == before
    assert not list(unfinished.rglob("*.part"))
    assert main([*words, "--resume"]) == 0, "with room again it goes on"


def test_where_images_lie_may_change(unfinished: Path, words: list[str], data: Path, tmp_path: Path) -> None:
    words[words.index("--data") + 1] = f"folder:{data.name}"
    text = (unfinished / "config.yaml").read_text().replace(f"folder:{data}", f"folder:{data.name}")
    (unfinished / "config.yaml").write_text(text)
    (unfinished / "data.json").write_text(
        (unfinished / "data.json").read_text().replace(f"folder:{data}", f"folder:{data.name}")
    )
    data.rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moved").rename(tmp_path / "elsewhere" / data.name)
    assert main([*words, "--resume", "--data-dir", str(tmp_path / "elsewhere"), "--max-bad", "0.5"]) == 0


def test_images_that_changed(
    unfinished: Path, words: list[str], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = next((data / "red").glob("*.png"))
    kept = first.read_bytes()
    shutil.copy(next((data / "blue").glob("*.png")), first)
    before = snapshot(unfinished)
    said = fails(capsys, 1, *words, "--resume")
    assert f"The images of folder:{data} are not those that the run in {unfinished} began with" in said
    assert snapshot(unfinished) == before
    first.write_bytes(kept)
    assert main([*words, "--resume"]) == 0


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A read-only folder; root, who may write anywhere, becomes another user."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def read_only(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_a_read_only_place(nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_only(nobody)
    said = fails(capsys, 1, "pretrain", *NET, "--data", "digits", "--max-steps", "1", "--out", nobody / "run")
    assert f"{nobody / 'run'} cannot be made" in said


def test_a_read_only_run(nobody: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words[words.index("--out") + 1] = str(nobody / "run")
    words[words.index("--data") + 1] = "digits"
    assert main(words) == 0
    read_only(nobody)
    said = fails(capsys, 1, "evaluate", "--run", nobody / "run", "--knn")
    assert f"{nobody / 'run'} cannot be written (Permission denied): make it writable, or name another" in said
    out = nobody / "run" / "x.json"
    assert f"--out {out}: its folder cannot be written; name a file in another" in fails(
        capsys, 2, "bench", "--out", out
    )
