"""Archives are unpacked whole or not at all, never outside their folder; members are found in place by offset."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from tiny import QUIET

from fasthebb.data.archives import tar_members, unpack

FILES = {"set/a.txt": b"one", "set/deep/b.bin": bytes(range(256)) * 40, "set/empty": b""}
KINDS = ("set.tar", "set.tar.gz", "set.zip")


def write(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in files.items():
                packed.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        folder = tarfile.TarInfo("set")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_comes_out_and_nothing_is_left_beside(tmp_path: Path, kind: str) -> None:
    archive = write(tmp_path / kind, FILES)
    (tmp_path / ".set.part" / "set").mkdir(parents=True)
    (tmp_path / ".set.part" / "set" / "stale").touch()  # what a killed process left
    unpack(archive, tmp_path, "set", QUIET)
    assert below(tmp_path / "set") == {name.removeprefix("set/"): content for name, content in FILES.items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", kind]


@pytest.mark.parametrize("where", ["../outside", "set/../../outside", "absolute"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_member_outside_the_folder_is_refused(tmp_path: Path, kind: str, where: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    name = str(tmp_path / "outside") if where == "absolute" else where
    archive = write(folder / kind, FILES | {name: b"x"})
    with pytest.raises(ValueError, match=f"would write outside its folder.*{name}"):
        unpack(archive, folder, "set", QUIET)
    assert below(tmp_path).keys() == {f"data/{kind}"}


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("set/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(ValueError, match="link or device in it"):
        unpack(path, tmp_path, "set", QUIET)
    with path.open("rb") as file, pytest.raises(ValueError, match="links or extended headers"):
        list(tar_members(file, 0, path.stat().st_size))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_archive_leaves_nothing(tmp_path: Path, kind: str) -> None:
    archive = write(tmp_path / kind, FILES)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 3])
    with pytest.raises(ValueError, match=f"{kind} is truncated or damaged"):
        unpack(archive, tmp_path, "set", QUIET)
    assert [path.name for path in tmp_path.iterdir()] == [kind]


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder other"):
        unpack(write(tmp_path / "set.zip", FILES), tmp_path, "other", QUIET)


def test_members_are_found_in_an_archive_within_a_file(tmp_path: Path) -> None:
    inner = write(tmp_path / "set.tar", FILES).read_bytes()
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000 + inner + b"y" * 1000)
    with path.open("rb") as file:
        found = list(tar_members(file, 1000, 1000 + len(inner)))
    whole = path.read_bytes()
    assert {name: whole[offset : offset + size] for name, offset, size in found} == FILES


def test_a_tar_archive_that_is_none_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "set.tar", FILES)
    whole = bytearray(path.read_bytes())
    for content, says in (
        (b"", "ends without the mark"),
        (whole[:1024], "within a member"),
        (whole[: 1024 + 512], "ends without the mark"),
        (b"<html>" * 200, "no tar header"),
        (whole[:520] + b"?" + whole[521:], "wrong sum"),
    ):
        path.write_bytes(content)
        with path.open("rb") as file, pytest.raises(ValueError, match=says) as caught:
            list(tar_members(file, 0, len(content)))
        assert str(path) in str(caught.value)
