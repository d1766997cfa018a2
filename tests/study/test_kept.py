"""What a report draws of the nets: which depth the strips are of, and that a stream of images gives the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import NET, write_images

from fasthebb.cli import main
from fasthebb.evaluation.results import Record
from fasthebb.study import kept


@pytest.mark.parametrize(
    ("top1", "said"),
    [
        ({1: 50.0, 2: 60.0, None: 60.0}, (2, "depth 2 (chosen by kNN)")),
        ({2: 60.0, 1: 60.0, None: 60.0}, (1, "depth 1 (as good as kNN's choice)")),
        ({3: 60.0, None: 60.0}, (3, "depth 3")),
    ],
)
def test_the_depth_of_strips(top1: dict[int | None, float], said: tuple[int, str]) -> None:
    records = [
        Record("digits", "HPCA kNN", "HPCA", labels, 0.1, 0, depth, value + (labels == 5), None, None, None, None)
        for labels in (5, 10)
        for depth, value in top1.items()
    ]
    assert kept._depth(records, "HPCA kNN", 0) == said


def test_a_streamed_study_shows_the_same_neighbours(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", each=10)
    words = ("study", *NET, "--data", f"folder:{data}", "--methods", "hpca", "--budgets", "9", "--seeds", "0")
    more = ("--max-steps", "1", "--batch-size", "8", "--no-finetune", "--validation", "0", "--quiet")
    for name in ("held", "streamed"):
        streams = ("--stream",) * (name == "streamed")
        assert main([*words, *more, *streams, "--out", str(tmp_path / name)]) == 0
    held, streamed = (kept.strips(tmp_path / name) for name in ("held", "streamed"))
    assert list(held) == list(streamed)
    assert all(np.array_equal(a, b) for key in held for a, b in zip(held[key], streamed[key]))
