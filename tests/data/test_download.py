"""Downloads against a local server: mirrors, resuming, checksums, and what is said when there is no network."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny import QUIET

from fasthebb.data.download import CHUNK, fetch, obtain
from fasthebb.data.official import OFFICIAL, Official
from fasthebb.files import lock

CONTENT = bytes(range(251)) * (2 * CHUNK // 251) + b"the end"
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files` by path; `asked` is what was asked for, with the range."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.ranges = True
        self.send_at_most = 1 << 40  # bytes of a body, then the connection is closed

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + self.server.send_at_most])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        running.files["/file"] = CONTENT
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    for _ in range(2):
        fetch([server.url("/file")], target, md5=MD5, console=QUIET)
        assert target.read_bytes() == CONTENT
    assert server.asked == [("/file", None)]
    assert names(target.parent) == ["file"]


def test_a_cut_download_is_continued_not_begun_anew(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file"
    server.send_at_most = CHUNK + 5
    with pytest.raises(ValueError, match=rf"connection ended after {CHUNK + 5} of {len(CONTENT)} bytes"):
        fetch([server.url("/file")], target, md5=MD5, console=QUIET)
    assert names(tmp_path) == ["file.part"]
    assert (tmp_path / "file.part").read_bytes() == CONTENT[: CHUNK + 5]
    server.send_at_most = 1 << 40
    fetch([server.url("/file")], target, md5=MD5, console=QUIET)
    assert target.read_bytes() == CONTENT
    assert server.asked[1:] == [("/file", f"bytes={CHUNK + 5}-")]
    assert names(tmp_path) == ["file"]


def test_a_server_without_ranges_sends_the_whole_file_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    fetch([server.url("/file")], tmp_path / "file", md5=MD5, console=QUIET)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("part", [b"something else", CONTENT + b"more", CONTENT], ids=["wrong", "too long", "whole"])
def test_what_is_left_of_another_file_is_replaced(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "file.part").write_bytes(part)
    fetch([server.url("/file")], tmp_path / "file", md5=MD5, console=QUIET)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(server.asked) == (1 if part == CONTENT else 2)


def test_the_next_mirror_is_asked_where_one_fails(server: Server, tmp_path: Path) -> None:
    server.files["/wrong"] = b"<html>not here any more</html>"
    urls = [server.url("/absent"), server.url("/wrong"), server.url("/file")]
    fetch(urls, tmp_path / "file", md5=MD5, console=QUIET)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/absent", "/wrong", "/file"]


def test_a_wrong_checksum_names_the_file_and_removes_nothing(server: Server, tmp_path: Path) -> None:
    server.files["/file"] = CONTENT[:-1] + b"?"
    target = tmp_path / "file"
    target.write_bytes(b"an older one")
    with pytest.raises(ValueError, match=r"file cannot be downloaded, tried .*wrong checksum") as caught:
        fetch([server.url("/file"), server.url("/absent")], target, md5=MD5, console=QUIET)
    assert "404" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == b"an older one"
    assert names(tmp_path) == ["file"]


def test_offline_the_error_says_where_the_file_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file"
    with pytest.raises(ValueError, match="Connection refused") as caught:
        fetch([url], tmp_path / "file", md5=MD5, console=QUIET)
    assert url in str(caught.value)
    assert f"put the file by hand at {tmp_path / 'file'}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_proxy_of_the_environment_is_asked(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", server.url(""))
    server.files["http://images.example/file"] = CONTENT
    fetch(["http://images.example/file"], tmp_path / "file", md5=MD5, console=QUIET)
    assert (tmp_path / "file").read_bytes() == CONTENT


def offer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive with a folder `stl10_binary`, in place of the official one."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("stl10_binary/train_X.bin")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    content = server.files["/set"] = packed.getvalue()
    file = Official("stl10_binary.tar.gz", hashlib.md5(content).hexdigest(), (server.url("/set"),), "stl10_binary")
    monkeypatch.setitem(OFFICIAL, "stl10", (file,))


def test_an_archive_is_downloaded_and_unpacked_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(server, monkeypatch)
    for _ in range(2):
        obtain("stl10", tmp_path / "data", QUIET)
    assert (tmp_path / "data" / "stl10_binary" / "train_X.bin").read_bytes() == b"abc"
    assert names(tmp_path / "data") == [".lock", "stl10_binary", "stl10_binary.tar.gz"]
    assert len(server.asked) == 1


def test_a_folder_in_use_or_read_only_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(server, monkeypatch)
    with lock(tmp_path), pytest.raises(ValueError, match="in use by another process"):
        obtain("stl10", tmp_path, QUIET)
    (tmp_path / "stl10_binary.tar.gz.part").mkdir()
    with pytest.raises(ValueError, match=r"stl10 cannot be downloaded into .* \(Is a directory\)"):
        obtain("stl10", tmp_path, QUIET)


def test_imagenet_is_never_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="imagenet is never downloaded, it needs an account"):
        obtain("imagenet", tmp_path, QUIET)


def test_every_official_file_has_a_checksum_and_an_address() -> None:
    files = [file for group in OFFICIAL.values() for file in group]
    assert all(len(bytes.fromhex(file.md5)) == 16 for file in files)
    assert len({file.md5 for file in files}) == len(files)
    assert all(url.startswith("http") and url.endswith(Path(file.place).name) for file in files for url in file.urls)
