"""ImageNet from its folders and, in place, from its archives; Imagenette with readable names."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fasthebb.data.imagenet import find_imagenet, find_imagenette, list_class
from fasthebb.data.imagenet_archives import DEVKIT, TRAIN, VAL
from fasthebb.data.listing import Item, Listing

WNIDS = ("n01440764", "n02102040", "n03888257")


def write_folders(root: Path) -> Path:
    for wnid in reversed(WNIDS):
        for part, count in (("train", 2), ("val", 1)):
            (root / part / wnid).mkdir(parents=True)
            for number in range(count):
                (root / part / wnid / f"{wnid}_{number}.JPEG").write_bytes(b"x")
            (root / part / wnid / "notes.txt").write_bytes(b"x")
    return root


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def write_archives(root: Path) -> dict[str, bytes]:
    """The three official archives, small; returns the content of every image by the name it should get.

    The devkit numbers the classes in another order than that of the wnids: 1 is the last, and 4 is no class.
    """
    root.mkdir()
    random = np.random.default_rng(0)
    train = {
        f"train/{wnid}/{wnid}_{number}.JPEG": random.bytes(int(random.integers(1, 3000)))
        for wnid in reversed(WNIDS)
        for number in (7, 12, 3)
    }
    inner = {
        f"{wnid}.tar": tar({name.rpartition("/")[2]: content for name, content in train.items() if wnid in name})
        for wnid in reversed(WNIDS)
    }
    (root / TRAIN).write_bytes(tar(inner))
    val = {f"ILSVRC2012_val_{number:08}.JPEG": random.bytes(700 + number) for number in (3, 1, 4, 2)}
    (root / VAL).write_bytes(tar(val))
    synsets = np.array(
        [(4, "n00001740", 3), (3, WNIDS[0], 0), (2, WNIDS[1], 0), (1, WNIDS[2], 0)],
        [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("num_children", "f8")],
    )
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets[:, None]})
    kit = {
        "readme.txt": b"",
        "data/meta.mat": meta.getvalue(),
        "data/ILSVRC2012_validation_ground_truth.txt": b"3\n1\n2\n3\n",
    }
    (root / DEVKIT).write_bytes(
        tar({f"ILSVRC2012_devkit_t12/{name}": content for name, content in kit.items()}, "w:gz")
    )
    return train | {f"val/{name}": content for name, content in val.items()}


def read(item: Item) -> bytes:
    with Path(item.path).open("rb") as file:
        file.seek(item.offset)
        return file.read(item.size)


@pytest.mark.parametrize("place", ["", "imagenet", "ILSVRC2012"])
def test_folders_are_listed_in_the_order_of_their_wnids(tmp_path: Path, place: str) -> None:
    root = write_folders(tmp_path / place)
    found = find_imagenet("imagenet", tmp_path)
    assert found is not None
    assert found.classes == WNIDS
    assert found.parts["train"] == [
        Item(f"train/{wnid}/{wnid}_{number}.JPEG", label, str(root / "train" / wnid / f"{wnid}_{number}.JPEG"))
        for label, wnid in enumerate(WNIDS)
        for number in (0, 1)
    ]
    assert [(item.name, item.label) for item in found.parts["test"]] == [
        (f"val/{wnid}/{wnid}_0.JPEG", label) for label, wnid in enumerate(WNIDS)
    ]


def test_folders_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "imagenet")
    (root / "val" / WNIDS[1]).rename(root / "val" / "n00000001")
    with pytest.raises(ValueError, match=f"only one of .*train and .*val has the classes n00000001, {WNIDS[1]}"):
        find_imagenet("imagenet", tmp_path)
    (root / "val" / "n00000001").rename(root / "val" / WNIDS[1])
    (root / "val" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG").unlink()
    with pytest.raises(ValueError, match=f"val/{WNIDS[1]} holds no images"):
        find_imagenet("imagenet", tmp_path)


def test_archives_are_read_in_place_byte_for_byte(tmp_path: Path) -> None:
    content = write_archives(tmp_path / "imagenet")
    found = find_imagenet("imagenet", tmp_path)
    assert found is not None
    assert found.classes == WNIDS
    assert sum(map(len, found.parts.values())) == len(content)
    for items in found.parts.values():
        assert all(read(item) == content[item.name] for item in items)
    names = [name for wnid in WNIDS for name in sorted(name for name in content if wnid in name)]
    assert [item.name for item in found.parts["train"]] == names
    assert [item.label for item in found.parts["train"]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [item.name[-6:-5] for item in found.parts["test"]] == ["1", "2", "3", "4"]
    assert [item.label for item in found.parts["test"]] == [0, 2, 1, 0], "3, 1, 2, 3 by the devkit's own numbers"


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    write_archives(tmp_path / "imagenet")
    (tmp_path / "imagenet" / DEVKIT).unlink()
    with pytest.raises(ValueError, match=rf"imagenet has no {DEVKIT}: put all three"):
        find_imagenet("imagenet", tmp_path)


@pytest.mark.parametrize("keep", [100, 700, 2000, 11000])
@pytest.mark.parametrize("archive", [TRAIN, VAL, DEVKIT])
def test_an_archive_that_ends_early_is_named(tmp_path: Path, archive: str, keep: int) -> None:
    write_archives(tmp_path / "imagenet")
    path = tmp_path / "imagenet" / archive
    whole = path.read_bytes()
    path.write_bytes(whole[: min(keep, len(whole) // 2)])
    with pytest.raises(ValueError, match=f"{archive} is truncated or damaged") as caught:
        find_imagenet("imagenet", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_devkit_of_other_images_is_refused(tmp_path: Path) -> None:
    write_archives(tmp_path / "imagenet")
    (tmp_path / "imagenet" / VAL).write_bytes(tar({"ILSVRC2012_val_00000001.JPEG": b"x"}))
    with pytest.raises(ValueError, match="1 images, but 4 labels"):
        find_imagenet("imagenet", tmp_path)


@pytest.mark.parametrize("size", ["imagenette2", "imagenette2-320", "imagenette2-160"])
def test_imagenette_has_readable_names(tmp_path: Path, size: str) -> None:
    root = write_folders(tmp_path / size)
    for folder in (tmp_path, root):
        found = find_imagenette("imagenette", folder)
        assert isinstance(found, Listing)
        assert found.classes == ("tench", "English springer", "parachute")
        assert [item.label for item in found.parts["train"]] == [0, 0, 1, 1, 2, 2]
        assert [item.label for item in found.parts["test"]] == [0, 1, 2]
        assert find_imagenet("imagenet", folder) is None
    for part in ("train", "val"):
        (root / part / WNIDS[0]).rename(root / part / "n00000001")
    with pytest.raises(ValueError, match="not in the set, first n00000001"):
        find_imagenette("imagenette", tmp_path)


def test_a_folder_without_the_name_is_not_imagenette(tmp_path: Path) -> None:
    assert find_imagenette("imagenette", write_folders(tmp_path / "other")) is None


@pytest.mark.slow
def test_a_hundred_thousand_files_take_seconds_and_little_memory(tmp_path: Path) -> None:
    for number in range(100_000):
        (tmp_path / f"{number}.JPEG").touch()
    tracemalloc.start()
    items = list_class(tmp_path.parent, tmp_path.name, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(items) == 100_000
    assert peak < 100_000 * 700
