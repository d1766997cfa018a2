"""The published experiments, one method each, with their hyper-parameters.

Source: Lagani, Gennaro, Fassold, Amato 2022 (arXiv 2207.03172) and the configurations of the authors' code. Where
these differ the recipe is of the time of the paper, and one called `…_later` of the code: there rates are ten times
higher, and HPCA's updates are divided by √K. Budgets are fractions of what validation leaves of the training images,
written as counts, and not balanced by class. Fine-tuning is of the net cut at every depth, and of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fasthebb import finish
from fasthebb.rules import HPCA, SoftWTA
from fasthebb.study.options import StudyOptions

SHARES = (1, 2, 3, 4, 5, 10, 25, 100)  # percent


@dataclass(frozen=True)
class Images:
    """A data set as published: training images that validation leaves, those it takes, L2 penalty, depths of a cut."""

    data: str
    train: int
    validation: int
    weight_decay: float
    depths: list[int]

    def study(self, name: str, method: str) -> StudyOptions:
        """One method on it, with what all of them share."""
        return StudyOptions(
            recipe=name,
            methods=[method],
            budgets=[str((self.train * share + 50) // 100) for share in SHARES],
            seeds=[0, 1, 2, 3, 4],
            data=self.data,
            validation=math.ceil(1e9 * self.validation / (self.train + self.validation)) / 1e9,  # rounded down later
            finetune_lr=1e-3,
            finetune_epochs=20,
            finetune_depths=self.depths,
            weight_decay=self.weight_decay,
            balanced=False,
            probe_method="sgd",
            svm=True,
            retrieval=True,
            out=Path("runs") / name,
        )


SMALL = {
    "cifar10": Images("cifar10", 40_000, 10_000, 5e-2, [1, 2, 3, 4]),
    "cifar100": Images("cifar100", 40_000, 10_000, 1e-2, [1, 2, 3, 4]),
    "tinyimagenet": Images("tiny-imagenet", 90_000, 10_000, 5e-3, [1, 2, 3, 4]),
}
IMAGENET = Images("imagenet", 1_231_167, 50_000, 1e-3, [1, 2, 3, 4, 5, 6, 7, 8])


def hpca(images: Images, name: str) -> StudyOptions:
    """Hebbian PCA at the paper's rate."""
    return replace(images.study(name, "hpca"), rules={"hpca": HPCA()}, lr=1e-3)


def hpca_later(images: Images, name: str) -> StudyOptions:
    """Hebbian PCA as in the later code."""
    return replace(hpca(images, name), rules={"hpca": HPCA(finish=finish.fan_in)}, lr=1e-2)


def swta(images: Images, name: str) -> StudyOptions:
    """Soft winner-take-all on whitened images, at the paper's rate."""
    return replace(images.study(name, "swta"), rules={"swta": SoftWTA(temperature=0.02)}, lr=1e-3, whiten=["swta"])


def swta_later(images: Images, name: str) -> StudyOptions:
    """Soft winner-take-all as in the later code."""
    return replace(swta(images, name), lr=1e-2)


def vae(images: Images, name: str) -> StudyOptions:
    """The variational auto-encoder to compare with."""
    return replace(images.study(name, "vae"), lr=1e-3)


def scratch(images: Images, name: str) -> StudyOptions:
    """Supervised training from initial weights."""
    return images.study(name, "scratch")


def imagenet(method: Callable[[Images, str], StudyOptions], lr: float, name: str) -> StudyOptions:
    """A method on ImageNet: the ten-layer net at 210 pixels, batches of 32, a rate of its own."""
    return replace(method(IMAGENET, name), model="tenlayer", image_size=210, batch_size=32, lr=lr)


VARIANTS = {
    "hpca": hpca, "hpca_later": hpca_later, "swta": swta, "swta_later": swta_later, "vae": vae, "scratch": scratch,
}  # fmt: skip
RATES = {"hpca": 1e-4, "hpca_later": 1e-3, "swta": 1e-3, "swta_later": 1e-3}  # on ImageNet

PAPER: dict[str, Callable[[], StudyOptions]] = {
    **{
        f"paper_{data}_{method}": partial(function, images, f"paper_{data}_{method}")
        for data, images in SMALL.items()
        for method, function in VARIANTS.items()
    },
    **{
        f"paper_imagenet_{method}": partial(imagenet, VARIANTS[method], lr, f"paper_imagenet_{method}")
        for method, lr in RATES.items()
        if method != "swta_later"  # it is swta
    },
}
