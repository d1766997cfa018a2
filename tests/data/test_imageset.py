"""Images that fit their labels, and a fingerprint that sees every change of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from painted import fill

from fasthebb.data import ImageSet, load


def test_image_set() -> None:
    images = ImageSet(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, -1, 1]), ("a", "b", "c"))
    part = images.subset([2, 0])
    assert len(part) == 2
    assert part.labels.tolist() == [1, 0]
    assert part.paths == ("c", "a")
    with pytest.raises(ValueError, match=r"images are torch.float32 \[3, 1, 2, 2\]: give uint8"):
        ImageSet(images.images.float(), images.labels)
    with pytest.raises(ValueError, match=r"labels are torch.int64 \[2\]: give int64 \[3\]"):
        ImageSet(images.images, images.labels[:2])
    with pytest.raises(ValueError, match="1 paths for 3 images"):
        ImageSet(images.images, images.labels, ("a",))


def test_a_fingerprint_sees_every_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "ab", 5)
    data = load(f"folder:{tmp_path}", image_size=4)
    assert data.fingerprint == load(f"folder:{tmp_path}", image_size=4).fingerprint
    assert len(data.fingerprint) == 32
    part = data.train
    pixels, labels = part.images.clone(), part.labels.clone()
    pixels[-1, -1, -1, -1] ^= 1
    labels[3] = -1
    changed = [
        replace(data, classes=("a", "c")),
        replace(data, test=data.train, train=data.test),
        replace(data, val=data.test),
        replace(data, train=ImageSet(pixels, part.labels, part.paths)),
        replace(data, train=ImageSet(part.images, labels, part.paths)),
        replace(data, train=ImageSet(part.images, part.labels, (*part.paths[:-1], "x"))),
        replace(data, train=ImageSet(part.images.reshape(-1, 3, 2, 8), part.labels, part.paths)),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in changed)}) == len(changed) + 1
    assert replace(data, name="other", skipped=3).fingerprint == data.fingerprint
    monkeypatch.setattr("fasthebb.data.imageset.HASHED", 4 * 48)
    sampled = replace(data).fingerprint
    assert sampled != data.fingerprint
    pixels = part.images.clone()
    pixels[1] ^= 1  # every second of the eight is looked at
    assert replace(data, train=ImageSet(pixels, part.labels, part.paths)).fingerprint == sampled
    pixels[2] ^= 1
    assert replace(data, train=ImageSet(pixels, part.labels, part.paths)).fingerprint != sampled
