"""A set by its name: where it is looked for, in which order, and what is said where it is not."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
from test_idx import LABELS, write_set
from test_imagenet import write_folders
from test_tiny_imagenet import write_set as write_tiny
from tiny import QUIET

from fasthebb.data.listing import Arrays, Listing
from fasthebb.data.named import GREY, NAMES, find
from fasthebb.data.official import OFFICIAL, Official


def test_the_first_folder_that_has_the_set_counts(tmp_path: Path) -> None:
    write_set(tmp_path / "b" / "mnist")
    write_set(tmp_path / "c" / "mnist", labels=LABELS[::-1].copy())
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for order, labels in ((folders, LABELS), (folders[::-1], LABELS[::-1])):
        found = find("mnist", order, download=False, console=QUIET)
        assert isinstance(found, Arrays)
        assert np.array_equal(found.parts["train"][1], labels)


def test_sets_side_by_side_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    write_set(tmp_path / "mnist")
    write_set(tmp_path / "fashion-mnist")
    write_tiny(tmp_path / "tiny-imagenet-200")
    write_folders(tmp_path / "imagenette2-160")
    write_folders(tmp_path / "imagenet")
    first = {}
    for name in ("mnist", "fashion-mnist", "tiny-imagenet", "imagenet", "imagenette"):
        found = find(name, [tmp_path], download=False, console=QUIET)
        first[name] = found.classes[0]
        if isinstance(found, Listing):
            assert all(Path(item.path).is_file() for items in found.parts.values() for item in items)
    assert first == {
        "mnist": "0", "fashion-mnist": "T-shirt/top", "tiny-imagenet": "n01443537", "imagenet": "n01440764",
        "imagenette": "tench",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_set_that_is_nowhere_says_what_to_do_in_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is not in {tmp_path}/a or {tmp_path}/b: it wants ") as caught:
        find(name, [tmp_path / "a", tmp_path / "b"], download=False, console=QUIET)
    said = str(caught.value)
    assert "\n" not in said
    assert "--data-dir" in said
    assert ("--download" in said) == (name != "imagenet")
    assert ("dataset-fashion-mnist" in said) == (name == "fashion-mnist")


@pytest.mark.parametrize("archive", ["stl10_binary.tar.gz", "tiny-imagenet-200.zip", "imagenette2-160.tgz"])
def test_an_archive_that_is_still_packed_is_named(tmp_path: Path, archive: str) -> None:
    (tmp_path / archive).touch()
    name = {"s": "stl10", "t": "tiny-imagenet", "i": "imagenette"}[archive[0]]
    with pytest.raises(ValueError, match=f"{archive} is still packed: unpack it there, or give --download"):
        find(name, [tmp_path], download=False, console=QUIET)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'minst' is unknown: there is mnist, fashion-mnist"):
        find("minst", [tmp_path], download=False, console=QUIET)
    assert set(NAMES) > GREY
    assert set(NAMES) - OFFICIAL.keys() == {"imagenet"}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_set(tmp_path / "mnist")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match=rf"mnist: {folder}/\S+ cannot be read \(Permission denied\)"):
        find("mnist", [tmp_path], download=False, console=QUIET)


def test_a_set_that_is_nowhere_is_downloaded_into_the_first_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    source = write_set(tmp_path / "source", zipped=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(source))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        files = [
            Official(f"MNIST/raw/{path.name}", hashlib.md5(path.read_bytes()).hexdigest(), (f"{base}/{path.name}",))
            for path in source.iterdir()
        ]
        monkeypatch.setitem(OFFICIAL, "mnist", tuple(files))
        folders = [tmp_path / "data", tmp_path / "other"]
        try:
            found = find("mnist", folders, download=True, console=QUIET)
        finally:
            server.shutdown()
            thread.join()
    assert np.array_equal(found.parts["train"][1], LABELS)
    assert len(list((tmp_path / "data" / "MNIST" / "raw").iterdir())) == 4
    again = find("mnist", folders, download=True, console=QUIET)  # the server is gone
    assert np.array_equal(again.parts["test"][0], found.parts["test"][0])
    damaged = tmp_path / "data" / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    damaged.write_bytes(gzip.compress(b"\0\0\x08\x01"))
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte.gz is truncated or damaged"):
        find("mnist", folders, download=True, console=QUIET)
