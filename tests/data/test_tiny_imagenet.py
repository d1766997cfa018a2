"""Tiny ImageNet's official layout: folders for training, a table for validation."""

from __future__ import annotations

from pathlib import Path

import pytest

from fasthebb.data.imagenet import find_imagenet
from fasthebb.data.tiny_imagenet import find_tiny_imagenet

WNIDS = ("n01443537", "n01629819", "n12267677")


def write_set(root: Path) -> Path:
    for wnid in WNIDS:
        folder = root / "train" / wnid / "images"
        folder.mkdir(parents=True)
        (folder.parent / f"{wnid}_boxes.txt").write_text("")
        for number in (0, 10, 2):
            (folder / f"{wnid}_{number}.JPEG").write_bytes(b"x")
    (root / "val" / "images").mkdir(parents=True)
    for number in range(4):
        (root / "val" / "images" / f"val_{number}.JPEG").write_bytes(b"x")
    (root / "test" / "images").mkdir(parents=True)
    (root / "test" / "images" / "test_0.JPEG").write_bytes(b"x")
    (root / "wnids.txt").write_text("\n".join(reversed(WNIDS)))
    annotate(root, 2, 0, 1, 0)
    return root


def annotate(root: Path, *classes: int) -> None:
    lines = [f"val_{number}.JPEG\t{WNIDS[label]}\t0\t32\t44\t62\n" for number, label in enumerate(classes)]
    (root / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))


@pytest.mark.parametrize("place", ["", "tiny-imagenet-200"])
def test_training_folders_and_annotations_give_the_labels(tmp_path: Path, place: str) -> None:
    assert find_tiny_imagenet("tiny-imagenet", tmp_path) is None
    root = write_set(tmp_path / place)
    found = find_tiny_imagenet("tiny-imagenet", tmp_path)
    assert found is not None
    assert found.classes == WNIDS
    assert found.parts.keys() == {"train", "test"}
    assert [(item.name, item.label) for item in found.parts["train"]] == [
        (f"train/{wnid}/images/{wnid}_{number}.JPEG", label)
        for label, wnid in enumerate(WNIDS)
        for number in (0, 10, 2)
    ]
    assert [(item.name, item.label) for item in found.parts["test"]] == [
        ("val/images/val_0.JPEG", 2), ("val/images/val_1.JPEG", 0),
        ("val/images/val_2.JPEG", 1), ("val/images/val_3.JPEG", 0),
    ]  # fmt: skip
    assert all(Path(item.path) == root / item.name for items in found.parts.values() for item in items)
    assert all(Path(item.path).is_file() for items in found.parts.values() for item in items)
    assert find_imagenet("imagenet", tmp_path) is None, "it is not ImageNet"
    (root / "wnids.txt").unlink()
    assert find_tiny_imagenet("tiny-imagenet", tmp_path) == found


def test_what_does_not_agree_is_named(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    (root / "val" / "images" / "val_2.JPEG").rename(root / "val" / "images" / "val_9.JPEG")
    with pytest.raises(ValueError, match=r"1 files that are missing, first val/images/val_2.JPEG"):
        find_tiny_imagenet("tiny-imagenet", tmp_path)
    annotate(root, 2, 0)
    with pytest.raises(ValueError, match=r"lacks 2 images that are there, first val/images/val_3.JPEG"):
        find_tiny_imagenet("tiny-imagenet", tmp_path)
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn00000001\t0\n")
    with pytest.raises(ValueError, match=r"line 1 of .* has the class 'n00000001'"):
        find_tiny_imagenet("tiny-imagenet", tmp_path)
    (root / "wnids.txt").write_text("\n".join(WNIDS[:2]))
    with pytest.raises(ValueError, match=rf"only one of .*train and .*wnids.txt has the classes {WNIDS[2]}"):
        find_tiny_imagenet("tiny-imagenet", tmp_path)
