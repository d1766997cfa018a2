"""`embed`: features of any run at any depth, with paths and labels, in files that open without a pickle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import COLOURS, NET, QUIET, fails, write_images

from fasthebb.cli import main
from fasthebb.data import load
from fasthebb.evaluation import extract
from fasthebb.jobs import images
from fasthebb.jobs.trained import read_net


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "ä, b", each=10)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    words = (*NET, "--data", f"folder:{data}", "--epochs", "1", "--batch-size", "12", "--out", str(run), "--quiet")
    assert main(["pretrain", *words]) == 0
    return run


def embed(run: Path, *words: object) -> None:
    assert main(["embed", "--run", str(run), *map(str, words), "--quiet"]) == 0


def opened(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def expected(run: Path, data: Path, layer: str, part: str, pool: int | None = None) -> np.ndarray[Any, Any]:
    net, model = read_net(run, QUIET)
    found = getattr(load(f"folder:{data}", image_size=net.image_size), part)
    return extract(model, layer, [next(iter(net.loader(found, 1000, "cpu", shuffle=False)))], pool=pool)[0].numpy()


def test_features_are_what_enters_the_head(trained: Path, data: Path) -> None:
    embed(trained)
    found = opened(trained / "features.npz")
    assert (found["features"].dtype, found["labels"].dtype) == (np.float32, np.int64)
    assert (int(found["depth"]), str(found["layer"]), found["classes"].tolist()) == (2, "8", sorted(COLOURS))
    assert found["parts"].tolist() == ["train"] * 24 + ["test"] * 6
    for part in ("train", "test"):
        assert np.allclose(found["features"][found["parts"] == part], expected(trained, data, "8", part), atol=1e-5)
    for path, label in zip(found["paths"], found["labels"]):
        assert (data / path).is_file()
        assert path.startswith(found["classes"][label])


@pytest.mark.parametrize(
    ("words", "layer", "depth", "pool"),
    [(("--depth", 1), "4", 1, None), (("--layer", "4"), "4", 1, None), (("--layer", "2", "--pool", 1), "2", -1, 1)],
    ids=str,
)
def test_any_layer(
    words: tuple[Any, ...], layer: str, depth: int, pool: int | None, trained: Path, data: Path, tmp_path: Path
) -> None:
    embed(trained, *words, "--part", "test", "--out", tmp_path / "x.npz", "--batch-size", 5)
    found = opened(tmp_path / "x.npz")
    assert (int(found["depth"]), str(found["layer"]), len(found["features"])) == (depth, layer, 6)
    assert np.allclose(found["features"], expected(trained, data, layer, "test", pool), atol=1e-5)


def test_a_folder_without_classes(
    trained: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(images, "CHUNK", 7)
    loose = write_images(tmp_path / "loose", each=5)
    (loose / "bad.png").write_bytes(b"")
    embed(trained, "--images", loose, "--out", tmp_path / "x.npz")
    assert "1 of 16 image files cannot be read, first bad.png" in capsys.readouterr().err
    found = opened(tmp_path / "x.npz")
    assert found["paths"].tolist() == sorted(p.relative_to(loose).as_posix() for p in loose.rglob("[0-9]*.png"))
    assert set(found["labels"].tolist()) == {-1}
    assert found["classes"].tolist() == []
    assert len(found["features"]) == 15


def test_other_data_than_the_runs(trained: Path, tmp_path: Path) -> None:
    embed(trained, "--data", f"folder:{write_images(tmp_path / 'other', each=5)}", "--out", tmp_path / "x.npz")
    assert len(opened(tmp_path / "x.npz")["features"]) == 15


def test_parquet(trained: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    embed(trained, "--out", tmp_path / "x.npz")
    embed(trained, "--out", tmp_path / "x.parquet")
    wanted, table = opened(tmp_path / "x.npz"), parquet.read_table(tmp_path / "x.parquet")
    assert table.column_names == ["path", "part", "label", "class", "features"]
    assert np.array_equal(np.array(table["features"].to_pylist(), np.float32), wanted["features"])
    assert table["path"].to_pylist() == wanted["paths"].tolist()
    assert table["class"].to_pylist() == wanted["classes"][wanted["labels"]].tolist()
    assert str(table["features"].type) in ("large_list<item: float>", "large_list<element: float>")


def test_parquet_without_pyarrow(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = fails(capsys, 1, "embed", "--run", trained, "--out", tmp_path / "x.parquet")
    assert "needs pyarrow: pip install 'fasthebb[parquet]'" in said
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.parametrize(
    ("code", "words", "wanted"),
    [
        (1, ("--depth", "3"), "--depth 3: tiny:net has depths 1 to 2"),
        (1, ("--layer", "44"), "the model has no layer '44'"),
        (1, ("--part", "val"), "--part val: the data have no such part; choose from train, test, all"),
        (2, ("--depth", "0"), "--depth 0: give 1 or more"),
        (2, ("--depth", "1", "--layer", "4"), "give one of them"),
        (2, ("--images", "x", "--data", "digits"), "give one of them"),
        (2, ("--out", "x.csv"), "name a file that ends in .npz or .parquet"),
        (2, ("--out", "no/x.npz"), "in a folder that is there"),
        (2, ("--part", "all2"), "--part all2: give one of train, val, test, all"),
    ],
    ids=str,
)
def test_bad_input(
    code: int, words: tuple[str, ...], wanted: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wanted in fails(capsys, code, "embed", "--run", trained, *words)
