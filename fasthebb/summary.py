"""The table that `Hebbian.summary()` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One attached layer: units, dead ones and twins are counted over all groups; norms are Frobenius norms.

    unit_norms: the least and the largest ‖wᵢ‖. twins: units with an earlier twin, as of `fasthebb.diagnostics`.
    """

    name: str
    kind: str
    rule: str
    units: int
    fan_in: int
    dead: int | None  # None before the first step
    unit_norms: tuple[float, float]
    weight_norm: float
    update_norm: float | None
    twins: int | None = None  # None where units were not compared


@dataclass(frozen=True)
class Summary:
    """The attached layers in order of first call; print it, or read its rows."""

    rows: list[Row]

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(title="Attached layers")
        for column in ("layer", "kind", "rule"):
            table.add_column(column)
        compared = any(r.twins is not None for r in self.rows)
        for column in ("units", "fan-in", "dead", *(["twins"] if compared else []), "‖wᵢ‖", "‖W‖", "‖ΔW‖"):
            table.add_column(column, justify="right")
        for r in self.rows:
            norms = "–".join(dict.fromkeys(f"{norm:.3g}" for norm in r.unit_norms))
            update = "–" if r.update_norm is None else f"{r.update_norm:.4g}"
            counts = [r.units, r.fan_in, r.dead, *([r.twins] if compared else [])]
            cells = ["–" if number is None else str(number) for number in counts]
            table.add_row(r.name, r.kind, r.rule, *cells, norms, f"{r.weight_norm:.4g}", update)
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=140)
        with console.capture() as capture:
            console.print(self)
        return capture.get()
