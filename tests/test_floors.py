"""Who may import whom: every module stands on a floor, and imports go down or stay on their floor, never up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    {"files", "console", "ops", "decay", "diagnostics", "environment", "memory", "tables"},
    {"layers", "activation", "competition", "conscience", "response", "finish"},
    {"rules"},
    {"update", "kernels"},
    {"distributed"},
    {"matching", "summary", "buffer", "attached", "step"},
    {"hebbian"},
    {"models", "data", "training", "evaluation"},
    {"explain", "options", "typed", "jobs"},
    {"study", "bench"},
    {"recipes"},
    {"cli", "__main__"},
]
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
FILES = sorted(set((ROOT / "fasthebb").rglob("*.py")) - {ROOT / "fasthebb" / "__init__.py"})  # that one is lazy


def part(path: Path) -> str:
    """The file or folder directly under the package that a file belongs to."""
    return path.relative_to(ROOT / "fasthebb").parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Packages that a file imports, and what of them, but for type checking only: ("fasthebb", "rules")."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    exempt = {inner for node in typing for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in exempt:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], alias.name.partition(".")[2]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            package, _, inner = str(node.module).partition(".")
            yield from ((package, inner or alias.name) for alias in node.names)


def below(path: Path) -> set[str]:
    """Other parts of the package that a file imports."""
    inside = {what.partition(".")[0] for package, what in imports(path) if package == "fasthebb"}
    return inside - {"__version__", part(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "fasthebb")))
def test_never_up(path: Path) -> None:
    here = part(path)
    assert here in FLOOR, f"{here} stands on no floor: place it in FLOORS"
    assert below(path) <= FLOOR.keys(), "import from the module that defines it, not through fasthebb"
    assert [other for other in below(path) if FLOOR[other] > FLOOR[here]] == []
    assert here != "rules" or "layers" not in below(path), "a rule never learns what a convolution is"


def test_no_parts_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        graph.setdefault(part(path), set()).update(below(path))
    while ready := {name for name, others in graph.items() if not others & graph.keys()}:
        graph = {name: others for name, others in graph.items() if name not in ready}
    assert graph == {}, "these go in circles"


def test_nothing_imports_the_command_line_but_its_entry() -> None:
    assert [part(path) for path in FILES if "cli" in below(path)] == ["__main__"]


def test_package_and_reference_share_nothing() -> None:
    for folder, other in (("fasthebb", "reference"), ("reference", "fasthebb")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            assert {package for package, _ in imports(path)}.isdisjoint({other, "tests", "cases"}), path


def test_the_walk_sees_imports(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nimport fasthebb.ops\nfrom fasthebb import cli\n"
        "if TYPE_CHECKING:\n    from fasthebb import study\n"
        "def late():\n    from fasthebb.rules.base import Rule\n"
    )
    assert set(imports(path)) == {
        ("typing", "TYPE_CHECKING"), ("fasthebb", "ops"), ("fasthebb", "cli"), ("fasthebb", "rules.base"),
    }  # fmt: skip
