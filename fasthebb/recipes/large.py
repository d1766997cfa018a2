"""Few labels where there is a GPU: nets twice as wide, all images, more views of each, longer training.

Minutes on a data-centre GPU, days on two cores.

What `fasthebb.recipes.few_labels` leaves out for want of time; the labels and seeds are the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fasthebb.recipes.few_labels import (
    SIX,
    STUDENT,
    few_labels_cifar10,
    few_labels_fashion_mnist,
    few_labels_tiny_imagenet,
)
from fasthebb.study.options import PATCHES, StudyOptions

WIDE: dict[str, Any] = {"is": "softhebb", "width": 2.0, "batch_size": 10}
STEPS = 4000  # of what trains longer
MATCHED: dict[str, Any] = {"fixmatch_steps": 4000, "fixmatch_ratio": 4, "fixmatch_hidden_rate": 10.0}
CONTRASTED: dict[str, Any] = {**SIX, "batch_size": 256, "lr": 0.06, "epochs": 40, "finetune": True, "probe_depths": []}


def large_cifar10() -> StudyOptions:
    """CIFAR-10 at 1 to 100 % of the labels, up to five seeds."""
    return _large(few_labels_cifar10(), "large_cifar10", ["1%", "2%", "5%"], {"10%": 3}, vae_epochs=10)


def large_fashion_mnist() -> StudyOptions:
    """Fashion-MNIST, as `large_cifar10`."""
    return _large(few_labels_fashion_mnist(), "large_fashion_mnist", ["1%", "2%", "5%"], {"10%": 3}, vae_epochs=10)


def large_tiny_imagenet() -> StudyOptions:
    """The first 20 classes of Tiny ImageNet, as `large_cifar10`."""
    return _large(few_labels_tiny_imagenet(), "large_tiny_imagenet", ["5%", "10%", "25%"], {}, vae_epochs=20)


def _large(base: StudyOptions, name: str, few: list[str], more: dict[str, int], *, vae_epochs: int) -> StudyOptions:
    """A recipe made large: few, the budgets of what needs many views of an image, and more, with their seeds."""
    three = {"budgets": [*few, *more], "budget_seeds": dict.fromkeys([*few, *more], 3)}
    plain = {"probe_depths": [], **three}
    own: dict[str, dict[str, Any]] = {
        "softhebb": base.own["softhebb"],
        "wide": {**WIDE, "title": "SoftHebb wide"},
        "moved": {
            **WIDE,
            "title": "SoftHebb wide, moved",
            "shifts": 3,
            **STUDENT,
            "finetune_steps": STEPS,
            "budgets": few,
            **MATCHED,
        },
        "scratch": SIX,
        "longer": {
            "is": "scratch",
            "title": f"scratch, {STEPS} steps",
            **SIX,
            "finetune_steps": STEPS,
            "budgets": [*few, *more],
            "budget_seeds": more,
            **MATCHED,
        },
        "same": {"is": "scratch", "title": "scratch, SoftHebb's net", "finetune_batch_size": 128, **three},
        "vae": {**SIX, "lr": 1e-3, "epochs": vae_epochs, "finetune": True, "probe_depths": []},
        "simclr": {**CONTRASTED, **three},
        "random-wide": {"is": "random", "title": "random wide", "width": 2.0, **plain},
        **dict.fromkeys(PATCHES, plain),
    }
    return replace(base, recipe=name, methods=list(own), own=own, out=Path(f"runs/{name}"))
