"""The command line: `fasthebb COMMAND --option value …`, configured by dataclasses, YAML and dotted overrides.

Exit codes: 0 done; 1 failed: the options do not fit the data, the files or the machine; 2 wrong usage: they make no
sense; 75 interrupted, resumable. torch is imported only once a command is known, so that help is immediate.
"""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from fasthebb import __version__
from fasthebb.console import Console

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 75


class Command(NamedTuple):
    """A command: its help line, and what loads its options class and its function."""

    help: str
    load: Callable[[], tuple[type[Any], Callable[[Any, Console], object]]]


def _pretrain() -> tuple[type[Any], Callable[[Any, Console], object]]:
    from fasthebb.jobs.options import PretrainOptions
    from fasthebb.jobs.pretrain import run

    return PretrainOptions, run


def _finetune() -> tuple[type[Any], Callable[[Any, Console], object]]:
    from fasthebb.jobs.finetune import run
    from fasthebb.jobs.options import FinetuneOptions

    return FinetuneOptions, run


def _evaluate() -> tuple[type[Any], Callable[[Any, Console], object]]:
    from fasthebb.jobs.evaluate import run
    from fasthebb.jobs.options import EvaluateOptions

    return EvaluateOptions, run


def _study() -> tuple[type[Any], Callable[[Any, Console], object]]:
    from fasthebb.study.options import StudyOptions
    from fasthebb.study.runner import run

    return StudyOptions, run


def _bench() -> tuple[type[Any], Callable[[Any, Console], object]]:
    from fasthebb.bench.command import BenchOptions, run

    return BenchOptions, run


def _report() -> tuple[type[Any], Callable[[Any, Console], object]]:
    from fasthebb.study.rebuild import ReportOptions, run

    return ReportOptions, run


COMMANDS = {
    "study": Command("compare methods over label budgets and seeds: tables and a report", _study),
    "pretrain": Command("train a net's hidden layers on images without labels", _pretrain),
    "finetune": Command("train a pre-trained net on few labels", _finetune),
    "evaluate": Command("measure a run on test images: classifier, probe, nearest neighbours", _evaluate),
    "report": Command("write a study's report again from its results", _report),
    "bench": Command("time a training step against supervised and published ones", _bench),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    quiet = "--quiet" in given
    given = [word for word in given if word not in ("--debug", "--quiet")]
    console = Console(quiet=quiet)
    if not given or given[0] in ("-h", "--help", "help"):
        console.say(_help())
        return DONE if given else USAGE
    if given[0] in ("-V", "--version"):
        console.say(f"fasthebb {__version__}")
        return DONE
    if given[0] not in COMMANDS:
        console.error(_unknown("command", given[0], COMMANDS))
        return USAGE
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: console.warn(" ".join(str(message).split()))
        try:
            return _run(given, console, debug=debug)
        except KeyboardInterrupt:
            console.error("interrupted")
            return INTERRUPTED


def _run(given: list[str], console: Console, *, debug: bool) -> int:
    from fasthebb.options import Usage, parse
    from fasthebb.training.stop import Interrupted

    try:
        kind, function = COMMANDS[given[0]].load()
        options = parse(f"fasthebb {given[0]}", kind, given[1:], _recipe(given, kind))
        function(options, console)
    except SystemExit as done:  # --help and the like
        return int(done.code or DONE)
    except Usage as error:
        console.error(str(error))
        return USAGE
    except Interrupted:
        resume = [] if {"--resume", "--resume=true"} & set(given) else ["--resume"]
        resumes = "resume" in {f.name for f in fields(kind)}
        line = shlex.join([*given, *resume])
        console.error(f"interrupted; go on with: fasthebb {line}" if resumes else "interrupted")
        return INTERRUPTED
    except (ValueError, FloatingPointError, OSError) as error:
        if debug:
            raise
        console.error(" ".join(str(error).split()))
        return FAILED
    except Exception as error:
        if debug:
            raise
        reason = " ".join(str(error).split())
        console.error(f"{type(error).__name__}: {reason} (--debug shows where)")
        return FAILED
    return DONE


def _recipe(given: list[str], kind: type[Any]) -> Any:
    # A study's recipe: the values that its options start from.
    from fasthebb.options import Usage, read_words, values_of
    from fasthebb.recipes import RECIPES

    if given[0] != "study":
        return None
    words, config = read_words(given[1:], kind)
    named = [config.get("recipe"), *values_of("--recipe", words)][-1]
    if named is None:
        return None
    if named not in RECIPES:
        raise Usage(_unknown("recipe", str(named), RECIPES))
    return RECIPES[named]()


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: fasthebb COMMAND [--option value ...]",
            "",
            "Fast, scalable Hebbian training of deep networks.",
            "",
            "commands:",
            *lines,
            "",
            "fasthebb COMMAND --help lists a command's options; --quiet and --debug go with every command.",
        ]
    )


def _unknown(what: str, name: str, known: Sequence[str] | dict[str, Any]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{what} {name!r} is unknown: {hint}choose from {', '.join(known)}"
