"""A folder of very many files is read fast and in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from painted import paint


@pytest.mark.slow
def test_a_hundred_thousand_files_in_one_folder(tmp_path: Path) -> None:
    """Bytes a file: 300 for its names, 192 of pixels, a thousand to spare; seconds: generous."""
    folder = tmp_path / "many" / "class"
    folder.mkdir(parents=True)
    data = paint(tmp_path / "one.png", 7).read_bytes()
    for number in range(100_000):
        (folder / f"{number:06}.png").write_bytes(data)
    code = (
        "import resource, sys, time, warnings\nfrom pathlib import Path\nfrom fasthebb.data import load\n"
        "from fasthebb.data.folders import list_images\nimport numpy, PIL.Image, torch\n"
        "memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before, start = memory(), time.monotonic()\n"
        "assert len(list_images(Path(sys.argv[1]))) == 100_000\n"
        "print(time.monotonic() - start)\n"
        "data = load(f'folder:{sys.argv[1]}', image_size=8)\n"
        "assert len(data.train) + len(data.test) == 100_000\n"
        "print(time.monotonic() - start)\nprint(memory() - before)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "many")]
    listed, loaded, grown = map(float, subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    assert listed < 10
    assert loaded < 180
    assert grown < 100_000 * (300 + 192 + 1000)
