"""Fast, scalable Hebbian training of deep networks.

Names are imported on first use, so that the command line starts without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fasthebb import data, finish, models, response
    from fasthebb.hebbian import Hebbian, attach
    from fasthebb.rules import HPCA, KWTA, HardWTA, Hebb, Oja, Rule, SoftWTA, Subspace, Terms

__version__ = "0.1.0"

_HOME = {
    **dict.fromkeys(("attach", "Hebbian"), "fasthebb.hebbian"),
    **dict.fromkeys(
        ("Rule", "Terms", "Hebb", "Oja", "Subspace", "HPCA", "HardWTA", "KWTA", "SoftWTA"), "fasthebb.rules"
    ),
}
_MODULES = ("data", "finish", "models", "response")

__all__ = [
    "HPCA", "KWTA", "HardWTA", "Hebb", "Hebbian", "Oja", "Rule", "SoftWTA", "Subspace", "Terms",
    "attach", "data", "finish", "models", "response",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _MODULES:
        return import_module(f"fasthebb.{name}")
    raise AttributeError(f"module 'fasthebb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
