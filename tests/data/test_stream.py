"""Streams: the same images as decoded ones, in an order of their own, ahead of time, and never all at once."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tiny import QUIET, write_images

from fasthebb.data import Loader, channel_statistics, load, stream
from fasthebb.data.imageset import ImageSet
from fasthebb.data.listing import Item
from fasthebb.data.shard_writer import write_shards
from fasthebb.data.sources import find_source
from fasthebb.data.stream import Stream
from fasthebb.memory import resident_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        write_images(tmp_path / "images" / part, each=7)
    return tmp_path / "images"


@pytest.fixture
def shards(folder: Path, tmp_path: Path) -> Path:
    source = find_source(f"folder:{folder}", data_dir=None, labels_file=None, download=False, console=QUIET)
    write_shards(source, tmp_path / "shards", images_per_shard=5, console=QUIET)
    return tmp_path / "shards"


def both(spec: str) -> tuple[ImageSet, ImageSet]:
    """The training part, decoded and as a stream."""
    decoded, streamed = (load(spec, image_size=12, stream=how).train for how in (False, True))
    assert isinstance(streamed.images, Stream)
    return decoded, streamed


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_a_stream_holds_the_same_images(kind: str, folder: Path, shards: Path) -> None:
    decoded, streamed = both(f"{kind}:{folder if kind == 'folder' else shards}")
    assert streamed.images.shape == decoded.images.shape
    assert streamed.images.nbytes == decoded.images.nbytes
    assert streamed.paths == decoded.paths
    assert torch.equal(streamed.labels, decoded.labels)
    rows = torch.tensor([5, 0, 20, 5])
    assert torch.equal(streamed.pixels(rows), decoded.pixels(rows))
    some = streamed.subset(torch.tensor([3, 7, 9]))
    assert torch.equal(some.pixels(torch.tensor([2, 0])), decoded.images[[9, 3]])
    assert some.paths == tuple(decoded.paths[row] for row in (3, 7, 9))
    assert channel_statistics(streamed) == channel_statistics(decoded)


def test_statistics_of_a_sample(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fasthebb.data.loader.SAMPLE", 7)
    decoded, streamed = both(f"folder:{folder}")
    assert channel_statistics(streamed) == channel_statistics(decoded.subset(torch.arange(0, 21, 3)))


def test_fingerprints_tell_streams_apart(folder: Path) -> None:
    one, same, other = (load(f"folder:{folder}", image_size=size, stream=True).fingerprint for size in (12, 12, 13))
    assert one == same != other
    next((folder / "train" / "red").iterdir()).unlink()
    assert load(f"folder:{folder}", image_size=12, stream=True).fingerprint != one


@pytest.mark.parametrize("augment", ["none", "light"])
@pytest.mark.parametrize("views", [1, 2])
def test_batches_are_those_of_decoded_images_in_the_stream_s_order(
    augment: str, views: int, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, streamed = both(f"shards:{shards}")
    loader = Loader(streamed, 4, seed=3, augment=augment, views=views)
    monkeypatch.setattr(Loader, "order", lambda self, epoch: loader_order(epoch))
    loader_order = {epoch: streamed.images.order(loader.indices, generator(epoch)) for epoch in (0, 1)}.__getitem__
    plain = Loader(decoded, 4, seed=3, augment=augment, views=views)
    for epoch in (0, 1):
        for (x, y), (want, labels) in zip(loader.batches(epoch), plain.batches(epoch), strict=True):
            assert torch.equal(x, want)
            assert torch.equal(y, labels)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spread(files: int, each: int) -> Stream:
    """Images that lie in some files, not to be read."""
    return Stream([Item(f"{n}", 0, f"{n // each}.tar", n, 1) for n in range(files * each)], 4, 3, "crop", 0.0)


def test_an_order_holds_every_image_once_and_a_file_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WINDOW", 30)
    images = spread(40, 10)
    orders = [images.order(torch.arange(400), generator(seed)) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    for order in orders:
        assert order.sort().values.tolist() == list(range(400))
        files = order // 10
        reach = [place.nonzero().flatten() for place in (files == file for file in range(40))]
        assert max(int(at.max() - at.min()) for at in reach) < 2 * 30 + 10
        assert sum(a == b for a, b in pairwise(files.tolist())) < 200, "neighbours are mostly of other files"
    some = torch.arange(0, 400, 7)
    assert images.order(some, generator(2)).sort().values.tolist() == some.tolist()


def test_single_files_come_in_any_order() -> None:
    order = spread(300, 1).order(torch.arange(300), generator(0))
    assert order.sort().values.tolist() == list(range(300))
    assert (order - torch.arange(300)).abs().float().mean() > 60


def test_parts_read_their_own_images_alone(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, streamed = both(f"shards:{shards}")
    read: list[str] = []
    item = Stream.item
    monkeypatch.setattr(Stream, "item", lambda self, row: read.append(self.names[row]) or item(self, row))
    whole = list(Loader(streamed, 8, seed=1).batches(0))
    every, read[:] = set(read), []
    parts = [list(Loader(streamed, 8, seed=1, part=(number, 2)).batches(0)) for number in (0, 1)]
    assert len(read) == len(every) == 21
    for (x, _), *shares in zip(whole, *parts, strict=True):
        assert torch.equal(x, torch.cat([share for share, _ in shares]))


def test_batches_are_decoded_ahead_in_threads(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, streamed = both(f"shards:{shards}")
    threads = set()
    read = Stream.read

    def noted(self: Stream, rows: torch.Tensor) -> torch.Tensor:
        threads.add(threading.current_thread().name)
        return read(self, rows)

    monkeypatch.setattr(Stream, "read", noted)
    batches = Loader(streamed, 2, seed=1).batches(0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threads
    assert threading.current_thread().name not in threads


def test_an_image_that_cannot_be_read_is_black_and_named(folder: Path) -> None:
    broken = sorted((folder / "train" / "red").iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:60])
    part = load(f"folder:{folder}", image_size=12, stream=True).train
    row = next(n for n, path in enumerate(part.paths) if path.endswith(f"red/{broken.name}"))
    with pytest.warns(UserWarning, match=rf"red/{broken.name} \(.*\): it cannot be read, and a black image stands in"):
        assert not part.pixels(torch.tensor([row])).any()
    assert part.pixels(torch.tensor([row + 1])).any()
    strict = load(f"folder:{folder}", image_size=12, stream=True, max_bad=0.0).train
    with pytest.raises(ValueError, match=r"1 images cannot be read, the last one .*allow more by --max-bad"):
        strict.pixels(torch.tensor([row]))


def test_a_stream_takes_no_arrays(folder: Path) -> None:
    with pytest.raises(ValueError, match="a stream of images has no others added to it"):
        load(f"folder:{folder}", image_size=8, channels=1, unlabeled="digits", stream=True)
    assert len(load(f"folder:{folder}", image_size=8, unlabeled=f"folder:{folder}", stream=True).train) == 21 * 2


def test_memory_does_not_grow(shards: Path) -> None:
    _, streamed = both(f"shards:{shards}")
    big = ImageSet(streamed.images[torch.arange(21).repeat(500)], torch.zeros(10_500, dtype=torch.int64))
    sizes = []
    for number, _ in enumerate(Loader(big, 64).batches(0)):
        if number in (20, 160):
            sizes.append(resident_bytes())
    assert sizes[1] < 1.05 * sizes[0]
