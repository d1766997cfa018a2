"""Whitening: the formula by literal loops, blocks of large images, files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fasthebb.data import whitening
from fasthebb.data.whitening import Whitening, fit_whitening

EPSILON = 1e-2


def images(count: int, channels: int, height: int, width: int) -> Tensor:
    """Smooth noise off zero: neighbours are alike, as in photographs."""
    generator = torch.Generator().manual_seed(count)
    rough = torch.randn(count, channels, height, width, generator=generator)
    return rough.cumsum(2).cumsum(3) / (height * width) ** 0.5 + 0.3


def batches(x: Tensor, size: int = 7) -> Iterator[tuple[Tensor, Tensor]]:
    """No labels, so that reading one fails."""
    return ((part, None) for part in x.split(size))  # type: ignore[misc,no-untyped-call]


def literal_blocks(image: np.ndarray, side: int) -> dict[tuple[int, int], np.ndarray]:
    """By top left corner, the blocks of one image [C, H, W]; behind the edge it goes on mirrored."""
    channels, height, width = image.shape
    tall, wide = min(side, height), min(side, width)
    found = {}
    for top in range(0, height, tall):
        for left in range(0, width, wide):
            block = np.empty((channels, tall, wide))
            for i in range(tall):
                for j in range(wide):
                    y, x = top + i, left + j
                    block[:, i, j] = image[
                        :, y if y < height else 2 * (height - 1) - y, x if x < width else 2 * (width - 1) - x
                    ]
            found[top, left] = block.flatten()
    return found


def literal_matrix(x: Tensor, side: int, epsilon: float = EPSILON) -> tuple[np.ndarray, np.ndarray]:
    """Z and the uncentred covariance."""
    blocks = [block for image in x.double().numpy() for block in literal_blocks(image, side).values()]
    covariance = sum(np.outer(block, block) for block in blocks) / len(blocks)
    values, vectors = np.linalg.eigh(covariance)
    z = sum(np.outer(u, u) / np.sqrt(value + epsilon) for value, u in zip(values, vectors.T))
    return z, covariance


def distance(a: Tensor, b: np.ndarray) -> float:
    return float(np.linalg.norm(a.double().numpy() - b) / np.linalg.norm(b))


@pytest.mark.parametrize("epsilon", [1e-2, 0.5])
def test_the_matrix_is_the_formula(epsilon: float) -> None:
    x = images(60, 2, 5, 4)
    fitted = fit_whitening(batches(x), epsilon=epsilon)
    expected, _ = literal_matrix(x, 32, epsilon)
    assert fitted.matrix.dtype == torch.float32
    assert torch.equal(fitted.matrix, fitted.matrix.T)
    assert (fitted.channels, fitted.block) == (2, (5, 4))
    assert distance(fitted.matrix, expected) < 1e-5
    white = np.stack([(expected @ image.flatten()).reshape(image.shape) for image in x.double().numpy()])
    assert distance(fitted(x), white) < 1e-5


def test_the_covariance_becomes_its_share_of_itself_and_epsilon() -> None:
    x = images(500, 1, 6, 6)
    white = fit_whitening(batches(x, 100))(x).flatten(1).double().numpy()
    _, covariance = literal_matrix(x, 32)
    values, vectors = np.linalg.eigh(covariance)
    expected = vectors * (values / (values + EPSILON)) @ vectors.T
    assert distance(torch.from_numpy(white.T @ white / len(white)), expected) < 1e-4


@pytest.mark.parametrize(("height", "width"), [(8, 12), (6, 7), (5, 3), (4, 9)])
def test_longer_sides_are_whitened_in_blocks(monkeypatch: pytest.MonkeyPatch, height: int, width: int) -> None:
    monkeypatch.setattr(whitening, "BLOCK", 4)
    x = images(40, 2, height, width)
    fitted = fit_whitening(batches(x))
    expected, _ = literal_matrix(x, 4)
    assert fitted.block == (4, min(4, width))
    assert distance(fitted.matrix, expected) < 1e-5
    white = np.full((len(x), 2, height + 4, width + 4), np.nan)
    for number, image in enumerate(x.double().numpy()):
        for (top, left), block in literal_blocks(image, 4).items():
            white[number, :, top : top + 4, left : left + fitted.block[1]] = (expected @ block).reshape(
                2, *fitted.block
            )
    assert fitted(x).is_contiguous()
    assert distance(fitted(x), white[:, :, :height, :width]) < 1e-5


def test_blocks_are_32_pixels() -> None:
    fitted = fit_whitening(batches(images(2, 1, 33, 70)))
    assert fitted.block == (32, 32)
    assert fitted(images(1, 1, 70, 45)).shape == (1, 1, 70, 45)  # any size of 32 or more


def test_sums_in_float32_products_are_close_to_float64() -> None:
    x = images(5000, 3, 8, 8) * 3
    flat = x.flatten(1).double()
    values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
    assert values[-1] > 2e4 * EPSILON
    exact = (vectors / (values + EPSILON).sqrt() @ vectors.T).numpy()
    assert distance(fit_whitening(batches(x, 512)).matrix, exact) < 1e-4


def test_the_same_batches_give_the_same_bits_and_other_batches_nearly(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(100, 3, 8, 8)
    first = fit_whitening(batches(x)).matrix
    assert torch.equal(first, fit_whitening(batches(x)).matrix)
    monkeypatch.setattr(whitening, "ROWS", 13)
    monkeypatch.setattr(whitening, "STRIPE", 50)
    for size in (1, 30, 100):
        assert distance(fit_whitening(batches(x, size)).matrix, first.double().numpy()) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_images_keep_their_dtype(dtype: torch.dtype) -> None:
    x = images(9, 1, 4, 4)
    fitted = fit_whitening(batches(x))
    white = fitted(x.to(dtype))
    assert white.dtype == dtype
    assert distance(white, fitted(x).double().numpy()) < 0.02


def test_a_file_holds_every_bit(tmp_path: Path) -> None:
    fitted = fit_whitening(batches(images(30, 3, 4, 5)))
    fitted.save(tmp_path / "whitening.safetensors")
    for again in (Whitening.load(tmp_path / "whitening.safetensors"), Whitening.of(fitted.state())):
        assert torch.equal(again.matrix, fitted.matrix)
        assert (again.channels, again.block) == (3, (4, 5))
    assert [path.name for path in tmp_path.iterdir()] == ["whitening.safetensors"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "whitening.safetensors"
    with pytest.raises(ValueError, match=r"safetensors is not a whitening \(No such file or directory\): fit it again"):
        Whitening.load(path)
    fit_whitening(batches(images(3, 1, 2, 2))).save(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="is not a whitening"):
        Whitening.load(path)
    for other in (
        {"weight": torch.zeros(4, 4)},
        {"matrix": torch.zeros(4, 4), "shape": torch.tensor([1, 2, 3])},
        {"matrix": torch.zeros(4, 4).double(), "shape": torch.tensor([1, 2, 2])},
        {"matrix": torch.zeros(4, 4), "shape": torch.tensor([4])},
    ):
        save_file(other, path)
        with pytest.raises(ValueError, match="is not a whitening") as caught:
            Whitening.load(path)
        assert "\n" not in str(caught.value)


def test_images_that_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="0 images to fit a whitening to"):
        fit_whitening([])
    with pytest.raises(ValueError, match="0 images to fit a whitening to"):
        fit_whitening(batches(torch.zeros(0, 1, 2, 2)))
    with pytest.raises(ValueError, match="epsilon 0 must be positive"):
        fit_whitening(batches(images(3, 1, 2, 2)), epsilon=0)
    with pytest.raises(ValueError, match="are not finite"):
        fit_whitening(batches(torch.full((2, 1, 2, 2), torch.nan)))
    with pytest.raises(ValueError, match="have 1 channels and 3 x 2 px, those before had 1 and blocks of 2 x 2 px"):
        fit_whitening([*batches(images(3, 1, 2, 2)), *batches(images(3, 1, 3, 2))])


def test_images_that_do_not_fit_the_whitening() -> None:
    fitted = fit_whitening(batches(images(3, 1, 2, 2)))
    for wrong in (images(3, 2, 2, 2), images(3, 1, 2, 3)):
        with pytest.raises(ValueError, match="do not fit a whitening of 1 channels and blocks of 2 x 2 px"):
            fitted(wrong)
