"""Training from scratch that was cut short, which no report compares with unless it says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FEW_STEPS = 300  # of training from scratch; fewer make less of it than it could be


def steps_of(options: Mapping[str, Any], labels: int) -> int:
    """Steps of training end to end on so many labels, by options of a study or of one of its methods."""
    if epochs := options.get("finetune_epochs"):
        batch = options.get("finetune_batch_size") or options["batch_size"]
        return int(epochs * -(-labels // batch))
    return int(options["finetune_steps"])
