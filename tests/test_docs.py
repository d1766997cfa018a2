"""README and docs say what is true: their code runs, their links lead somewhere, their options exist."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from test_floors import FLOORS

import fasthebb
from fasthebb import rules
from fasthebb.cli import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EVERYWHERE = {"config", "debug", "help", "json", "print_config", "quiet"}
OPTIONS: dict[str, dict[str, Field[Any]]] = {
    name: {field.name: field for field in fields(command.load()[0])} for name, command in COMMANDS.items()
}

RULES = sorted(
    name for name in rules.__all__ if issubclass(getattr(rules, name), fasthebb.Rule) and name not in ("Rule", "Local")
)

MODULES = [f"fasthebb.{name}" for name in ("activation", "competition", "conscience", "finish", "response")]

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """Line number and text of a page's code blocks in a language."""
    text = page.read_text(encoding="utf-8")
    for block in re.finditer(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        yield text[: block.start()].count("\n") + 1, block[1]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def rows(text: str) -> list[list[str]]:
    """Cells of a text's table rows, headings and rules included."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def named(options: str) -> list[str]:
    """Options in a text, as fields: "--rule.temperature" is rule."""
    words = re.findall(r"(?<![\w-])--(?:no-)?([a-z][\w-]*)?", options)
    return [word.replace("-", "_") for word in words if word]


@pages
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "docs"}
    for line, text in blocks(page, "python"):
        exec(compile("\n" * line + text, str(page), "exec", dont_inherit=True), namespace)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    if path.name == "own_rule.py":
        oja, tails = (float(number) for number in re.findall(r"direction (\d\.\d+)", said))
        assert oja < 0.5 < 0.95 < tails
    if path.name == "scale_simulation.py":
        off = {rate: int(share) for rate, share in re.findall(r"batch 64, rate (\S+): (\d+) %", said)}
        assert off["0.004"] < 10 < 50 < off["0.001"], "the rate follows the batch"
    if path.name == "attach_to_your_model.py":
        before, after = (int(number) for number in re.findall(r"span (\d+) %", said))
        assert before < 50 < 80 < after
    if path.name == "hybrid.py":
        alone, hpca, taught, _ = (int(number) for number in re.findall(r"span (\d+) %", said))
        assert alone + 20 < min(hpca, taught)
    if path.name == "few_labels.py":
        hpca, random, scratch = (list(map(float, re.findall(r"\d+\.\d", row))) for row in said.splitlines()[1:])
        assert sum(hpca) > sum(random)
        assert all(learnt > supervised + 2 for learnt, supervised in zip(hpca, scratch, strict=True))


@pages
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{target} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}, target


@pages
def test_options_exist(page: Path) -> None:
    every = EVERYWHERE.union(*OPTIONS.values())
    assert set(named(" ".join(re.findall(r"`([^`\n]+)`", prose(page))))) <= every
    for _, text in blocks(page, "console"):
        for command, given in re.findall(r"fasthebb ([a-z]+)(.*)", text):
            assert set(named(given)) <= EVERYWHERE | OPTIONS[command].keys(), f"fasthebb {command}{given}"
            check_rule(shlex.split(given))


def check_rule(words: list[str]) -> None:
    """Fields after a dot belong to the rule that is named."""
    inner = {word.removeprefix("--rule.").split(".")[0] for word in words if word.startswith("--rule.")}
    if inner:
        rule = getattr(fasthebb, words[words.index("--rule") + 1])
        assert {name.partition(".")[0] for name in inner} <= {field.name for field in fields(rule)}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_its_row(command: str) -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {command}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert section, f"docs/commands.md has no section {command}"
    table = {named(row[0])[0]: row[1] for row in rows(section[1]) if row[0].startswith("`--")}
    assert table == {name: default(field) for name, field in OPTIONS[command].items()}


def default(field: Field[Any]) -> str:
    """An option's default as the tables write it."""
    value = field.default if field.default_factory is MISSING else field.default_factory()
    if value is MISSING:
        return "required"
    if value in (None, {}, []):
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        return "below"
    if isinstance(value, fasthebb.Rule):
        return f"`{type(value).__name__}`"
    return f"`{' '.join(map(str, value)) if isinstance(value, list) else value}`"


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_its_page(rule: str) -> None:
    text = (ROOT / "docs" / "rules" / f"{rule.lower()}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {rule}\n")
    assert "ΔW" in text
    assert re.search(r"^\|.* post \| decay \| norm \|$", text, flags=re.MULTILINE)
    for word in ("Source", "When", "Converges to", "Cost", "Invariances"):
        assert f"- **{word}**: " in text, f"{rule}: no {word}"
    told = {cell[0].strip("`") for cell in rows(text) if cell[0].startswith("`")}
    own = [field for field in fields(getattr(fasthebb, rule)) if field.name not in ("response", "finish")]
    assert {argument(field) for field in own} <= told


def argument(field: Field[Any]) -> str:
    """An argument of a rule as its page writes it: `k=1`."""
    if field.default is MISSING:
        return field.name
    value = f'"{field.default}"' if isinstance(field.default, str) else field.default
    return f"{field.name}={value}"


@pytest.mark.parametrize("page", ["README.md", "docs/rules/index.md"])
def test_every_rule_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"\((?:docs/rules/)?(\w+)\.md\)", text)) >= {rule.lower() for rule in RULES}


def test_names_from_papers_are_objects() -> None:
    modules = (fasthebb, *map(import_module, MODULES))
    names = {name: getattr(module, name) for module in modules for name in dir(module) if name[:1] != "_"}
    table = rows((ROOT / "docs" / "papers.md").read_text(encoding="utf-8"))
    told = [eval(text, names) for row in table if len(row) == 3 for text in re.findall(r"`([^`]+)`", row[1])]
    assert {type(rule).__name__ for rule in told} == set(RULES)


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md")))
    told = set()
    for kind, name in re.findall(r"^\.\. auto(\w+):: fasthebb\.(\S+)$", text, flags=re.MULTILINE):
        told.add(name.rpartition(".")[2])
        if kind == "module":
            module = import_module(f"fasthebb.{name}")
            told.update(getattr(module, "__all__", dir(module)))
    assert set(fasthebb.__all__) <= told


def test_the_floors_are_those_of_the_test() -> None:
    table = [
        set(re.findall(r"`(\w+)`", row[0])) for row in rows((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    ]
    assert [cells for cells in reversed(table) if cells & FLOORS[0] or any(cells & floor for floor in FLOORS)] == FLOORS


def test_lengths() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split()) <= 1000  # two pages
