"""Patches and unit weights rebuild what PyTorch's own layers compute."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from reference.patches import Layer, fold, patches, unit_weights

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
SIZES = (7, 6, 5)
GEOMETRIES: list[dict] = [
    {"kernel_size": 1},
    {"kernel_size": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 2, "dilation": 2, "padding": 2, "stride": 3},
    {"kernel_size": 3, "padding": "valid"},
    {"kernel_size": 3, "padding": "same", "dilation": 2},
    {"kernel_size": 4, "padding": "same"},
    {"kernel_size": 2, "padding": "same", "dilation": 3},
]
TRANSPOSED_GEOMETRIES: list[dict] = [
    {"kernel_size": 1},
    {"kernel_size": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 2, "stride": 2, "dilation": 3, "padding": 2, "output_padding": 2},
]
MODES = ("zeros", "reflect", "replicate", "circular")
CHANNELS = ((2, 3, 1), (4, 6, 2), (3, 6, 3))  # in, out, groups; the last one is depthwise


def rebuilt(layer: Layer, x: Tensor) -> list[Tensor]:
    """Return patches · unit weights, [M, C] per group."""
    seen, weights = patches(layer, x), unit_weights(layer)
    return [torch.stack([(group * w).sum(1) for w in units], dim=1) for group, units in zip(seen, weights, strict=True)]


def by_group(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the layer's output without its bias, [M, C] per group."""
    output = layer(x)
    if output.dim() == len(layer.kernel_size) + 1:
        output = output.unsqueeze(0)
    output = output.flatten(2) - layer.bias[:, None]  # [N, G·C, L]
    return [group.transpose(1, 2).flatten(0, 1) for group in output.chunk(layer.groups, dim=1)]


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).norm() <= 1e-12 * b.norm()


def check(layer: nn.Module, x: Tensor) -> None:
    assert_same(rebuilt(layer, x), by_group(layer, x))
    assert torch.equal(fold(layer, unit_weights(layer)), layer.weight)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("channels", CHANNELS, ids=("dense", "grouped", "depthwise"))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dims", CONVOLUTIONS)
def test_convolution(dims: int, mode: str, channels: tuple[int, int, int]) -> None:
    cin, cout, groups = channels
    for geometry in GEOMETRIES:
        layer = CONVOLUTIONS[dims](cin, cout, groups=groups, padding_mode=mode, dtype=torch.float64, **geometry)
        check(layer, torch.randn(2, cin, *SIZES[:dims], dtype=torch.float64))


@pytest.mark.parametrize("channels", CHANNELS, ids=("dense", "grouped", "depthwise"))
@pytest.mark.parametrize("dims", TRANSPOSED)
def test_transposed_convolution(dims: int, channels: tuple[int, int, int]) -> None:
    cin, cout, groups = channels
    for geometry in TRANSPOSED_GEOMETRIES:
        layer = TRANSPOSED[dims](cin, cout, groups=groups, dtype=torch.float64, **geometry)
        check(layer, torch.randn(2, cin, *(4, 3, 2)[:dims], dtype=torch.float64))


@pytest.mark.parametrize("layers", [CONVOLUTIONS, TRANSPOSED], ids=("plain", "transposed"))
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_unbatched_input(layers: dict[int, type[nn.Module]], dims: int) -> None:
    layer = layers[dims](2, 3, 2, stride=2, padding=1, dtype=torch.float64)
    check(layer, torch.randn(2, *SIZES[:dims], dtype=torch.float64))


def test_every_axis_has_its_own_geometry() -> None:
    plain = nn.Conv2d(2, 4, (3, 2), (1, 2), (2, 1), (2, 1), groups=2, padding_mode="reflect", dtype=torch.float64)
    check(plain, torch.randn(2, 2, 6, 5, dtype=torch.float64))
    transposed = nn.ConvTranspose2d(2, 4, (3, 2), (1, 2), (2, 1), (0, 1), groups=2, dtype=torch.float64)
    check(transposed, torch.randn(2, 2, 6, 5, dtype=torch.float64))


@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (2, 1, 3)])
def test_linear(leading: tuple[int, ...]) -> None:
    layer = nn.Linear(5, 3, dtype=torch.float64)
    x = torch.randn(*leading, 5, dtype=torch.float64)
    assert_same(rebuilt(layer, x), [(layer(x) - layer.bias).reshape(-1, 3)])
    assert torch.equal(fold(layer, unit_weights(layer)), layer.weight)


def test_order_of_a_patch() -> None:
    layer = nn.Conv2d(2, 1, 2)
    x = torch.arange(12.0).reshape(1, 2, 2, 3)
    assert patches(layer, x)[0].tolist() == [[0, 1, 3, 4, 6, 7, 9, 10], [1, 2, 4, 5, 7, 8, 10, 11]]


@pytest.mark.parametrize(
    ("mode", "first", "last"),
    [
        ("zeros", [0, 0, 1], [4, 0, 0]),
        ("reflect", [3, 2, 1], [4, 3, 2]),
        ("replicate", [1, 1, 1], [4, 4, 4]),
        ("circular", [3, 4, 1], [4, 1, 2]),
    ],
)
def test_borders(mode: str, first: list[int], last: list[int]) -> None:
    layer = nn.Conv1d(1, 1, 3, padding=2, padding_mode=mode)
    [seen] = patches(layer, torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert seen[0].tolist() == first
    assert seen[-1].tolist() == last


def test_transposed_patch_reads_what_reaches_a_location() -> None:
    layer = nn.ConvTranspose1d(1, 1, 3, stride=2)
    [seen] = patches(layer, torch.tensor([[[5.0, 7.0]]]))
    assert seen.tolist() == [[5, 0, 0], [0, 5, 0], [7, 0, 5], [0, 7, 0], [0, 0, 7]]


def test_results_are_detached_float64() -> None:
    for layer, x in itertools.product([nn.Linear(3, 2), nn.Conv1d(3, 2, 1)], [torch.ones(3, 3, requires_grad=True)]):
        for tensor in (*patches(layer, x), *unit_weights(layer), fold(layer, unit_weights(layer))):
            assert tensor.dtype is torch.float64
            assert not tensor.requires_grad
    layer = nn.Linear(3, 2, dtype=torch.float64)
    unit_weights(layer)[0].zero_()
    assert layer.weight.abs().sum() > 0
