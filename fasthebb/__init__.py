"""Fast, scalable Hebbian training of deep networks.

Names are imported on first use, so that the command line starts without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fasthebb import activation, competition, data, finish, models, response
    from fasthebb.data import few_labels
    from fasthebb.evaluation import extract, knn_accuracy, linear_probe, retrieval_map
    from fasthebb.hebbian import Hebbian, attach
    from fasthebb.rules import (
        BCM,
        HICA,
        HPCA,
        ICA,
        KWTA,
        SOM,
        Covariance,
        HardWTA,
        Hebb,
        Instar,
        Krotov,
        Modulated,
        Oja,
        Prototypes,
        Rule,
        SoftHebb,
        SoftWTA,
        Subspace,
        Taught,
        Terms,
        Trace,
        WeightedSubspace,
    )
    from fasthebb.training.finetune import finetune
    from fasthebb.training.pretrain import pretrain

__version__ = "0.1.0"

_RULES = (
    "BCM", "HICA", "HPCA", "ICA", "KWTA", "SOM", "Covariance", "HardWTA", "Hebb", "Instar", "Krotov", "Modulated",
    "Oja", "Prototypes", "Rule", "SoftHebb", "SoftWTA", "Subspace", "Taught", "Terms", "Trace", "WeightedSubspace",
)  # fmt: skip
_HOME = {
    **dict.fromkeys(("attach", "Hebbian"), "fasthebb.hebbian"),
    **dict.fromkeys(_RULES, "fasthebb.rules"),
    "pretrain": "fasthebb.training.pretrain",
    "finetune": "fasthebb.training.finetune",
    **dict.fromkeys(("extract", "knn_accuracy", "linear_probe", "retrieval_map"), "fasthebb.evaluation"),
    "few_labels": "fasthebb.data",
}
_MODULES = (
    "activation", "competition", "conscience", "data", "decay", "diagnostics", "evaluation", "finish", "models", "ops",
    "response", "rules", "training",
)  # fmt: skip

__all__ = [
    "BCM", "HICA", "HPCA", "ICA", "KWTA", "SOM", "Covariance", "HardWTA", "Hebb", "Hebbian", "Instar", "Krotov",
    "Modulated", "Oja", "Prototypes", "Rule", "SoftHebb", "SoftWTA", "Subspace", "Taught", "Terms", "Trace",
    "WeightedSubspace", "activation", "attach", "competition", "data", "extract", "few_labels", "finetune", "finish",
    "knn_accuracy", "linear_probe", "models", "pretrain", "response", "retrieval_map",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _MODULES:
        return import_module(f"fasthebb.{name}")
    raise AttributeError(f"module 'fasthebb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
