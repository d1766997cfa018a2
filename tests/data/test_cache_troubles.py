"""A full disk, a read-only folder, and other processes at the same cache."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from painted import fill
from tiny import QUIET

from fasthebb.data import cache, decode
from fasthebb.data.cache import Cache, entry_name
from fasthebb.data.folders import list_images
from fasthebb.data.listing import Item


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Twelve images, one of them unreadable."""
    fill(tmp_path / "images", "abc", 4)
    (tmp_path / "images" / "b" / "001.png").write_bytes(b"no image")
    return [item._replace(label=number) for number, item in enumerate(list_images(tmp_path / "images"))]


def entry(folder: Path) -> Path:
    (found,) = (folder / "images").iterdir()
    return found


def test_a_full_disk_leaves_nothing_behind(items: list[Item], tmp_path: Path) -> None:
    """In a process that may write no file of more than 100 bytes."""
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom fasthebb.console import Console\n"
        "from fasthebb.data.cache import Cache\nfrom fasthebb.data.folders import list_images\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "Cache(sys.argv[2], Console(quiet=True)).read(list_images(Path(sys.argv[1])), 4, 3, 'crop')\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "images"), str(tmp_path / "cache")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1] == (
        f"ValueError: decoded images cannot be cached in {tmp_path / 'cache' / 'images'} (File too large): "
        "make room there, or name another folder with --cache-dir"
    )
    assert [path.name for path in entry(tmp_path / "cache").iterdir()] == [".lock"]


def test_no_space_left(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ValueError, match=r"cannot be cached in .* \(No space left on device\): make room there"):
        Cache(tmp_path / "cache", QUIET).read(items, 4, 3, "crop")
    assert [path.name for path in entry(tmp_path / "cache").iterdir()] == [".lock"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file.images \(Not a directory\)"):
        Cache(tmp_path / "file", QUIET).read(items, 4, 3, "crop")


def test_a_read_only_folder_warns_once_and_is_read_all_the_same(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Cache(tmp_path / "cache", QUIET).read(items, 4, 3, "crop")

    def mkdir(self: Path, *args: object, **more: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    store = Cache(tmp_path / "cache", QUIET)
    mapped, _ = store.read(items, 4, 3, "crop")
    assert capsys.readouterr().err == ""
    in_memory = [store.read(items, size, 3, "crop")[0] for size in (5, 6)]
    assert capsys.readouterr().err == (
        f"warning: the cache folder {tmp_path / 'cache' / 'images'} cannot be written: images are decoded into memory\n"
    )
    assert [len(images) for images in (mapped, *in_memory)] == [11, 11, 11]
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 1


def read_slowly(items: list[Item], folder: Path, answers: multiprocessing.Queue[tuple[int, int]]) -> None:
    """Read, each image taking a moment; answer how many were decoded here, and the sum of all pixels."""
    counts = []
    real = cache.decode_each

    def slowly(items: list[Item], *args: object) -> dict[int, str]:
        counts.append(len(items))
        time.sleep(0.5)
        return real(items, *args)  # type: ignore[arg-type]

    cache.decode_each = slowly  # type: ignore[assignment]
    images, _ = Cache(folder, QUIET).read(items, 4, 3, "crop")
    answers.put((sum(counts), int(images.images.sum())))


def test_the_second_process_waits_for_the_first(items: list[Item], tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    both = [context.Process(target=read_slowly, args=(items, tmp_path / "cache", answers)) for _ in range(2)]
    for process in both:
        process.start()
    (one, total), (other, same) = (answers.get(timeout=60) for _ in both)
    for process in both:
        process.join()
    assert {one, other} == {0, 12}
    assert total == same > 0


def test_what_a_killed_process_left_is_removed(items: list[Item], tmp_path: Path) -> None:
    """Its own entry's, and another's; but not that of a process that is alive."""
    folder = tmp_path / "cache" / "images"
    own, other, busy = folder / entry_name(items, 4, 3, "crop"), folder / "other", folder / "busy"
    for place in (own, other, busy):
        place.mkdir(parents=True)
        (place / ".lock").touch()
        (place / f".pixels.u8.{2**22 + 1}.part").write_bytes(b"half")
    holder = subprocess.Popen(["flock", str(busy / ".lock"), "sleep", "60"])
    try:
        while subprocess.run(["flock", "-n", str(busy / ".lock"), "true"], check=False).returncode == 0:
            time.sleep(0.01)
        Cache(tmp_path / "cache", QUIET).read(items, 4, 3, "crop")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert [path.parent.name for path in folder.glob("*/.*.part")] == ["busy"]
    assert (own / "about.json").is_file()


def test_a_fault_of_the_disk_is_not_kept(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = decode.read_item

    def fails(item: Item) -> bytes | str:
        if item == items[0]:
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(item)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "read_item", fails)
        images, failures = Cache(tmp_path / "cache", QUIET).read(items, 4, 3, "crop")
    assert failures[0] == f"{items[0].name} ([Errno 13] Permission denied)"
    again, others = Cache(tmp_path / "cache", QUIET).read(items, 4, 3, "crop")
    assert others == failures[1:]
    assert len(again) == len(images) + 1
