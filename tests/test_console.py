"""Plain lines when piped, bars and tables on a terminal, and a cheap import."""

import io
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fasthebb import console as module
from fasthebb.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> tuple[Terminal, Terminal]:
    """Put terminals in the place of stdout and stderr; called in the test, as pytest sets both after set-up."""
    out, err = Terminal(), Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_import_draws_in_neither_rich_nor_torch() -> None:
    code = "import sys, fasthebb.console, fasthebb.files; print([m for m in ('rich', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_say_and_warn(capsys: pytest.CaptureFixture[str]) -> None:
    Console().say("done [bold]")
    Console().warn("odd")
    assert capsys.readouterr() == ("done [bold]\n", "warning: odd\n")


def test_quiet_keeps_warnings_and_tables(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    console = Console(quiet=True)
    console.say("done")
    for _ in console.progress(3, "work"):
        clock[0] += 100
    assert capsys.readouterr() == ("", "")
    console.warn("odd")
    console.table("t", ["a"], [[1]])
    out, err = capsys.readouterr()
    assert out
    assert err


def test_quick_loops_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Console().progress(["a", "b"], "work")) == ["a", "b"]
    assert list(Console().progress(2, "work")) == [0, 1]
    assert capsys.readouterr() == ("", "")


def test_piped_lines_are_five_seconds_apart(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    for _ in Console().progress(20, "work"):
        clock[0] += 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "work: 2/20, 1/s, 0:18 left",
        "work: 7/20, 1/s, 0:13 left",
        "work: 12/20, 1/s, 0:08 left",
        "work: 17/20, 1/s, 0:03 left",
        "work: 20 done in 0:20",
    ]


def test_piped_without_a_length(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    for _ in Console().progress(iter(range(4)), "work"):
        clock[0] += 1800
    assert capsys.readouterr().err.splitlines()[0] == "work: 1, 0.000556/s"
    for _ in Console().progress(iter(range(4)), "work", total=4):
        clock[0] += 1800
    assert capsys.readouterr().err.splitlines()[0] == "work: 1/4, 0.000556/s, 1:30:00 left"


def test_bars_nest_and_go_when_the_loop_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = on_a_terminal(monkeypatch)
    console = Console()
    for epoch in console.progress(2, "epochs [1]"):
        for _ in console.progress(iter("ab"), "batches"):
            console.warn("odd")
            console.say(f"epoch {epoch}")
    assert console._bars is None
    assert sys.stderr is err
    assert "epochs [1]" in err.getvalue()
    assert "warning: odd" in err.getvalue()
    assert "epoch 1" in err.getvalue()  # rich prints above the bar, which is on stderr
    assert out.getvalue() == ""


def test_a_break_and_an_error_take_the_bar_down(monkeypatch: pytest.MonkeyPatch) -> None:
    _, err = on_a_terminal(monkeypatch)
    console = Console()
    for _ in console.progress(5, "work"):
        break
    assert console._bars is None

    def failing() -> Iterator[int]:
        yield 1
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        list(console.progress(failing(), "work"))
    assert console._bars is None
    assert sys.stderr is err


def test_plain_table(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table("Accuracy", ["method", "top-1", "n"], [["hpca", "93.2 ± 0.4", 18], ["backprop, long", "–", 180]])
    assert capsys.readouterr().out.splitlines() == [
        "Accuracy",
        "method               top-1    n",
        "--------------  ----------  ---",
        "hpca            93.2 ± 0.4   18",
        "backprop, long           –  180",
    ]


def test_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table("Nothing", ["a", "bc"], [])
    assert capsys.readouterr().out == "Nothing\na  bc\n-  --\n"


def test_rich_table_takes_cells_literally(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = on_a_terminal(monkeypatch)
    console = Console()
    console.table("Title [x]", ["name"], [["[red]cat"]])
    assert "[red]cat" in out.getvalue()
    assert "Title [x]" in out.getvalue()
    for _ in console.progress(1, "work"):
        console.table("Inside", ["name"], [["dog"]])
    assert "dog" in err.getvalue()


def test_a_row_must_fit_the_table() -> None:
    with pytest.raises(ValueError, match=r"t: the row \['1'\] has 1 cells, the table 2 columns"):
        Console().table("t", ["a", "b"], [[1]])
