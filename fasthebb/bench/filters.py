"""What each rule makes of a first layer on real images: how well classes can be read out of it, and its structure.

The layer is a convolution of 5×5 patches with stride 2. It learns without labels, by plain SGD whose rate falls to 0;
then its filters are brought to length 1, and a linear classifier sees relu(response), averaged over each quarter of the
map (Coates, Ng, Lee 2011). It is compared with a layer of random weights, PyTorch's initial ones, on the same images.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fasthebb import finish, rules
from fasthebb.data import Dataset, ImageSet, Loader, channel_statistics
from fasthebb.data.whitening import fit_whitening
from fasthebb.diagnostics import spectral_concentration
from fasthebb.evaluation import linear_probe
from fasthebb.finish import Chain, NormRate
from fasthebb.hebbian import attach
from fasthebb.summary import describe
from fasthebb.training.patches import PCAPatches

SIDE = 5  # pixels of a filter
STRIDE = 2
BATCH = 32
CHUNK = 500  # images read out at a time
MOST = 10_000  # images that are learnt from, and as many to test on
COLLAPSED = 0.99  # |cos| with the first component from which on a unit is that component
CLEAR = 1.2  # times the concentration of random filters: from here on it counts

Start = Callable[[Tensor, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Setting:
    """How a rule is trained, and what is known of where it ends.

    rule, lr, steps: of 32 images. whiten: whether images are ZCA-whitened. units: of the layer. start: initial filters
    [units, K] from those of PyTorch, patches [M, K] and a generator. fate: whether units differ at the rule's fixed
    point ("differ"), all become the first component ("collapse"), or neither is known ("open").
    """

    rule: rules.Rule
    lr: float
    steps: int = 600
    whiten: bool = False
    units: int = 96
    start: Start | None = None
    fate: Literal["differ", "collapse", "open"] = "differ"

    def words(self) -> str:
        """The setting in one line."""
        start = f", from {STARTS[self.start]}" if self.start else ""
        images = ", whitened images" if self.whiten else ""
        rule = re.sub(r"<function (\w+) at \w+>", r"\1", describe(self.rule))
        return f"`{rule}`, rate {self.lr:g}, {self.steps} steps, {self.units} units{start}{images}"


def components(w: Tensor, patches: Tensor, generator: torch.Generator) -> Tensor:
    """The principal components of patches, each scaled to responses of mean square 1."""
    found = PCAPatches().filters(patches, len(w), generator)
    return found / (patches @ found.T).square().mean(0).sqrt()[:, None]


def mixture(w: Tensor, patches: Tensor, generator: torch.Generator) -> Tensor:
    """A random rotation of those: units of mean square 1 that are uncorrelated, and look like noise."""
    rotation: Tensor = torch.linalg.qr(torch.randn(len(w), len(w), generator=generator)).Q
    return rotation @ components(w, patches, generator)


def long(w: Tensor, patches: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG001
    """Random directions of length 4: a unit that wins shrinks to length 1, and the next one's turn comes."""
    return 4 * F.normalize(w)


STARTS: dict[Start | None, str] = {
    components: "principal components", mixture: "a random mixture of principal components", long: "length 4"
}  # fmt: skip
_LENGTH_ONE = Chain((finish.max_abs, NormRate(0.08, 0.5)))

SETTINGS: Mapping[str, Setting] = {
    "HPCA": Setting(rules.HPCA(), 0.03, 2000),
    "HardWTA": Setting(rules.HardWTA(), 0.3, whiten=True),
    "KWTA": Setting(rules.KWTA(2), 0.3, whiten=True),
    "SoftWTA": Setting(rules.SoftWTA(0.02), 0.5, whiten=True),
    "ICA": Setting(rules.ICA(), 0.1, units=48, start=mixture),
    "HICA": Setting(rules.HICA(), 0.1, units=48, start=components),
    "SoftHebb": Setting(rules.SoftHebb(0.3, finish=_LENGTH_ONE), 1.0, whiten=True, start=long),
    "Krotov": Setting(rules.Krotov(finish=finish.max_abs), 0.1, whiten=True, start=long),
    "SOM": Setting(rules.SOM(radius=3.0, final_radius=0.3, steps=400), 0.3, whiten=True),
    "Hebb": Setting(rules.Hebb(finish=finish.tangent), 0.03, 300, fate="collapse"),
    "Oja": Setting(rules.Oja(), 0.03, 300, fate="collapse"),
    "Subspace": Setting(rules.Subspace(), 0.03, fate="open"),
    "WeightedSubspace": Setting(rules.WeightedSubspace(), 0.03, fate="open"),
    "BCM": Setting(rules.BCM(), 0.01, fate="open"),
    "Covariance": Setting(rules.Covariance(finish=finish.tangent), 0.03, 300, fate="open"),
    "Instar": Setting(rules.Instar(), 0.1, 300, fate="open"),
    "Trace": Setting(rules.Trace(), 0.3, whiten=True, fate="open"),
}


class Images(NamedTuple):
    """Images [N, 3, H, W], normalised and perhaps whitened, with labels [N]: some to learn from, others to test on."""

    train: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor

    def patches(self, count: int = 50_000) -> Tensor:
        """About so many patches [M, K] of the images to learn from, in their order."""
        first = F.unfold(self.train[:1], SIDE, stride=STRIDE).shape[2]
        return F.unfold(self.train[: -(-count // first)], SIDE, stride=STRIDE).mT.flatten(0, 1)


def images_of(dataset: Dataset, *, whiten: bool, most: int = MOST) -> Images:
    """Up to `most` images of each part of a data set, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    parts = [_some(part, most, generator) for part in (dataset.train, dataset.test)]
    mean, std = channel_statistics(parts[0])
    loaders = [Loader(part, CHUNK, shuffle=False, mean=mean, std=std) for part in parts]
    whitening = fit_whitening(loaders[0]) if whiten else None
    train, test = (torch.cat([whitening(x) if whitening else x for x, _ in loader]) for loader in loaders)
    return Images(train, parts[0].labels, test, parts[1].labels)


def beginning(setting: Setting, images: Images, seed: int) -> Tensor:
    """The filters [units, 3, 5, 5] that a rule starts from."""
    torch.manual_seed(seed)
    w = nn.Conv2d(images.train.shape[1], setting.units, SIDE, bias=False).weight.detach()
    if setting.start is None:
        return w
    return setting.start(w.flatten(1), images.patches(), torch.Generator().manual_seed(seed)).view_as(w)


def learn(setting: Setting, images: Images, seed: int) -> Tensor:
    """Filters [units, 3, 5, 5] that a rule learns of the images; the seed decides start and order."""
    w, generator = beginning(setting, images, seed), torch.Generator().manual_seed(seed)
    layer = nn.Conv2d(w.shape[1], w.shape[0], SIDE, stride=STRIDE, bias=False)
    layer.weight.data = w
    hebb = attach(layer, setting.rule)
    optimizer = torch.optim.SGD(hebb.parameters(), lr=setting.lr)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, setting.steps)
    for _ in range(setting.steps):
        with torch.no_grad():
            layer(images.train[torch.randint(len(images.train), (BATCH,), generator=generator)])
        hebb.write_grad()
        optimizer.step()
        falling.step()
    hebb.detach()
    return layer.weight.detach()


def probe(filters: Tensor, images: Images) -> float:
    """Accuracy in percent of the linear read-out on the test images."""
    read = linear_probe(_features(filters, images.train), images.labels)
    return read.score(_features(filters, images.test), images.test_labels)


def first_component(filters: Tensor, images: Images) -> Tensor:
    """|cos| of each filter with the first principal component of uncentred patches, [units]."""
    patches = images.patches()
    first: Tensor = torch.linalg.eigh(patches.double().T @ patches.double()).eigenvectors[:, -1]
    return (F.normalize(filters.double().flatten(1)) @ first).abs_()


def measure(setting: Setting, images: Images, seeds: Sequence[int]) -> tuple[dict[str, Any], Tensor]:
    """Figures of a rule, a value a seed, and the filters of the first seed.

    The figures: "probe" in percent; "concentration", the mean over units of `spectral_concentration`; both also with
    "random_" before, and with "start_" for a rule that starts from components or a mixture of them; "first", the mean
    over units of |cos| with the first component, and "least_first".
    """
    figures: dict[str, Any] = {"setting": setting.words(), "units": setting.units, "fate": setting.fate}
    kept = [learn(setting, images, seed) for seed in seeds]
    for seed, filters in zip(seeds, kept):
        stages = {"": filters, "random_": beginning(replace(setting, start=None), images, seed)}
        if setting.start in (components, mixture):
            stages["start_"] = beginning(setting, images, seed)
        for stage, these in stages.items():
            figures.setdefault(f"{stage}probe", []).append(probe(these, images))
            figures.setdefault(f"{stage}concentration", []).append(float(spectral_concentration(these).mean()))
        first = first_component(filters, images)
        figures.setdefault("first", []).append(float(first.mean()))
        figures.setdefault("least_first", []).append(float(first.min()))
    return figures, kept[0]


def verdict(figures: Mapping[str, Any]) -> str:
    """What the figures of a rule say; of all seeds, or it is not said."""
    if min(figures["least_first"]) >= COLLAPSED:
        return "all units are the first component"
    probes = [a > b for a, b in zip(figures["probe"], figures["random_probe"])]
    structure = [a > CLEAR * b for a, b in zip(figures["concentration"], figures["random_concentration"])]
    better = [name for name, above in (("read-out", probes), ("structure", structure)) if all(above)]
    return f"better than random in {' and '.join(better)}" if better else "no better than random"


def _features(filters: Tensor, x: Tensor) -> Tensor:
    unit = F.normalize(filters.flatten(1)).view_as(filters)
    quarters = (F.adaptive_avg_pool2d(F.relu(F.conv2d(part, unit, stride=STRIDE)), 2) for part in torch.split(x, CHUNK))
    return torch.cat([part.flatten(1) for part in quarters])


def _some(part: ImageSet, most: int, generator: torch.Generator) -> ImageSet:
    return part.subset(torch.randperm(len(part), generator=generator)[:most])
