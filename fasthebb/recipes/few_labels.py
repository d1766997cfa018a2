"""Few labels: Hebbian pre-training against baselines as strong as a practitioner makes them, on the same labels.

The Hebbian net is SoftHebb's (see `fasthebb.study.softhebb`), frozen, under a ridge on 2 × 2 pooled features of images
and mirrored ones; it also teaches a six-layer net. Baselines: the six-layer net from scratch and from a VAE, augmented,
their settings chosen inside the label budget; random features; filters in closed form.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fasthebb.study.options import PATCHES, StudyOptions, standard_rules
from fasthebb.study.softhebb import softhebb

# Of nets trained end to end. Under thousands of features of the last layer a rate of 1e-2 does not converge, and hidden
# layers may learn faster than that layer.
SETTINGS: list[dict[str, Any]] = [
    {"finetune_lr": 3e-4, "hidden_rate": 10.0, "weight_decay": 5e-4, "augment": "light"},
    {"finetune_lr": 1e-3, "hidden_rate": 1.0, "weight_decay": 5e-3, "augment": "light"},
    {"finetune_lr": 1e-3, "hidden_rate": 10.0, "weight_decay": 5e-4, "augment": "light"},
    {"finetune_lr": 3e-4, "hidden_rate": 10.0, "weight_decay": 5e-4, "augment": "hard"},
]
SIX: dict[str, Any] = {"model": "sixlayer", "width": 1.0, "batch_size": 64, "finetune_batch_size": 128}
STUDENT: dict[str, Any] = {
    "student": True,
    "budget_seeds": {},
    "finetune_lr": 3e-3,
    "finetune_batch_size": 128,
    "augment": "light",
    "weight_decay": 5e-4,
    "tuning": [],
}


def few_labels_cifar10() -> StudyOptions:
    """CIFAR-10 at 1 to 100 % of the labels, up to five seeds: hours on two cores."""
    few = ["1%", "2%", "5%"]
    return StudyOptions(
        recipe="few_labels_cifar10",
        data="cifar10",
        model="deephebb",
        methods=["softhebb", "scratch", "vae", "random", *PATCHES, "teaching"],
        own=_own(few, {**dict.fromkeys([*few, "10%"], 3), "25%": 1}, images=20_000, vae_epochs=2),
        rules={**standard_rules(), "softhebb": softhebb()},
        budgets=[*few, "10%", "25%", "100%"],
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
        finetune_steps=1500,
        tuning=SETTINGS,
        tune_at=["1%", "10%"],
        both_twins=False,
        out=Path("runs/few_labels_cifar10"),
    )


def few_labels_fashion_mnist() -> StudyOptions:
    """Fashion-MNIST at 1 to 100 % of the labels, as `few_labels_cifar10`, but read out at 3 × 3 cells.

    Its things stand upright in the middle, and where a feature is tells more: on 5000 training images outside the label
    budget, 3 × 3 cells were a point better at 600 to 3000 labels than 2 × 2. All labels are read out at 2 × 2 alone,
    which 3 × 3 cells would make five times as dear.
    """
    base = few_labels_cifar10()
    fine = {"budgets": [*base.own["teaching"]["budgets"], "10%", "25%"], "budget_seeds": {"10%": 3, "25%": 1}}
    coarse = {**base.own["softhebb"], "is": "softhebb", "title": "SoftHebb, 2 × 2 cells", "pool": 2}
    return replace(
        base,
        recipe="few_labels_fashion_mnist",
        data="fashion-mnist",
        image_size=28,
        methods=["softhebb", "coarse", *base.methods[1:]],
        own={**base.own, "softhebb": {**base.own["softhebb"], **fine}, "coarse": coarse},
        pool=3,
        out=Path("runs/few_labels_fashion_mnist"),
    )


def few_labels_tiny_imagenet() -> StudyOptions:
    """The first 20 classes of Tiny ImageNet at 5 to 100 % of the labels, without other images: hours on two cores."""
    few = ["5%", "10%", "25%"]
    return replace(
        few_labels_cifar10(),
        recipe="few_labels_tiny_imagenet",
        data="tiny-imagenet",
        classes=20,
        budgets=[*few, "100%"],
        budget_seeds={"100%": 1},
        epochs=5,
        own=_own(few, dict.fromkeys(few, 3), images=None, vae_epochs=20),
        tune_at=["5%", "25%"],
        out=Path("runs/few_labels_tiny_imagenet"),
    )


def _own(few: list[str], plain: dict[str, int], *, images: int | None, vae_epochs: int) -> dict[str, dict[str, Any]]:
    """What is each method's own.

    few: budgets of the student. plain: those of read-outs that no label buys, and their seeds; they see every depth.
    images: that SoftHebb learns from. It begins with weights of length 10 instead of 25: two fifths of the images of
    CIFAR-10 then give features as good as all.
    """
    short = {"batch_size": 10, "initial_scale": 0.4, "pretrain_images": images}
    read_out = {"probe_depths": [], "budgets": list(plain), "budget_seeds": plain}
    return {
        "softhebb": short,
        "teaching": {"is": "softhebb", "title": "SoftHebb, teaching", **short, **STUDENT, "budgets": few},
        "scratch": SIX,
        **dict.fromkeys(("random", *PATCHES), read_out),
        "vae": {**SIX, "lr": 1e-3, "epochs": vae_epochs, "finetune": True, "probe_depths": []},
    }
