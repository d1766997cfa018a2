"""The experiments that fasthebb ships: data sets and nets of a size for two cores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fasthebb.finish import fan_in
from fasthebb.study.options import StudyOptions, standard_rules


def digits() -> StudyOptions:
    """Scikit-learn's digits, enlarged to the six-layer net at a quarter of its width: minutes on two cores."""
    return StudyOptions(
        recipe="digits",
        data="digits",
        width=0.25,
        budgets=["50", "100", "200"],
        epochs=3,
        rules=standard_rules(fan_in),
        lr=0.1,
        finetune_lr=1e-2,
        finetune_steps=150,
        out=Path("runs/digits"),
    )


def fashion_mnist() -> StudyOptions:
    """Fashion-MNIST on the six-layer net at an eighth of its width, every method: within an hour on two cores."""
    return replace(
        digits(),
        recipe="fashion_mnist",
        data="fashion-mnist",
        methods=["hpca", "swta", "vae", "pca-patches", "kmeans-patches", "random", "scratch"],
        width=0.125,
        image_size=28,
        budgets=["1%", "5%", "10%"],
        epochs=1,
        rates={"vae": 1e-2},
        finetune_lr=3e-2,
        finetune_steps=1500,
        augment="light",
        retrieval=True,
        out=Path("runs/fashion_mnist"),
    )


def cifar10() -> StudyOptions:
    """CIFAR-10 on the six-layer net at a quarter of its width: hours on two cores."""
    return replace(
        fashion_mnist(),
        recipe="cifar10",
        data="cifar10",
        width=0.25,
        image_size=32,
        epochs=2,
        whiten=["swta"],
        out=Path("runs/cifar10"),
    )
