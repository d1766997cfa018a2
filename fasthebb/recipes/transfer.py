"""What decides transfer: HPCA's six-layer net with one option changed at a time, before fine-tuning and in read-outs.

Probes that mirror, move or pool are not fine-tuned once more, and what differs in fine-tuning alone has no probe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fasthebb.finish import fan_in, unit_norm
from fasthebb.rules import HPCA
from fasthebb.study.options import StudyOptions, standard_rules

BOTH: dict[str, dict[str, Any]] = {  # probed and fine-tuned
    "rescaled": {"rescale": True},
    "renewed": {"renew": True},
    "rescaled and renewed": {"rescale": True, "renew": True},
    "revived": {"revive": True},
    "layer by layer": {"order": "layerwise"},
    "whitened": {},
    "width 0.125": {"width": 0.125},
    "width 0.5": {"width": 0.5},
    "2000 images": {"pretrain_images": 2000},
    "10000 images": {"pretrain_images": 10_000},
    "2 epochs": {"epochs": 2},  # as many as a revived net has
    "3 epochs": {"epochs": 3},
}
FINE_TUNED: dict[str, dict[str, Any]] = {
    "head first": {"head_steps": 100},
    "slow below": {"hidden_rate": 0.1},
    "head first, slow below": {"head_steps": 100, "hidden_rate": 0.1},
}
READ: dict[str, dict[str, Any]] = {
    "1 × 1 cells": {"pool": 1},
    "4 × 4 cells": {"pool": 4},
    "all depths": {"together": True},
    "mirrored": {"mirror": True},
    "moved": {"shifts": 3},
    "mirrored and moved": {"mirror": True, "shifts": 3},
    "by SGD": {"probe_method": "sgd"},
    "by Adam": {"probe_method": "adam"},
    "spread": {"propagate": True},
    "distilled": {"student": True, "student_width": 0.25},
}
LABELS_TOO = {"finetune_depths": [3]}  # also trained end to end under a classifier at depth 3


def variants() -> dict[str, dict[str, Any]]:
    """By name, variants of HPCA that differ from it in what their title says."""
    wanted = [
        *BOTH.items(),
        *((title, {**own, "probe": False}) for title, own in FINE_TUNED.items()),
        *((title, {**own, "finetune": False}) for title, own in READ.items()),
    ]
    return {
        "hpca-" + title.lower().replace(",", "").replace(" ", "-").replace("×", "x"): {
            "is": "hpca", "title": f"HPCA, {title}", **own,
        }
        for title, own in wanted
    }  # fmt: skip


def transfer_cifar10() -> StudyOptions:
    """CIFAR-10 at 1 and 10 % of the labels, the six-layer net at a quarter of its width: hours on two cores.

    Updates of length one are of another size than those divided by the root of the fan-in, hence another rate.
    """
    own, frozen = variants(), {"finetune": False}
    return StudyOptions(
        recipe="transfer_cifar10",
        data="cifar10",
        methods=["hpca", *own, "hpca-unit", "swta", "pca-patches", "random", "scratch"],
        own={
            "hpca": LABELS_TOO,
            **own,
            "hpca-unit": {"title": "HPCA, unit norm"},
            "swta": {"lr": 1e-2, **frozen},
            "pca-patches": frozen,
            "scratch": LABELS_TOO,
        },
        rules={**standard_rules(fan_in), "hpca-unit": HPCA(finish=unit_norm)},
        rates={"hpca-unit": 1e-2},
        whiten=["hpca-whitened", "swta"],
        ensembles={"HPCA + SWTA": ["hpca", "swta"], "HPCA + PCA patches": ["hpca", "pca-patches"]},
        width=0.25,
        budgets=["1%", "10%"],
        seeds=[0, 1, 2],
        epochs=1,
        lr=0.1,
        validation=0.0,
        precision="bf16",
        knn=False,
        finetune_lr=1e-2,
        finetune_steps=600,
        augment="light",
        both_twins=False,
        out=Path("runs/transfer_cifar10"),
    )
