"""A tiny study from end to end: its records, its page, and its cells, each done once."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import error
from tiny import LAYERS, NET, QUIET, equal, snapshot, timeless

from fasthebb.cli import main
from fasthebb.data import Loader, load
from fasthebb.data.whitening import fit_whitening
from fasthebb.jobs.setup import all_but, set_aside
from fasthebb.jobs.trained import read_net
from fasthebb.models import load as load_net
from fasthebb.study import kept, runner
from fasthebb.study.bench import Bench
from fasthebb.training.finetune import accuracy
from fasthebb.training.stop import Interrupted

WORDS = (
    "study", *NET, "--data", "digits", "--methods", "hpca", "swta", "pca-patches", "random", "scratch",
    "--budgets", "20", "5%", "--seeds", "0,1", "--epochs", "1", "--batch-size", "128", "--finetune-steps", "4",
    "--lr", "0.01", "--svm", "--retrieval", "--whiten", "swta",
)  # fmt: skip
CELLS = {
    *(f"pretrain-{method}" for method in ("hpca", "swta", "pca-patches")),
    *(f"frozen-{method}" for method in ("hpca", "swta", "pca-patches", "random")),
    *(f"finetune-{method}-{labels}" for method in ("hpca", "swta", "pca-patches") for labels in (20, 72)),
    *(f"scratch-backprop-{labels}" for labels in (20, 72)),  # of this net both twins are the same
}


def study(out: Path, *more: str) -> int:
    return main([*WORDS, "--out", str(out), "--quiet", *more])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that nothing interrupts."""
    out = tmp_path_factory.mktemp("study") / "whole"
    assert study(out) == 0
    return out


def rows(out: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((out / "results.json").read_text())
    return found


def test_the_net_of_a_cell_can_be_loaded(whole: Path) -> None:
    for cell, width in (("pretrain-hpca-s0", None), ("finetune-hpca-20-s0", 10)):
        program = load_net(whole / "cells" / cell)
        with torch.no_grad():
            given = program(torch.rand(2, len(program.about["mean"]), *[program.about["image_size"]] * 2))
        assert given.shape[0] == 2
        assert width in (None, given.shape[1])
    with pytest.raises(ValueError, match=r"images \[2, \d, 31, 31\]: the net takes \d+ × \d+ pixels"):
        program(torch.rand(2, len(program.about["mean"]), 31, 31))


def test_cells_and_records(whole: Path) -> None:
    assert {p.name for p in (whole / "cells").iterdir()} == {f"{cell}-s{seed}" for cell in CELLS for seed in (0, 1)}
    found = {(r["method"], r["rule"], r["labels"], r["seed"], r["depth"]) for r in rows(whole)}
    assert len(found) == len(rows(whole)), "each measured once"
    rules = {"HPCA": "HPCA", "SWTA": "SoftWTA", "PCA patches": "", "random": ""}
    wanted = {
        (f"{method} {kind}", rule, labels, seed, depth)
        for method, rule in rules.items()
        for kind in ("probe", "kNN", "SVM")
        for labels in (20, 72)
        for seed in (0, 1)
        for depth in (1, 2, None)
    }
    wanted |= {
        (f"{method} retrieval {measure}", rule, 0, seed, depth)
        for method, rule in rules.items()
        for measure in ("mAP", "mAP 256 bit", "P@10")
        for seed in (0, 1)
        for depth in (1, 2)
    }
    end_to_end = [("HPCA fine-tuned", "HPCA"), ("SWTA fine-tuned", "SoftWTA"), ("PCA patches fine-tuned", "")]
    end_to_end += [("scratch", "")]
    wanted |= {(*method, labels, seed, None) for method in end_to_end for labels in (20, 72) for seed in (0, 1)}
    assert found == wanted
    for r in rows(whole):
        assert r["dataset"] == "digits"
        assert r["fraction"] == pytest.approx(r["labels"] / 1437)
        assert 0 <= r["top1"] <= 100
        assert (r["pretrain_seconds"] is not None) == (bool(r["rule"]) or "PCA" in r["method"])
        assert (r["finetune_seconds"] is not None) == ("fine-tuned" in r["method"] or "scratch" in r["method"])
        assert r["peak_memory_mb"] > 0


def test_page_and_files(whole: Path) -> None:
    assert {p.name for p in whole.iterdir()} - {".lock"} == {
        "config.yaml", "data.json", "train.log", "cells", "results.csv", "results.json", "environment.json",
        "pictures.npz", "report.html",
    }  # fmt: skip
    page = (whole / "report.html").read_text()
    assert all(word in page for word in ("HPCA fine-tuned", "scratch", "random", "<svg", "data:image/png"))
    assert 'src="http' not in page


def test_units_are_kept(whole: Path) -> None:
    with np.load(whole / "pictures.npz") as arrays:
        kept = {key.removeprefix("units/"): arrays[key] for key in arrays.files if key.startswith("units/")}
    assert list(kept) == [f"{rule}/{layer}" for rule in ("HPCA", "SWTA") for layer in LAYERS]
    for key, (units, dead, twins, rank, most, sparsity, likeness) in kept.items():
        assert units == (6 if key.endswith("/0") else 8)
        assert 0 <= dead < units
        assert 0 <= twins < units
        assert 1 <= rank <= most == units
        assert 0 < sparsity < 1
        assert 0 < likeness < 1
    page = (whole / "report.html").read_text()
    assert all(f'aria-label="Units of {rule}"' in page for rule in ("HPCA", "SWTA"))


def test_the_confusion_of_the_best_read_out_is_kept(whole: Path) -> None:
    probes = {r["method"]: r["top1"] for r in rows(whole) if (r["labels"], r["seed"], r["depth"]) == (72, 0, None)}
    name = max(("HPCA probe", "SWTA probe"), key=lambda method: float(str(probes[method])))
    counts = kept.pictures(whole, "confusion")
    assert next(iter(counts)) == f"{name}, 72 labels"
    right = counts[f"{name}, 72 labels"]
    assert (right.sum(), 100 * right.trace() / right.sum()) == (360, pytest.approx(probes[name]))
    assert f'aria-label="{name}, 72 labels"' in (whole / "report.html").read_text()


def test_a_cell_is_a_net_of_its_own(whole: Path) -> None:
    cell = whole / "cells" / "finetune-swta-72-s0"
    net, model = read_net(cell, QUIET)
    assert (net.rule, net.forward, net.twin) == ("SoftWTA", "unit_norm_relu", "hebbian")
    assert (net.classifier, net.labels, net.label_count, net.label_seed) == ("finetune", "72", 72, 0)
    test = load("digits", image_size=net.image_size).test
    measured = next(r for r in rows(whole) if (r["method"], r["labels"], r["seed"]) == ("SWTA fine-tuned", 72, 0))
    assert accuracy(model, net.loader(test, 256, torch.device("cpu"), shuffle=False)) == measured["top1"]


def test_whitening_is_that_of_the_images_of_pre_training(whole: Path) -> None:
    net, _ = read_net(whole / "cells" / "pretrain-swta-s1", QUIET)
    dataset = load("digits", image_size=net.image_size)
    images = all_but(set_aside(dataset, 0.1, 1), len(dataset.train))
    assert len(images) == 1294
    seen = Loader(dataset.train, 1024, indices=images, shuffle=False, mean=net.mean, std=net.std)
    assert net.whitening is not None
    assert error(net.whitening.matrix, fit_whitening(seen).matrix) < 1e-6  # of all images 5e-3


def test_the_table(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(whole)
    assert study(whole, "--resume") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "digits: mean ± 95 % t-interval over seeds"
    assert out.splitlines()[1].split() == ["top-1", "%", "20", "labels", "72", "labels"]
    assert out.count("±") > 10
    assert snapshot(whole) == before, "a finished study is not touched"


def test_an_existing_study(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(whole)
    assert study(whole) == 1
    assert "holds a run already; add --resume" in capsys.readouterr().err
    assert study(whole, "--resume", "--epochs", "2") == 1
    assert "holds a run with epochs=1, not 2" in capsys.readouterr().err
    assert snapshot(whole) == before


def test_the_report_is_made_again(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (whole / "report.html").read_text()
    (whole / "report.html").unlink()
    assert main(["report", "--run", str(whole)]) == 0
    assert str(whole / "report.html") in capsys.readouterr().out
    assert (whole / "report.html").read_text() == before
    (whole / "report.html").unlink()
    assert study(whole, "--resume") == 0
    assert (whole / "report.html").read_text() == before


@pytest.mark.parametrize(
    ("at", "failure", "code"),
    [
        ("pretrain-hpca-s0", KeyboardInterrupt(), 75),
        ("finetune-swta-20-s0", OSError("disk"), 1),
        ("scratch-backprop-72-s1", Interrupted(), 75),
    ],
)
def test_interrupted_between_cells_and_resumed(
    failure: BaseException, code: int, at: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    once = Bench.once
    measured: list[str] = []

    def watched(bench: Bench, name: str, measure: Callable[[Path], list[runner.Record]]) -> list[runner.Record]:
        def noted(path: Path) -> list[runner.Record]:
            if path.name == at:
                raise failure
            measured.append(path.name)
            return measure(path)

        return once(bench, name, noted)

    monkeypatch.setattr(Bench, "once", watched)
    assert study(tmp_path / "out") == code
    said = capsys.readouterr().err
    assert ("--resume" in said) == isinstance(failure, Interrupted)
    before, at = list(measured), ""
    assert study(tmp_path / "out", "--resume") == 0
    assert sorted(measured) == sorted({p.name for p in (whole / "cells").iterdir()}), "each cell once"
    assert len(before) < len(measured)
    assert timeless(rows(tmp_path / "out")) == timeless(rows(whole))
    for cell in ("pretrain-swta-s1", "finetune-hpca-72-s0"):
        states = [torch.load(out / "cells" / cell / "checkpoints" / "last.pt") for out in (whole, tmp_path / "out")]
        assert equal(states[0]["parts"], states[1]["parts"])


def test_a_signal_inside_a_cell(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = runner.RunFolder.log

    def first(folder: runner.RunFolder, text: str) -> None:
        log(folder, text)
        if "SWTA fine-tuned, 20" in text and not folder._resume:
            folder.stop.deferred = True  # as in the stage that begins now
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(runner.RunFolder, "log", first)
    assert study(tmp_path / "out") == 75
    cell = tmp_path / "out" / "cells" / "finetune-swta-20-s0"
    assert torch.load(cell / "checkpoints" / "last.pt")["progress"]["step"] == 1
    assert study(tmp_path / "out", "--resume") == 0
    assert timeless(rows(tmp_path / "out")) == timeless(rows(whole))


def test_no_results_no_report(tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text((whole / "config.yaml").read_text())
    assert main(["report", "--run", str(tmp_path)]) == 1
    (tmp_path / "results.json").write_text("[]")
    assert main(["report", "--run", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "no such file; a study writes it" in lines[0]
    assert "has no results yet" in lines[1]
