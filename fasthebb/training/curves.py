"""Curves for TensorBoard: what metrics.jsonl holds, as the event files that its viewer reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"


class Curves:
    """Writes records of epochs into `path/tensorboard`, by step.

    Raises ValueError where tensorboard is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError("--tensorboard needs tensorboard: pip install 'fasthebb[logs]'") from None
        self._kind: Any = SummaryWriter
        self._folder = path / FOLDER
        self._writer: Any = None

    def restore(self, history: Sequence[Mapping[str, float]]) -> None:
        """Go on after the records of an earlier run; what it wrote of later steps does not count."""
        last = int(history[-1]["step"]) if history else 0
        self._writer = self._kind(str(self._folder), purge_step=last + 1)

    def add(self, record: Mapping[str, float]) -> None:
        """Write one record, to be seen at once."""
        for name, value in record.items():
            if name != "step":
                self._writer.add_scalar(name, value, int(record["step"]))
        self._writer.flush()

    def close(self) -> None:
        """End the writer, and the thread that it writes from."""
        self._writer.close()
