"""torchvision for tests, also where its compiled part does not load."""

from __future__ import annotations

import importlib.util

import pytest
import torch


@pytest.fixture(scope="session")
def torchvision_loads() -> None:
    """Let torchvision be imported; skip where it is not installed.

    Beside a torch of another build its compiled part does not load, and importing it misses two operators that only
    detection uses.
    """
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed: pip install --no-deps torchvision")
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
