"""Batches: every image once, an order that resumes, normalised values, seeded augmentation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fasthebb.data import ImageSet, Loader, channel_statistics
from fasthebb.data import loader as loading
from fasthebb.data.whitening import fit_whitening
from fasthebb.memory import peak_bytes, reset_peak, resident_bytes


def numbered(count: int, channels: int = 1, side: int = 2) -> ImageSet:
    """Image i is all i."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, channels, side, side).clone()
    return ImageSet(images, torch.arange(count))


def noise(count: int, side: int = 16) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(count))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 9), st.booleans())
def test_every_image_once_and_never_alone(count: int, size: int, epoch: int, shuffle: bool) -> None:
    loader = Loader(numbered(count), size, shuffle=shuffle)
    batches = list(loader.batches(epoch))
    assert len(batches) == len(loader)
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == list(range(count))
    sizes = [len(x) for x, _ in batches]
    assert all(n == size for n in sizes[:-1])
    assert sizes[-1] <= size + 1
    if size > 1 and count > 1:
        assert min(sizes) > 1
    for x, labels in batches:
        assert torch.equal((x[:, 0, 0, 0] * 255).round().long(), labels)


@pytest.mark.parametrize("augment", ["none", "light", "hard", "contrast"])
def test_resume_within_an_epoch_is_exact(augment: str) -> None:
    loader = Loader(noise(21), 4, seed=3, augment=augment)
    whole = list(loader.batches(5))
    resumed = list(Loader(noise(21), 4, seed=3, augment=augment).batches(5, start=2))
    assert len(whole) == 5
    assert len(resumed) == 3
    for (x, y), (x2, y2) in zip(whole[2:], resumed):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    assert list(loader.batches(5, start=5)) == []
    with pytest.raises(ValueError, match="start 6 is not a batch: an epoch has 5"):
        loader.batches(5, start=6)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(loader: Loader) -> tuple[int, ...]:
        return tuple(torch.cat([labels for _, labels in loader]).tolist())

    loader = Loader(numbered(30), 4)
    first = order(loader)
    torch.manual_seed(1)
    assert order(loader) == first
    loader.set_epoch(1)
    orders = {first, order(loader), order(Loader(numbered(30), 4, seed=1))}
    assert len(orders) == 3
    assert order(Loader(numbered(30), 4, shuffle=False)) == tuple(range(30))


@pytest.mark.parametrize("shuffle", [False, True])
def test_order_tells_the_images_of_the_batches(shuffle: bool) -> None:
    loader = Loader(numbered(30), 4, indices=[5, 29, 2, 7, 11, 3], shuffle=shuffle)
    for epoch in (0, 3):
        order = loader.order(epoch)
        assert order.dtype == torch.int64
        assert torch.equal(order, torch.cat([labels for _, labels in loader.batches(epoch)]))
    assert torch.equal(loader.order(0), loader.order(3)) != shuffle


def test_views_are_the_same_images_augmented_anew() -> None:
    once = Loader(noise(11), 5, seed=3)
    loader = Loader(noise(11), 5, seed=3, views=2)
    assert len(loader) == len(once) == 2
    for (x, labels), (x2, labels2) in zip(once, loader):
        assert torch.equal(x2, torch.cat([x, x]))
        assert torch.equal(labels2, torch.cat([labels, labels]))
    for augment in ("light", "contrast"):
        loader = Loader(noise(11), 5, seed=3, augment=augment, views=2)
        whole = list(loader)
        for x, labels in whole:
            first, second = x.chunk(2)
            assert torch.equal(*labels.chunk(2))
            assert (first != second).flatten(1).any(1).sum() > len(first) / 2
        ((x, _),) = loader.batches(0, start=1)
        assert torch.equal(x, whole[1][0])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(torch.arange(9) > 5, r"a mask: give mask.nonzero\(\)"), (torch.tensor([0.5, 1.0]), "are float32: give whole")],
)
def test_what_is_no_index(wrong: torch.Tensor, said: str) -> None:
    pictures = numbered(9)
    for use in (pictures.subset, lambda indices: Loader(pictures, 4, indices=indices)):
        with pytest.raises(ValueError, match=said):
            use(wrong)


def test_indices() -> None:
    loader = Loader(numbered(30), 4, indices=torch.tensor([7, 3, 20]), shuffle=False)
    assert [labels.tolist() for _, labels in loader] == [[7, 3, 20]]
    assert [labels.tolist() for _, labels in Loader(numbered(9), 2, indices=[1, 2, 3], shuffle=False)] == [[1, 2, 3]]


def test_normalised_by_the_channel_statistics() -> None:
    images = noise(50)
    images.images[:, 2] = 77
    mean, std = channel_statistics(images)
    scaled = images.images.double() / 255
    torch.testing.assert_close(torch.tensor(mean).double(), scaled.mean((0, 2, 3)))
    torch.testing.assert_close(torch.tensor(std[:2]).double(), scaled.std((0, 2, 3), correction=0)[:2])
    assert std[2] == 1
    ((x, _),) = Loader(images, 50, mean=mean, std=std, shuffle=False)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x[:, :2].std((0, 2, 3), correction=0), torch.ones(2))
    with pytest.raises(ValueError, match="0 images have no channel statistics"):
        channel_statistics(images.subset([]))


def test_statistics_count_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(50)
    whole = channel_statistics(images)
    for chunk in (1, 7000):
        monkeypatch.setattr(loading, "CHUNK", chunk)
        assert channel_statistics(images) == whole


def test_statistics_of_many_images_need_little_memory() -> None:
    many = noise(1, side=64).images.expand(40_000, -1, -1, -1)  # 490 MB, if they were there
    if not reset_peak():
        pytest.skip("this system does not tell its peak memory")
    before = resident_bytes()
    channel_statistics(ImageSet(many, torch.zeros(40_000, dtype=torch.int64)))
    assert peak_bytes() - before < 200e6


def test_memory_mapped_images_are_read_where_a_batch_needs_them(tmp_path: Path) -> None:
    shape = (6 * 2**30 // (3 * 64 * 64), 3, 64, 64)  # 6 GiB: a file of holes
    pixels = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=shape)
    chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:64]
    pixels[chosen.numpy()] = (chosen % 251).numpy().astype(np.uint8)[:, None, None, None]
    before = resident_bytes()
    loader = Loader(ImageSet(torch.from_numpy(pixels), torch.arange(len(pixels))), 16, indices=chosen, augment="light")
    for x, labels in loader:
        assert torch.equal((x[:, 2, 7, 63] * 255).round().long(), labels % 251)
    assert resident_bytes() - before < 1e9


@pytest.mark.parametrize("resident", [0, 4 << 30])
def test_batches_come_on_the_device(monkeypatch: pytest.MonkeyPatch, resident: int) -> None:
    monkeypatch.setattr(loading, "RESIDENT", resident)
    whiten = fit_whitening(Loader(noise(8, side=8), 4))
    loader = Loader(noise(8, side=8), 4, device="meta", mean=[0.5] * 3, augment="light", whiten=whiten)
    assert loader._images.images.device.type == ("meta" if resident else "cpu")
    for x, labels in loader:
        assert x.device.type == labels.device.type == "meta"
        assert x.shape == (4, 3, 8, 8)


def test_whitening_comes_last() -> None:
    options = {"batch_size": 4, "mean": [0.4] * 3, "std": [0.2] * 3, "augment": "hard"}
    plain = Loader(noise(21, side=8), **options)  # type: ignore[arg-type]
    whiten = fit_whitening(plain)
    for (x, labels), (white, same) in zip(plain, Loader(noise(21, side=8), whiten=whiten, **options)):  # type: ignore[arg-type]
        assert torch.equal(white, whiten(x))
        assert torch.equal(labels, same)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch size 0 must be at least 1"),
        ({"views": 0}, "views 0 must be at least 1"),
        ({"augment": "heavy"}, "augment 'heavy' is unknown: choose from none, light, hard"),
        ({"seed": -1}, "seed -1 must not be negative"),
        ({"indices": []}, "0 images to go through"),
        ({"indices": [0, 30]}, "indices from 0 to 30 do not fit 30 images"),
        ({"indices": [-1]}, "indices from -1 to -1 do not fit 30 images"),
        ({"mean": (0.5, 0.5)}, r"mean \[0.5, 0.5\] does not fit images of 1 channels"),
        ({"mean": (float("nan"),)}, r"mean \[nan\] must be finite"),
        ({"std": (0.0,)}, r"std \[0.0\] must be finite and positive"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Loader(numbered(30), **({"batch_size": 4} | options))  # type: ignore[arg-type]
