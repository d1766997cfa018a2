"""Run folders: who owns one, what is refused, what a failure leaves; and how signals end a run."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny import QUIET, snapshot

from fasthebb.training.run import RunFolder, read_config, read_metrics
from fasthebb.training.stop import Interrupted, Stop


def folder(path: Path, *, resume: bool = False, **options: object) -> RunFolder:
    return RunFolder(path, {"a": 1, "device": "cpu"} | options, resume=resume, console=QUIET)


def begin(path: Path) -> None:
    with folder(path) as run:
        run.write_config()
        run.log("begun")


def fail(path: Path, *, begun: bool = False, stranger: str = "") -> None:
    """Begin a run that ends with an error."""
    with folder(path) as run:
        run.write_config()
        run.log("began")
        run.begun = begun
        if stranger:
            (path / stranger).write_text("yours")
        raise OSError("disk")


def test_what_a_new_run_leaves_when_it_fails(tmp_path: Path) -> None:
    for begun in (False, True):
        with pytest.raises(OSError, match="disk"):
            fail(tmp_path / "x" / "run", begun=begun)
        left = sorted(p.name for p in tmp_path.rglob("*"))
        assert left == ([".lock", "config.yaml", "run", "train.log", "x"] if begun else [])


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("mine")
    with pytest.raises(OSError, match="disk"):
        fail(tmp_path, stranger="stranger")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "stranger"]


def test_a_resumed_run_that_fails_at_once_is_kept(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    before = snapshot(tmp_path)
    with pytest.raises(OSError, match="disk"), folder(tmp_path / "run", resume=True):
        raise OSError("disk")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "resume", "said"),
    [
        ({}, False, "holds a run already; add --resume"),
        (
            {"a": 2},
            True,
            r"a=1, not 2; name another folder, or give the same options, which --config \S+/run/config.yaml holds$",
        ),
        ({"b": 2}, True, "a run of another command or version"),
    ],
)
def test_an_existing_run_is_refused_and_untouched(
    tmp_path: Path, options: dict[str, object], resume: bool, said: str
) -> None:
    begin(tmp_path / "run")
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match=said), folder(tmp_path / "run", resume=resume, **options):
        pass
    assert snapshot(tmp_path) == before


def test_a_run_resumes_on_another_device(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    with folder(tmp_path / "run", resume=True, device="cuda") as run:
        assert run.begun


@pytest.mark.parametrize("name", ["checkpoints", "train.log", "photo.png"])
def test_a_folder_of_other_things_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    for resume in (False, True):
        with (
            pytest.raises(ValueError, match=f"not empty and no run folder .it holds {name}"),
            folder(tmp_path, resume=resume),
        ):
            pass
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("text", "said"), [("a: [", "is damaged"), ("- 1", "it holds no options"), (None, "no config")]
)
def test_a_damaged_configuration(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=said) as raised:
        read_config(tmp_path)
    assert "\n" not in str(raised.value)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fasthebb.console import Console\n"
        "from fasthebb.training.run import RunFolder\n"
        "try:\n    RunFolder(Path(sys.argv[1]), {'a': 1}, resume=True, console=Console()).__enter__()\n"
        "except ValueError as error: print(error)"
    )
    with folder(tmp_path / "run"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, check=True
        )
    assert "is in use by another process: wait until it ends, or name another folder" in done.stdout


def test_no_metrics(tmp_path: Path) -> None:
    assert list(read_metrics(tmp_path)) == []


def test_a_line_that_a_crash_cut_short_is_no_metric(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert list(read_metrics(tmp_path)) == [{"epoch": 1}, {"epoch": 2}]


def test_what_ended_a_run_is_noted(tmp_path: Path) -> None:
    def fail() -> None:
        with RunFolder(tmp_path, {"lr": 1}, resume=False, console=QUIET) as run:
            run.write_config()
            run.begun = True
            run.log("begun")
            raise FloatingPointError("The update is not finite")

    with pytest.raises(FloatingPointError):
        fail()
    assert (tmp_path / "train.log").read_text().endswith(" error: The update is not finite\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Stop() as stop:
        with pytest.raises(Interrupted):
            signal.raise_signal(number)
        assert not stop.requested
        stop.deferred = True
        signal.raise_signal(number)
        assert stop.requested, "the stage ends after its next checkpoint"
        with pytest.raises(Interrupted):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_thread_sets_no_handler() -> None:
    found: list[object] = []

    def work() -> None:
        with Stop():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
