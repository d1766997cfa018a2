"""What a timing is read with."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch

from fasthebb import environment


def test_hardware() -> None:
    found = environment.hardware()
    assert json.loads(json.dumps(found)) == found
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["cores"] >= 1
    assert found["memory_gib"] > 0.1
    assert found["cpu"]
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{12}\+?", found["commit"])


def test_a_commit_and_what_differs_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "package" / "environment.py"))
    assert environment._commit() is None

    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y", *words], cwd=tmp_path, check=True)

    (tmp_path / "file").write_text("a")
    git("init", "-q")
    git("add", "file")
    git("commit", "-qm", "first")
    clean = environment._commit()
    assert clean is not None
    assert re.fullmatch("[0-9a-f]{12}", clean)
    (tmp_path / "file").write_text("b")
    assert environment._commit() == f"{clean}+"


def test_no_git_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert environment.hardware()["commit"] is None
