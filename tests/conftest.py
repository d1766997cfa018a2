"""Settings of every test: two threads, an own cache, real images where they lie, two ranks for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pool import Ranks, pool

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache that no earlier run left anything in, and the user's as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTHEBB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images; tests without it skip, except in CI, where it must be there."""
    root = os.environ.get("FASTHEBB_TEST_DATA")
    folder = Path(root) / "data" if root else None
    if folder is None or not folder.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"FASTHEBB_TEST_DATA={root!r} has no folder data: CI needs the real images")
        pytest.skip("FASTHEBB_TEST_DATA is not set: run the tests through .ci/run to use real images")
    return folder


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Runs a function of a test file on two gloo ranks, and returns what each returned or raised."""
    yield from pool(tmp_path_factory.mktemp("gloo"))
