"""Files are whole or absent, and a folder has one owner."""

import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from fasthebb.files import append_line, atomic_save, atomic_write, lock, told

HOLDER = """
import sys
from fasthebb.files import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "results.csv"
    atomic_write(target, "first\n")
    atomic_write(str(target), "sécond\n")
    assert target.read_bytes() == "sécond\n".encode()
    atomic_write(target, b"\x00\xff")
    assert target.read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["results.csv"]


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError("disk"), KeyboardInterrupt()])
def test_a_failing_writer_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "last.pt"
    atomic_write(target, "old")

    def write(file: BinaryIO) -> None:
        file.write(b"half of the n")
        raise error

    with pytest.raises(type(error)):
        atomic_save(target, write)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["last.pt"]


def test_a_target_that_is_a_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(OSError, match="runs"):
        atomic_write(tmp_path / "runs", "x")
    assert names(tmp_path) == ["runs"]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        atomic_write(tmp_path / "none" / "a", "x")
    path = tmp_path / "none" / "a"
    said = f"{path} cannot be used (No such file or directory): check the path, its permissions, its disk"
    assert told(error.value) == said
    assert told(ValueError("two\nlines")) == "two lines"
    assert told(OSError("no path")) == "no path"


def test_a_save_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    orphan = tmp_path / f".last.pt.{gone.pid}.part"
    others = [
        tmp_path / f".last.pt.{os.getppid()}.part",
        tmp_path / f".other.{gone.pid}.part",
        tmp_path / ".last.pt.part",
    ]
    for part in [orphan, *others]:
        part.write_text("half")
    atomic_write(tmp_path / "last.pt", "whole")
    assert not orphan.exists()
    assert all(part.exists() for part in others)


def test_a_line_for_which_there_is_no_room(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append_line(log, "one")
    code = (
        "import resource, signal; from fasthebb.files import append_line;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9));"
        f"append_line({str(log)!r}, 'twotwotwo')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"No space left on device: {str(log)!r}" in done.stderr
    assert log.read_text() == "one\n"


def test_append_line(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    append_line(log, '{"step": 1}')
    append_line(log, '{"step": 2}')
    assert log.read_text() == '{"step": 1}\n{"step": 2}\n'
    log.write_text('{"step": 1}\n{"st')
    append_line(log, '{"step": 2}')
    assert log.read_text() == '{"step": 1}\n{"st\n{"step": 2}\n'
    with pytest.raises(ValueError, match="more than one line"):
        append_line(log, "a\nb")


def test_lock_is_refused_while_another_process_holds_it(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=r"/run is in use by another process: [^\n]*$"), lock(run):
        pytest.fail("two owners")
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    with lock(run):
        assert run.is_dir()


def test_lock_is_free_again_after_the_block(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="inside"), lock(tmp_path):
        raise RuntimeError("inside")
    with lock(tmp_path), pytest.raises(ValueError, match="in use"), lock(tmp_path):
        pytest.fail("two owners")


def test_lock_on_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="run is a file: name a folder"), lock(tmp_path / "run"):
        pytest.fail("locked a file")
