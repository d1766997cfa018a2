"""Few labels: Hebbian pre-training against baselines as strong as a practitioner makes them, on the same labels.

The Hebbian net is SoftHebb's (see `fasthebb.study.softhebb`), frozen, under a ridge on 2 × 2 pooled features of images,
mirrored and moved ones. Baselines: the six-layer net from scratch and from a VAE, augmented, their settings chosen
inside the label budget; SoftHebb's own net from scratch; random features; filters in closed form.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fasthebb.study.options import StudyOptions, standard_rules
from fasthebb.study.softhebb import softhebb

# Of nets trained end to end. Rates above the second do not converge under thousands of features of the last layer.
SETTINGS: list[dict[str, Any]] = [
    {"finetune_lr": 1e-3, "augment": "light"},
    {"finetune_lr": 3e-3, "augment": "light"},
    {"finetune_lr": 1e-2, "augment": "light"},
    {"finetune_lr": 3e-3, "augment": "hard"},
]
# Of read-outs that labels alone do not buy: every depth of the wide net, three seeds, at most a quarter of the labels.
PLAIN: dict[str, Any] = {
    "probe_depths": [],
    "budgets": ["1%", "2%", "5%", "10%", "25%"],
    "budget_seeds": {"1%": 3, "2%": 3, "5%": 3, "10%": 3, "25%": 1},
}
# SoftHebb from weights of length 10 instead of 25: two fifths of the images of CIFAR-10 then give as good features.
SHORT: dict[str, Any] = {"batch_size": 10, "initial_scale": 0.4, "pretrain_images": 20_000}
SIX: dict[str, Any] = {"model": "sixlayer", "width": 1.0, "batch_size": 64}


def few_labels_cifar10() -> StudyOptions:
    """CIFAR-10 at 1 to 100 % of the labels, up to five seeds: hours on two cores."""
    return StudyOptions(
        recipe="few_labels_cifar10",
        data="cifar10",
        model="deephebb",
        methods=["softhebb", "scratch", "vae", "random", "kmeans-patches", "pca-patches"],
        own={
            "softhebb": SHORT,
            "scratch": SIX,
            **dict.fromkeys(("random", "kmeans-patches", "pca-patches"), PLAIN),
            "vae": {**SIX, "lr": 1e-3, "epochs": 2, "finetune": True, "probe_depths": []},
        },
        rules={**standard_rules(), "softhebb": softhebb()},
        budgets=["1%", "2%", "5%", "10%", "25%", "100%"],
        seeds=[0, 1, 2, 3, 4],
        budget_seeds={"10%": 3, "25%": 1, "100%": 1},
        epochs=1,
        lr=1.0,
        batch_size=256,
        validation=0.0,
        precision="bf16",
        probe_depths=[3],
        pool=2,
        mirror=True,
        knn=False,
        finetune=False,
        finetune_steps=1000,
        tuning=SETTINGS,
        tune_at=["1%", "10%"],
        both_twins=False,
        out=Path("runs/few_labels_cifar10"),
    )


def few_labels_fashion_mnist() -> StudyOptions:
    """Fashion-MNIST at 1 to 100 % of the labels, as `few_labels_cifar10`."""
    return replace(
        few_labels_cifar10(),
        recipe="few_labels_fashion_mnist",
        data="fashion-mnist",
        image_size=28,
        out=Path("runs/few_labels_fashion_mnist"),
    )


def few_labels_tiny_imagenet() -> StudyOptions:
    """The first 20 classes of Tiny ImageNet at 5 to 100 % of the labels, without other images: hours on two cores."""
    cifar10 = few_labels_cifar10()
    return replace(
        cifar10,
        recipe="few_labels_tiny_imagenet",
        data="tiny-imagenet",
        classes=20,
        budgets=["5%", "10%", "25%", "100%"],
        budget_seeds={"100%": 1},
        epochs=5,
        own={
            **cifar10.own,
            "softhebb": {**SHORT, "pretrain_images": None},
            "vae": {**cifar10.own["vae"], "epochs": 20},
        },
        tune_at=["5%", "25%"],
        out=Path("runs/few_labels_tiny_imagenet"),
    )
