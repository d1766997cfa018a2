"""Which numbers make sense as options, checked before anything is read or written."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

AT_LEAST = {
    "batch_size": 1,
    "checkpoint_steps": 1,
    "classes": 1,
    "depth": 1,
    "epochs": 1,
    "finetune_batch_size": 1,
    "finetune_epochs": 1,
    "finetune_steps": 1,
    "fixmatch_hidden_rate": 0,
    "fixmatch_ratio": 1,
    "fixmatch_steps": 0,
    "head_steps": 0,
    "hidden_rate": 0,
    "image_size": 1,
    "images_per_shard": 1,
    "k": 1,
    "max_seconds": 1,
    "max_steps": 1,
    "min_steps": 1,
    "pool": 1,
    "pretrain_images": 2,
    "probe_epochs": 1,
    "rounds": 1,
    "seed": 0,
    "shifts": 0,
    "short_side": 1,
    "tune_steps": 1,
    "weight_decay": 0,
}
ABOVE_ZERO = (
    "finetune_lr", "fixmatch_lr", "initial_scale", "lr", "minutes", "rank_timeout", "student_width", "width",
)  # fmt: skip
LARGEST_SEED = 2**63 - 1


def check_numbers(options: Any) -> None:
    """Check every number among the fields of `options`, by its name; None passes.

    Raises:
        ValueError: one makes no sense.
    """
    for name, value in vars(options).items():
        option = f"--{name.replace('_', '-')}"
        if name in AT_LEAST and value is not None and not AT_LEAST[name] <= value < math.inf:
            raise ValueError(f"{option} {value}: give {AT_LEAST[name]} or more")
        if name in ABOVE_ZERO and value is not None and not 0 < value < math.inf:
            raise ValueError(f"{option} {value}: give a number above 0")
        if name == "max_bad" and not 0 <= value <= 1:
            raise ValueError(f"{option} {value}: give a fraction from 0 to 1")
        if name == "validation" and not 0 <= value < 1:
            raise ValueError(f"{option} {value}: give a fraction from 0 to below 1")
        if name in ("finetune_depths", "probe_depths") and any(depth < 1 for depth in value):
            raise ValueError(f"{option} {', '.join(map(str, value))}: depths are counted from 1")
        for seed in value if name == "seeds" else [value] if name == "seed" and value is not None else []:
            if not 0 <= seed <= LARGEST_SEED:
                raise ValueError(f"{option} {seed}: give a whole number from 0 to {LARGEST_SEED}")


def check_file(out: Path | None, endings: Sequence[str] = ()) -> None:
    """Check the --out of a command that writes one file; None passes.

    endings: those that its name may have, with the dot.

    Raises:
        ValueError: it cannot be written there.
    """
    if out is None:
        return
    wanted = f"a file that ends in {' or '.join(endings)}," if endings else "a file"
    if out.is_dir() or not out.parent.is_dir() or (endings and out.suffix not in endings):
        raise ValueError(f"--out {out}: name {wanted} in a folder that is there")
    if not os.access(out.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise ValueError(f"--out {out}: its folder cannot be written; name {wanted} in another")
