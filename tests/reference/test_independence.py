"""The reference stays a reference: nothing but torch, itself and plain loops; and its examples say what is so."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import reference

FILES = sorted(Path(reference.__file__).parent.glob("*.py"))
ALLOWED = {"collections", "itertools", "math", "reference", "torch", "typing"}
HIDDEN_LOOPS = {"unfold", "conv1d", "conv2d", "conv3d", "pad", "softmax", "matmul", "mm", "bmm", "einsum", "tensordot"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_torch_and_loops(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= ALLOWED
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] in ALLOWED
        elif isinstance(node, ast.Attribute):
            assert node.attr not in HIDDEN_LOOPS
        assert not isinstance(node, ast.MatMult)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_examples(path: Path) -> None:
    name = "reference" if path.stem == "__init__" else f"reference.{path.stem}"
    assert doctest.testmod(importlib.import_module(name)).failed == 0
