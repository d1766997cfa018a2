"""Recipes: one Python function per published or shipped experiment; a variant calls another and changes a field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fasthebb.study.options import StudyOptions


def digits() -> StudyOptions:
    """Scikit-learn's digits, enlarged to the six-layer net at a quarter of its width: minutes on two cores."""
    return StudyOptions(
        recipe="digits",
        data="digits",
        width=0.25,
        budgets=["50", "100", "200"],
        epochs=3,
        lr=0.1,
        finetune_lr=1e-2,
        finetune_steps=150,
        out=Path("runs/digits"),
    )


RECIPES: dict[str, Callable[[], StudyOptions]] = {"digits": digits}
