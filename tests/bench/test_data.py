"""How fast images come is measured of every kind that they can be held in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import write_images

from fasthebb.cli import main


@pytest.mark.parametrize(("data", "kinds"), [("folder", ["cache", "stream"]), ("digits", ["memory"])])
def test_bench_data(data: str, kinds: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if data == "folder":
        data = f"folder:{write_images(tmp_path / 'images')}"
    out = tmp_path / "data.json"
    words = ["--data", data, "--rounds", "1", "--width", "0.05", "--batch-size", "8", "--out", str(out)]
    assert main(["bench", "data", *words]) == 0
    found = json.loads(out.read_text())["kinds"]
    assert list(found) == kinds
    for row in found.values():
        assert row["images_per_second"] > 0
        assert row["step"] > 0
        assert row["waiting"] == pytest.approx(row["wait"] / (row["wait"] + row["step"]))
        assert len(row["resident_mb"]) == 2
    printed = capsys.readouterr().out
    assert "images/s alone" in printed
    assert all(kind in printed for kind in kinds)
