"""Filters in closed form: what PCA and k-means find, on which patches, with which statistics in between."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from cases import LAYERS, LayerCase, error
from sklearn.decomposition import PCA
from tiny import equal, images, loader
from torch import Tensor, nn
from torch.nn import functional as F

from fasthebb.data import Loader
from fasthebb.models import sixlayer
from fasthebb.training.patches import KMeansPatches, PatchFilters, PCAPatches, fit_patches
from fasthebb.training.precision import Precision, calculate_in

METHODS: list[PatchFilters] = [PCAPatches(), KMeansPatches()]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(rows: Tensor) -> bool:
    return torch.allclose(rows.norm(dim=1), torch.ones(len(rows), dtype=rows.dtype), atol=1e-5)


class Seen:
    """A method that keeps what it is shown, and gives directions by number."""

    def __init__(self) -> None:
        self.patches: list[Tensor] = []

    def filters(self, patches: Tensor, units: int, generator: torch.Generator) -> Tensor:
        self.patches.append(patches.clone())
        return F.one_hot(torch.arange(units) % patches.shape[1], patches.shape[1]).to(patches)


def rows(x: Tensor) -> Tensor:
    """The rows of [M, K], in an order of their own."""
    return torch.unique(x.double().round(decimals=4), dim=0)


def spread(count: int = 600, size: int = 12) -> Tensor:
    """Patches [count, size] of a known covariance, not around 0."""
    basis = torch.linalg.qr(torch.randn(size, size, generator=seeded(1), dtype=torch.float64)).Q
    scales = torch.linspace(3, 0.3, size, dtype=torch.float64)
    return (torch.randn(count, size, generator=seeded(2), dtype=torch.float64) * scales) @ basis.T + 5 * basis[:, 2]


def test_pca_finds_the_components_in_order() -> None:
    patches = spread()
    found = PCAPatches().filters(patches, 8, seeded())
    want = torch.from_numpy(PCA(8).fit(patches.numpy()).components_)
    assert error((found * want).sum(1).abs(), torch.ones(8, dtype=torch.float64)) < 1e-9
    assert ((found @ patches.mean(0)) >= 0).all(), "the mean patch is not against any"


def test_pca_with_more_units_than_inputs_goes_on_with_negatives_and_random_directions() -> None:
    patches = spread()
    found = PCAPatches().filters(patches, 30, seeded())
    assert torch.equal(found[12:24], -found[:12])
    assert unit(found)
    likeness = (found @ found.T).abs().fill_diagonal_(0)
    assert likeness[24:].max() < 0.99, "random directions are others"
    assert not torch.equal(found[24:], PCAPatches().filters(patches, 30, seeded(1))[24:])


def test_kmeans_recovers_planted_prototypes() -> None:
    prototypes = torch.randn(5, 16, generator=seeded(1))
    prototypes -= prototypes.mean(1, keepdim=True)
    brightness = torch.rand(1000, 2, generator=seeded(2)) + 0.5
    noise = 0.05 * torch.randn(1000, 16, generator=seeded(3))
    patches = prototypes[torch.arange(1000) % 5] * brightness[:, :1] + 10 * brightness[:, 1:] + noise
    found = KMeansPatches().filters(patches, 20, seeded())
    assert unit(found)
    assert (F.normalize(prototypes) @ found.T).max(dim=1).values.min() > 0.99


def test_kmeans_of_too_few_patches_and_of_flat_ones_is_random() -> None:
    found = KMeansPatches().filters(torch.randn(6, 9, generator=seeded()), 10, seeded())
    assert unit(found)
    assert unit(KMeansPatches().filters(torch.ones(40, 9), 1, seeded()))


PATCHED = [c for c in LAYERS if not c.name.startswith("convT") and "unbatched" not in c.name and "vector" not in c.name]


@pytest.mark.parametrize("case", PATCHED, ids=lambda case: case.name)
def test_patches_are_what_units_see(case: LayerCase) -> None:
    torch.manual_seed(0)
    module, seen = case.make().double(), Seen()
    x = torch.randn(case.input, dtype=torch.float64)
    fit_patches(nn.Sequential(module), ["0"], [(part, None) for part in x.split(2)], seen, seed=0)
    groups, places = getattr(module, "groups", 1), []
    with torch.no_grad():
        if module.bias is not None:
            module.bias.zero_()
        for place in range(module.weight[0].numel()):  # a unit that weighs one place responds by what is there
            module.weight.zero_().flatten(1)[:, place] = 1
            y = module(x) if isinstance(module, nn.Linear) else module(x).movedim(1, -1)
            places.append(y.reshape(-1, groups, y.shape[-1] // groups)[..., 0])
    want = torch.stack(places, dim=-1)  # [M, G, K]
    assert len(seen.patches) == groups
    for group, patches in enumerate(seen.patches):
        assert patches.shape == want[:, group].shape
        assert torch.equal(rows(patches), rows(want[:, group]))


def test_a_sample_is_drawn_from_all_images_and_locations() -> None:
    count = 40
    x = torch.arange(count * 25.0).reshape(count, 1, 5, 5)
    seen = Seen()
    fit_patches(nn.Sequential(nn.Conv2d(1, 2, 1)), ["0"], [(p, None) for p in x.split(7)], seen, patches=900, seed=0)
    values = seen.patches[0].flatten()
    assert len(values) == 900
    assert len(values.unique()) == pytest.approx(1000 * (1 - math.exp(-0.9)), rel=0.1)
    assert (values // 25).long().bincount(minlength=count).min() > 5
    assert (values % 25).long().bincount(minlength=25).min() > 15


def hidden(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_children() if name.startswith(("conv", "fc")) and name != "fc6"]


def fitted(
    method: PatchFilters, *, seed: int = 0, layers: Sequence[str] | None = None, precision: Precision = "fp32"
) -> nn.Module:
    torch.manual_seed(0)
    model = calculate_in(sixlayer(image_size=24, width=0.05), precision)
    batches = Loader(images(40, side=24), 16, mean=[0.4] * 3, std=[0.2] * 3)
    fit_patches(model, layers or hidden(model), batches, method, patches=300, seed=seed)
    return model


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_hidden_layers_of_a_sixlayer_net(method: PatchFilters) -> None:
    torch.manual_seed(0)
    before, model = sixlayer(image_size=24, width=0.05), fitted(method)
    for name in hidden(before):
        old, new = before.get_submodule(name).weight, model.get_submodule(name).weight
        assert not torch.equal(old, new)
        norms = new.flatten(1).norm(dim=1)
        assert torch.allclose(norms, norms[0], rtol=1e-4), "all units alike"
        assert norms[0].item() == pytest.approx(old.flatten(1).norm(dim=1).square().mean().sqrt().item(), rel=1e-4)
        assert norms[0].item() == pytest.approx(3**-0.5, rel=0.1), "that of U(−1/√K, 1/√K)"
    assert equal(before.get_submodule("fc6").state_dict(), model.get_submodule("fc6").state_dict())


def test_a_net_in_bfloat16() -> None:
    fitted(KMeansPatches(), precision="bf16")
    wide, narrow = (fitted(PCAPatches(), precision=precision) for precision in ("fp32", "bf16"))
    for name in hidden(wide)[:2]:  # the second layer's patches are in bfloat16, what is made of them is not
        pair = (model.get_submodule(name).weight.detach().flatten(1)[:3] for model in (wide, narrow))
        assert F.cosine_similarity(*pair, dim=1).abs().min() > 0.999, name


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_the_same_seed_gives_the_same_net(method: PatchFilters) -> None:
    first = fitted(method).state_dict()
    assert equal(first, fitted(method).state_dict())
    assert equal(first, fitted(method, layers=hidden(sixlayer(width=0.05))[::-1]).state_dict()), (
        "in whatever order named"
    )
    assert not equal(first, fitted(method, seed=1).state_dict())


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Means over batches of five of each batch's channel means and unbiased variances."""
    parts, axes = x.split(5), (0, 2, 3)
    return torch.stack([p.mean(axes) for p in parts]).mean(0), torch.stack([p.var(axes) for p in parts]).mean(0)


def normalised(x: Tensor) -> Tensor:
    mean, var = (value[:, None, None] for value in statistics(x))
    return (x - mean) / (var + 1e-5).sqrt()


def test_statistics_between_layers_are_of_the_new_net() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 5, 3, bias=False)
    norms = nn.BatchNorm2d(3), nn.BatchNorm2d(4), nn.BatchNorm2d(5)
    model = nn.Sequential(norms[0], first, nn.ReLU(), norms[1], second, norms[2]).eval()
    norms[1].train()
    batches, seen = list(loader(20)), Seen()
    history = fit_patches(model, ["1", "4"], batches, seen, patches=10**6, seed=0)
    assert [m.training for m in norms] == [False, True, False], "modes are kept"
    assert [m.momentum for m in norms] == [0.1] * 3
    assert [(r["epoch"], r["step"], r["patches"]) for r in history] == [(1, 1, 20 * 100), (2, 2, 20 * 64)]
    x = torch.cat([x for x, _ in batches])
    with torch.no_grad():
        hidden = first(normalised(x)).relu()
        out = second(normalised(hidden))
    for norm, entering in zip(norms, (x, hidden, out)):
        mean, var = statistics(entering)
        assert error(norm.running_mean, mean) < 1e-4  # type: ignore[arg-type]
        assert error(norm.running_var, var) < 1e-4  # type: ignore[arg-type]
    for patches, entering in zip(seen.patches, (x, hidden)):
        assert error(patches, F.unfold(normalised(entering), 3).transpose(1, 2).flatten(0, 1)) < 1e-4


class Branches(nn.Module):
    """Two layers called against the order of their names, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.idle = nn.Linear(5, 4), nn.Linear(6, 5), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.a(self.b(x).relu())
        return out


def test_layers_are_fitted_in_the_order_of_the_forward_and_shown() -> None:
    shown: list[str] = []

    def show(layers: Sequence[str], description: str) -> Sequence[str]:
        shown.extend(layers)
        return layers

    batches, seen = [(torch.randn(9, 6), None)], Seen()
    fit_patches(Branches(), ["a", "b"], batches, seen, seed=0, show=show)
    assert [p.shape[1] for p in seen.patches] == [6, 5]
    assert shown == ["b", "a"]


@pytest.mark.parametrize(
    ("layers", "batches", "said"),
    [
        (["c"], 1, "layer 'c' is not there: name Linear or convolution layers"),
        ([""], 1, "layer '' is a Branches: name Linear or convolution layers"),
        (["idle"], 1, "layer 'idle' is not called by the forward"),
        ([], 1, "no layer is named"),
        (["a"], 0, "no images to take patches from"),
    ],
)
def test_what_cannot_be_fitted_is_refused(layers: list[str], batches: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fit_patches(Branches(), layers, [(torch.randn(9, 6), None)] * batches, PCAPatches(), seed=0)


def test_a_transposed_convolution_is_refused() -> None:
    batches = [(torch.randn(2, 3, 4, 4), None)]
    with pytest.raises(ValueError, match="layer '0' is a ConvTranspose2d: name Linear or convolution layers"):
        fit_patches(nn.Sequential(nn.ConvTranspose2d(3, 4, 2)), ["0"], batches, PCAPatches(), seed=0)


def test_a_broken_image_names_the_layer() -> None:
    model = Branches()
    with pytest.raises(FloatingPointError, match="enter layer 'b' are not finite"):
        fit_patches(model, ["a", "b"], [(torch.full((3, 6), float("nan")), None)], PCAPatches(), seed=0)
