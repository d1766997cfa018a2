"""The public names: frozen here, so that they grow on purpose only."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fasthebb

NAMES = [
    "BCM", "Covariance", "HICA", "HPCA", "HardWTA", "Hebb", "Hebbian", "ICA", "Instar", "KWTA", "Krotov", "Modulated",
    "Oja", "Prototypes", "Rule", "SOM", "SoftHebb", "SoftWTA", "Subspace", "Taught", "Terms", "Trace",
    "WeightedSubspace", "activation", "attach", "competition", "data", "extract", "few_labels", "finetune", "finish",
    "knn_accuracy", "linear_probe", "models", "pretrain", "response", "retrieval_map",
]  # fmt: skip


def test_names_are_frozen() -> None:
    assert sorted(fasthebb.__all__) == NAMES
    assert set(NAMES) <= set(dir(fasthebb))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_resolves_to_its_own(name: str) -> None:
    found = getattr(fasthebb, name)
    assert found.__name__ == (f"fasthebb.{name}" if isinstance(found, ModuleType) else name)
    assert found.__doc__


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="'fasthebb' has no attribute 'nothing'"):
        _ = fasthebb.nothing


def test_importing_the_package_is_light() -> None:
    code = "import sys, fasthebb; print(fasthebb.__version__, 'torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [fasthebb.__version__, "False", "False"]


def test_the_version_is_the_projects() -> None:
    project = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert re.findall(r'^version = "(.+)"$', project, flags=re.MULTILINE) == [fasthebb.__version__]
