"""The table that `Hebbian.summary()` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One attached layer: units and dead units are counted over all groups; norms are Frobenius norms."""

    name: str
    kind: str
    rule: str
    units: int
    fan_in: int
    dead: int | None  # None before the first step
    weight_norm: float
    update_norm: float | None


@dataclass(frozen=True)
class Summary:
    """The attached layers in order of first call; print it, or read its rows."""

    rows: list[Row]

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(title="Attached layers")
        for column in ("layer", "kind", "rule"):
            table.add_column(column)
        for column in ("units", "fan-in", "dead", "‖W‖", "‖ΔW‖"):
            table.add_column(column, justify="right")
        for r in self.rows:
            dead = "–" if r.dead is None else str(r.dead)
            update = "–" if r.update_norm is None else f"{r.update_norm:.4g}"
            table.add_row(r.name, r.kind, r.rule, str(r.units), str(r.fan_in), dead, f"{r.weight_norm:.4g}", update)
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=140)
        with console.capture() as capture:
            console.print(self)
        return capture.get()
