"""Processes that share a study do each cell once, and end with what one process measures."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import NET, timeless

from fasthebb.cli import main
from fasthebb.evaluation.results import load, load_tuning
from fasthebb.study import claims
from fasthebb.study.places import AbandonedError, held, place

TESTS = Path(__file__).parents[1]
WORDS = (
    "study", *NET, "--data", "digits", "--methods", "hpca", "random", "scratch", "--budgets", "20", "5%",
    "--seeds", "0,1,2", "--epochs", "1", "--batch-size", "128", "--finetune-steps", "4", "--tuning",
    '[{"finetune_lr": 0.01}, {"finetune_lr": 0.1}]', "--tune-at", "5%",
)  # fmt: skip


def shared(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "fasthebb", "--"]
    return subprocess.run(
        [sys.executable, *torchrun, *WORDS, "--out", str(out), *more],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


def test_two_processes_measure_what_one_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert main([*WORDS, "--out", str(one), "--quiet"]) == 0
    done = shared(two)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mean ± 95 % t-interval") == 1, "the first speaks"
    rows = [timeless(map(asdict, load(out)[0])) for out in (one, two)]
    assert rows[0] == rows[1]
    assert load_tuning(one) == load_tuning(two)
    assert (two / "report.html").exists()
    told = (two / "train.log").read_text()
    assert all(told.count(f"seed {seed}: pre-training") == 1 for seed in (0, 1, 2))
    again = shared(two, "--resume")
    assert again.returncode == 0
    assert "is finished already" in again.stdout
    capsys.readouterr()


def test_a_folder_of_another_study_is_not_touched(tmp_path: Path) -> None:
    assert main([*WORDS, "--out", str(tmp_path / "run"), "--quiet", "--methods", "random"]) == 0
    before = sorted(path.name for path in (tmp_path / "run" / "cells").iterdir())
    wrong = shared(tmp_path / "run", "--resume", "--lr", "0.5")
    assert wrong.returncode == 1
    assert wrong.stderr.count("error: ") == 1
    assert sorted(path.name for path in (tmp_path / "run" / "cells").iterdir()) == before


def test_a_plan_by_the_clock_is_of_one_process(tmp_path: Path) -> None:
    wrong = shared(tmp_path / "run", "--minutes", "3")
    assert wrong.returncode == 1
    assert "error: --minutes 3.0 plans for one process: start it without torchrun" in wrong.stderr


def test_each_is_taken_once_and_other_seeds_begin_after_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, int]] = []
    taken: list[tuple[str, int]] = []
    first = threading.Event()

    def measure(bench: SimpleNamespace) -> None:
        begun.append((bench.method.name, bench.seed))
        if bench.seed == 0:
            first.wait(5)
        taken.append((bench.method.name, bench.seed))

    monkeypatch.setattr(claims, "METHODS", {})
    monkeypatch.setattr(claims, "hebbian", measure)
    monkeypatch.setattr(claims, "PAUSE", 0.01)
    monkeypatch.setattr(claims, "tuned_budgets", lambda bench: [20] if bench.method.name == "tuned" else [])
    benches = [
        SimpleNamespace(
            method=SimpleNamespace(name=name, base=name, pretrained_by=name), seed=seed, budgets={20: None},
            folder=SimpleNamespace(path=tmp_path), options=SimpleNamespace(seeds=[0, 1]),
        )
        for seed in (1, 0)
        for name in ("tuned", "plain")
    ]  # fmt: skip
    threads = [threading.Thread(target=claims.together, args=(benches,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(taken) < 2:
        assert any(thread.is_alive() for thread in threads)
    assert sorted(taken) == [("plain", 1), ("tuned", 1)], "while the first seed of both is under way"
    first.set()
    for thread in threads:
        thread.join(5)
    assert sorted(taken) == [("plain", 0), ("plain", 1), ("tuned", 0), ("tuned", 1)]
    assert begun.index(("tuned", 0)) < begun.index(("tuned", 1)), "which takes the settings that the first chooses"


def test_a_seed_that_waits_for_a_first_one_that_died_is_left_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def measure(bench: SimpleNamespace) -> None:
        begun.append(bench.seed)
        if bench.seed == 1 and 0 not in begun:
            raise AbandonedError

    monkeypatch.setattr(claims, "METHODS", {})
    monkeypatch.setattr(claims, "hebbian", measure)
    monkeypatch.setattr(claims, "PAUSE", 0.01)
    monkeypatch.setattr(claims, "tuned_budgets", lambda bench: [20])
    method = SimpleNamespace(name="tuned", base="tuned", pretrained_by="tuned")
    benches: list[Any] = [
        SimpleNamespace(
            method=method, seed=seed, budgets={20: None}, folder=SimpleNamespace(path=tmp_path),
            options=SimpleNamespace(seeds=[0, 1]),
        )
        for seed in (1, 0)
    ]  # fmt: skip
    thread = threading.Thread(target=claims.together, args=(benches,))
    with held(place(benches[1])):  # as of a process that begins, and dies
        thread.start()
        while not begun:
            assert thread.is_alive()
    thread.join(5)
    assert begun[0] == 1
    assert begun[-2:] == [0, 1]
    assert sorted(path.name for path in (tmp_path / "cells").glob(".*.done")) == [".tuned-s0.done", ".tuned-s1.done"]


def test_who_shares_a_pretraining_is_left_while_another_is_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    trained, other = threading.Event(), threading.Event()

    def measure(bench: SimpleNamespace) -> None:
        if bench.method.name == "first":
            trained.wait(5)
            other.wait(5)
        taken.append(bench.method.name)

    monkeypatch.setattr(claims, "METHODS", {})
    monkeypatch.setattr(claims, "hebbian", measure)
    monkeypatch.setattr(claims, "PAUSE", 0.01)
    monkeypatch.setattr(claims, "tuned_budgets", lambda bench: [])
    benches = [
        SimpleNamespace(
            method=SimpleNamespace(name=name, base=name, pretrained_by=by), seed=0, budgets={20: None},
            folder=SimpleNamespace(path=tmp_path), options=SimpleNamespace(seeds=[0]),
            pretrained=lambda name: trained.is_set(),
        )
        for name, by in (("first", "first"), ("second", "first"), ("third", "third"))
    ]  # fmt: skip
    threads = [threading.Thread(target=claims.together, args=(benches,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not taken:
        assert any(thread.is_alive() for thread in threads)
    time.sleep(0.05)
    assert taken == ["third"], "the second would wait for the first's net"
    trained.set()
    while len(taken) < 2:
        assert any(thread.is_alive() for thread in threads)
    assert taken == ["third", "second"], "which is there now, though the first is not done"
    other.set()
    for thread in threads:
        thread.join(5)
    assert sorted(taken) == ["first", "second", "third"]
