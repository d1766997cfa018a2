"""The table that `Hebbian.summary()` returns."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

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


def describe(rule: Any) -> str:
    """A rule, or a part of one, as its class and what differs from the class's defaults."""
    said = []
    for f in [f for f in fields(rule) if f.init]:
        value = getattr(rule, f.name)
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        if value is not default and not _equal(value, default):
            said.append(f"{f.name}={_described(value)}")
    return f"{type(rule).__name__}({', '.join(said)})"


def _equal(a: object, b: object) -> bool:
    # Arrays compare entry by entry, and say so by an error.
    try:
        return bool(a == b)
    except (RuntimeError, ValueError):
        return False


def _described(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_described, value))})"
    if is_dataclass(value) and not isinstance(value, type):
        return describe(value)
    return getattr(value, "__name__", None) or repr(value)
