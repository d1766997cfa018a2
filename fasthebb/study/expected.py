"""What was measured elsewhere, beside what a study measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fasthebb.evaluation.results import Summary


@dataclass(frozen=True, kw_only=True)
class Expected:
    """An accuracy that a study repeats, at its largest budget.

    Args:
        method: what results call it, such as "HPCA probe".
        depth: that of the features; none of the whole net.
        low: the least accuracy in percent that a sound repetition reaches here.
        high: the greatest.
        published: the published accuracy in percent; none if there is none.
        source: where that, or else the interval, comes from.
        differs: what is not as in the source.

    Raises:
        ValueError: the interval is empty.
    """

    method: str
    low: float
    high: float
    source: str
    depth: int | None = None
    published: float | None = None
    differs: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 100:
            raise ValueError(f"expected {self.method}: from {self.low} to {self.high} % is no interval of accuracies")

    def measured(self, rows: Sequence[Summary]) -> Summary | None:
        """The row that it is to be compared with; none if that was not measured."""
        own = [row for row in rows if (row.method, row.depth) == (self.method, self.depth) and row.n]
        return max(own, key=lambda row: row.labels, default=None)

    def verdict(self, rows: Sequence[Summary]) -> str:
        """Where the mean of that row lies."""
        row = self.measured(rows)
        if row is None or math.isnan(row.top1.mean):
            return "not measured"
        side = "below" if row.top1.mean < self.low else "above" if row.top1.mean > self.high else "inside"
        return f"{side} the interval" if side == "inside" else f"**{side} the interval**"
