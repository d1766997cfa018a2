"""What enters a layer, for every image of a loader: computed once, kept on disk, read batch by batch.

`folder/LAYER-KEY.npy` holds one row an image, in the order of the loader's epoch 0. A file of that name is whole, and
KEY is a hash of what its rows follow from, weights and order and, of the images, the first batch: one that an
interrupted run left is used again where these are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor, nn

from fasthebb.files import atomic_save
from fasthebb.training.forward import entering, modules_before

_NAME = re.compile(r"\.?.+-[0-9a-f]{32}\.npy(\.\d+\.part)?")  # whole, or left by a process that died


class Activations:
    """The inputs of one layer after the other of a model, for the images of a loader.

    Args:
        folder: for the files of this process alone; made when it is needed.
        model: on its device.
        loader: a `fasthebb.data.Loader`, or whatever has its `order`, `batches`, `batch_size` and `augment`.
        show: passes numbers of batches on, and shows them with a description to whoever looks on.

    Raises:
        ValueError: the loader does not tell the order of its images, or gives other images every epoch.
    """

    def __init__(
        self, folder: Path, model: nn.Module, loader: Any, show: Callable[[range, str], Iterable[int]]
    ) -> None:
        if not all(hasattr(loader, name) for name in ("order", "batches", "batch_size", "augment")):
            raise ValueError(
                f"{type(loader).__name__} does not tell the order of its images: use fasthebb.data.Loader, "
                "or leave --cache-activations out"
            )
        if loader.augment != "none":
            raise ValueError(
                f"augment {loader.augment!r} makes other images every epoch, whose activations cannot be kept: "
                "give none, or leave --cache-activations out"
            )
        self._folder, self._model, self._loader, self._show = folder, model, loader, show
        order = loader.order(0)
        self._row = torch.empty(int(order.max()) + 1, dtype=torch.int64)  # of an image of the set
        self._row[order] = torch.arange(len(order))
        self._rows: Any = None
        self._example = torch.empty(0)

    def open(self, layer: str, example: Tensor) -> None:
        """Turn to the inputs of a layer: computed unless they are there. The files of other layers are removed.

        What is before the layer must be in eval mode, and stay as it is until the next call. `example` is a batch of
        these inputs, for its shape, number and memory format.
        """
        self._example = example
        path = self._folder / f"{quote(layer, safe='')}-{self._key(layer)}.npy"
        self._remove(all_but=path)
        self._rows = self._read(path)
        if self._rows is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            atomic_save(path, lambda file: self._compute(layer, file))
            self._rows = self._read(path)
        assert self._rows is not None

    def __call__(self, images: Tensor) -> Tensor:
        """What enters the layer of images, given as indices into the set (int64 [B]): a copy, on the CPU."""
        rows = torch.from_numpy(self._rows[self._row[images].numpy()]).to(self._example.dtype)
        return rows.movedim(-1, 1) if _channels_last(self._example) else rows

    def remove(self) -> None:
        """Remove the files, and the folder if it is empty then."""
        self._rows = None
        self._remove()
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _compute(self, layer: str, file: BinaryIO) -> None:
        shape, dtype = self._kind()
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        npy.write_array_header_2_0(file, header)
        numbers = self._show(range(len(self._loader)), f"inputs of {layer}")
        with entering(self._model, layer) as enter:
            for _, (x, _labels) in zip(numbers, self._loader.batches(0)):
                file.write(self._stored(enter(x.to(self._example.device))).tobytes())

    def _read(self, path: Path) -> Any:
        # The rows of a file; None if there is none, or it is not what it should be.
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return rows if (rows.shape, rows.dtype) == self._kind() else None

    def _kind(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        row = self._stored(self._example[:1])
        return (len(self._loader.order(0)), *row.shape[1:]), row.dtype

    def _stored(self, x: Tensor) -> np.ndarray[Any, Any]:
        # As the file holds it: float32 at least, in the order in which it lies in memory.
        x = x.to("cpu", torch.promote_types(x.dtype, torch.float32))
        return (x.movedim(1, -1) if _channels_last(self._example) else x).numpy()

    def _key(self, layer: str) -> str:
        x = next(self._loader.batches(0))[0]
        values = [self._loader.order(0), torch.tensor(self._loader.batch_size), x]
        for module in modules_before(self._model, layer, x[:2].to(self._example.device)):
            values += [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        digest = hashlib.blake2b(digest_size=16)
        for value in values:
            digest.update(f"{value.dtype} {list(value.shape)}".encode())
            digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _remove(self, all_but: Path | None = None) -> None:
        for file in self._folder.glob("*.npy*"):
            if _NAME.fullmatch(file.name) and file != all_but:
                file.unlink()


class ImageNumbers:
    """The batches of a loader: images themselves in its first epochs, indices into the set (int64 [B]) from then on.

    Args:
        loader: as of `Activations`.
        epochs: how many epochs give images.
    """

    def __init__(self, loader: Any, epochs: int) -> None:
        self._loader, self._epochs = loader, epochs

    def __len__(self) -> int:
        return len(self._loader)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the batches of an epoch from number `start` on; the second of a pair is nothing to read."""
        if epoch < self._epochs:
            yield from self._loader.batches(epoch, start)
            return
        order, size = self._loader.order(epoch), self._loader.batch_size
        for number in range(start, len(self)):
            stop = len(order) if number == len(self) - 1 else (number + 1) * size
            yield (order[number * size : stop],) * 2


def _channels_last(x: Tensor) -> bool:
    return x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
