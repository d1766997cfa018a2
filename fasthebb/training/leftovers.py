"""What a run that failed before its first step has written, and how it goes away again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

WRITTEN = (
    ".lock", "config.yaml", "data.json", "model.json", "whitening.safetensors", "metrics.jsonl", "train.log",
    "checkpoints/last.pt",
    "cells/*/model.json", "cells/*/whitening.safetensors", "cells/*/metrics.jsonl", "cells/*/checkpoints/last.pt",
    "cells/*/.lock", "cells/.*.taken", "cells/.*.done", "cells/*/scores.safetensors", "cells/*/teacher.safetensors",
    "tensorboard/events.*", "cells/*/tensorboard/events.*", "cells/*/vae/tensorboard/events.*",
    "cells/*/vae/metrics.jsonl", "cells/*/vae/checkpoints/last.pt",
    "cells/*/simclr/tensorboard/events.*", "cells/*/simclr/metrics.jsonl", "cells/*/simclr/checkpoints/last.pt",
)  # fmt: skip
FOLDERS = (
    "tensorboard", "cells/*/tensorboard", "cells/*/vae/tensorboard", "cells/*/vae/checkpoints",
    "cells/*/vae", "cells/*/simclr/tensorboard", "cells/*/simclr/checkpoints", "cells/*/simclr", "cells/*/checkpoints",
    "cells/*", "cells", "checkpoints",
)  # fmt: skip


def clear(path: Path, made: Sequence[Path]) -> None:
    """Remove what a run writes into its folder, and the folders that it made, unless others wrote into them."""
    for pattern in WRITTEN:
        for file in path.glob(pattern):
            file.unlink()
    inside = [folder for pattern in FOLDERS for folder in path.glob(pattern)]
    for folder in [*inside, *made]:
        with contextlib.suppress(OSError):  # not empty: it holds what others wrote
            folder.rmdir()
