"""ZCA whitening: pixels lose their correlations, images still look like images.

    C = 1/M Σ x xᵀ = U diag(λ) Uᵀ        Z = U diag(1 / sqrt(λ + ε)) Uᵀ        x -> Z x

x is a flattened [C, h, w] block of a normalised image, M the number of blocks. An image with sides of up to 32 pixels
is one block; a longer side is extended by reflection, right or below, to a multiple of 32 and cut into blocks of 32,
which share one Z. Bell and Sejnowski 1997, "The 'independent components' of natural scenes are edge filters".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from fasthebb.files import atomic_write

BLOCK = 32  # pixels, the longest side of a block
ROWS = 4096  # blocks in one product
STRIPE = 512  # rows of the covariance in one product


@dataclass(frozen=True, eq=False)
class Whitening:
    """A fitted whitening, to call on normalised images.

    matrix: Z, symmetric, float32 [D, D] with D = channels · height · width of a block. block: (height, width), pixels.

    Raises ValueError if these do not fit each other.
    """

    matrix: Tensor
    channels: int
    block: tuple[int, int]

    def __post_init__(self) -> None:
        size = self.channels * self.block[0] * self.block[1]
        if self.matrix.dtype != torch.float32 or self.matrix.shape != (size, size):
            raise ValueError(
                f"a whitening of {self.channels} channels and {self.block[0]} x {self.block[1]} px needs a float32 "
                f"matrix of {size} rows and columns, not {self.matrix.dtype} {list(self.matrix.shape)}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Whiten images [N, C, H, W]: same shape and dtype, on their device.

        Raises ValueError for images of other channels or another block than those of the fit.
        """
        if (x.shape[1], _block(x)) != (self.channels, self.block):
            raise ValueError(
                f"images of {x.shape[1]} channels and {x.shape[2]} x {x.shape[3]} px do not fit a whitening of "
                f"{self.channels} channels and blocks of {self.block[0]} x {self.block[1]} px: fit one on such images"
            )
        blocks = _cut(x.float())
        white = (blocks.flatten(3) @ self.matrix.to(x.device)).view(blocks.shape)
        return _join(white)[..., : x.shape[2], : x.shape[3]].to(x.dtype).contiguous()

    def to(self, device: str | torch.device) -> Whitening:
        """The same with its matrix on `device`."""
        return replace(self, matrix=self.matrix.to(device))

    def state(self) -> dict[str, Tensor]:
        """All of it as tensors on the CPU, for `Whitening.of`."""
        return {"matrix": self.matrix.cpu(), "shape": torch.tensor([self.channels, *self.block])}

    @classmethod
    def of(cls, state: dict[str, Tensor]) -> Whitening:
        """Make it again from what `state` gave.

        Raises ValueError for anything else.
        """
        if set(state) != {"matrix", "shape"} or state["shape"].numel() != 3:
            raise ValueError(f"a whitening has a matrix and a shape of 3 numbers, not {', '.join(state) or 'nothing'}")
        channels, height, width = state["shape"].tolist()
        return cls(state["matrix"], channels, (height, width))

    def save(self, path: str | Path) -> None:
        """Write it as safetensors, whole or not at all."""
        atomic_write(path, to_safetensors(self.state()))

    @classmethod
    def load(cls, path: str | Path) -> Whitening:
        """Read what `save` wrote, bit for bit.

        Raises ValueError if there is no such file, or it holds something else.
        """
        try:
            return cls.of(from_safetensors(Path(path).read_bytes()))
        except (OSError, SafetensorError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
            raise ValueError(f"{path} is not a whitening ({reason}): fit it again") from None


def fit_whitening(batches: Iterable[tuple[Tensor, Tensor]], *, epsilon: float = 1e-2) -> Whitening:
    """Fit a whitening on normalised images, in one pass over `batches` of (x [N, C, H, W], labels); no label is read.

    Products of float32 are summed in float64, and the eigenvectors are those of float64. On one device the same batches
    give the same bits.

    Raises ValueError for an `epsilon` that is not positive, no images, images of several shapes, values not finite.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon {epsilon} must be positive")
    batches = iter(batches)
    first = next(batches, None)
    if first is None or len(first[0]) == 0:
        raise ValueError("0 images to fit a whitening to: give at least one")
    channels, block = first[0].shape[1], _block(first[0])
    size = channels * block[0] * block[1]
    total, count = torch.zeros(size, size, dtype=torch.float64, device=first[0].device), 0
    for rows in _gathered((x for x, _ in chain([first], batches)), channels, block):
        for start in range(0, size, STRIPE):  # the upper half, all that eigh reads
            total[start : start + STRIPE, start:] += rows[:, start : start + STRIPE].T @ rows[:, start:]
        count += len(rows)
    if not total.isfinite().all():
        raise ValueError("images to fit a whitening to are not finite: check their values and the normalisation")
    values, vectors = torch.linalg.eigh(total.cpu() / count, UPLO="U")
    matrix = vectors / (values.clamp(min=0) + epsilon).sqrt() @ vectors.T
    return Whitening(((matrix + matrix.T) / 2).float(), channels, block)


def _gathered(images: Iterable[Tensor], channels: int, block: tuple[int, int]) -> Iterator[Tensor]:
    """The blocks of all images, flattened to [·, D] float32, `ROWS` or somewhat more at a time."""
    waiting: list[Tensor] = []
    for x in images:
        if (x.shape[1], _block(x)) != (channels, block):
            raise ValueError(
                f"images to fit a whitening to have {x.shape[1]} channels and {x.shape[2]} x {x.shape[3]} px, those "
                f"before had {channels} and blocks of {block[0]} x {block[1]} px: give one kind"
            )
        rows = _cut(x.float()).flatten(0, 2).flatten(1)
        for start in range(0, len(rows), ROWS):
            waiting.append(rows[start : start + ROWS])
            if sum(map(len, waiting)) >= ROWS:
                yield torch.cat(waiting)
                waiting.clear()
    if waiting:
        yield torch.cat(waiting)


def _block(x: Tensor) -> tuple[int, int]:
    """Height and width of the blocks of images [N, C, H, W]."""
    return min(x.shape[2], BLOCK), min(x.shape[3], BLOCK)


def _cut(x: Tensor) -> Tensor:
    """Images [N, C, H, W] as blocks [N, rows, columns, C, h, w], extended by reflection to whole ones."""
    height, width = _block(x)
    x = F.pad(x, (0, -x.shape[3] % width, 0, -x.shape[2] % height), mode="reflect")
    count, channels = x.shape[:2]
    return x.reshape(count, channels, -1, height, x.shape[3] // width, width).permute(0, 2, 4, 1, 3, 5)


def _join(blocks: Tensor) -> Tensor:
    """Blocks [N, rows, columns, C, h, w] as images [N, C, rows · h, columns · w]."""
    return blocks.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
