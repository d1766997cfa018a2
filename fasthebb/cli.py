"""The command line: `fasthebb COMMAND --option value …`, configured by dataclasses, YAML and dotted overrides.

Exit codes: 0 done; 1 failed: the options do not fit the data, the files or the machine; 2 wrong usage: they make no
sense; 75 interrupted, resumable. torch is imported only once a command is known, so that help is immediate.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from fasthebb import __version__
from fasthebb.console import Console

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 75
EVERYWHERE = ("--debug", "--json", "--quiet")


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


def _embed() -> tuple[type[Any], Callable[[Any, Console], object]]:
    from fasthebb.jobs.embed import EmbedOptions, run

    return EmbedOptions, run


def _predict() -> tuple[type[Any], Callable[[Any, Console], object]]:
    from fasthebb.jobs.predict import PredictOptions, run

    return PredictOptions, run


def _export() -> tuple[type[Any], Callable[[Any, Console], object]]:
    from fasthebb.jobs.export import ExportOptions, run

    return ExportOptions, run


def _data() -> tuple[type[Any], Callable[[Any, Console], object]]:
    from fasthebb.jobs.data import DataCommandOptions, run

    return DataCommandOptions, run


def _completion() -> tuple[type[Any], Callable[[Any, Console], object]]:
    from fasthebb.jobs.completion import CompletionOptions, run

    def complete(options: Any, console: Console) -> object:
        from fasthebb.recipes import RECIPES
        from fasthebb.study.options import BASELINES, standard_rules

        kinds = {name: (command.help, command.load()[0]) for name, command in COMMANDS.items()}
        known = {"recipe": list(RECIPES), "methods": [*standard_rules(), *BASELINES]}
        return run(options, console, kinds, known)

    return CompletionOptions, complete


COMMANDS = {
    "study": Command("compare methods over label budgets and seeds: tables and a report", _study),
    "pretrain": Command("train a net's hidden layers on images without labels", _pretrain),
    "finetune": Command("train a pre-trained net on few labels", _finetune),
    "evaluate": Command("measure a run on test images: classifier, probe, nearest neighbours", _evaluate),
    "embed": Command("write the features of images, with their paths and labels, to a file", _embed),
    "predict": Command("write the class of every image of a folder as CSV", _predict),
    "export": Command("write a net for others: weights, a model card, programs", _export),
    "data": Command("`data check` counts, measures and compares the images of a data set", _data),
    "report": Command("write a study's report again from its results", _report),
    "bench": Command("time a training step against supervised and published ones", _bench),
    "completion": Command("print a script that completes commands and options in bash, zsh or fish", _completion),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    said = {word for word in given if word in EVERYWHERE}
    given = [word for word in given if word not in EVERYWHERE]
    console = Console(quiet="--quiet" in said)
    if not given or given[0] in ("-h", "--help", "help"):
        console.say(_help())
        return DONE if given else USAGE
    if given[0] in ("-V", "--version"):
        console.say(f"fasthebb {__version__}")
        return DONE
    if given[0] not in COMMANDS:
        console.error(_unknown("command", given[0], COMMANDS))
        return USAGE
    with warnings.catch_warnings(), _terminable():
        warnings.showwarning = lambda message, *_, **__: console.warn(" ".join(str(message).split()))
        try:
            return _run(given, console, debug="--debug" in said, as_document="--json" in said)
        except KeyboardInterrupt:
            console.error("interrupted")
            return INTERRUPTED


def _run(given: list[str], console: Console, *, debug: bool, as_document: bool) -> int:
    from fasthebb.jobs.outcome import Outcome, as_json
    from fasthebb.options import Usage, parse
    from fasthebb.training.stop import Interrupted

    try:
        kind, function = COMMANDS[given[0]].load()
        options = parse(f"fasthebb {given[0]}", kind, given[1:], _recipe(given, kind))
        with _no_output() if as_document else contextlib.nullcontext():
            found = function(options, console)
        if as_document:
            sys.stdout.write(as_json(found, options) + "\n")
        sys.stdout.flush()
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
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
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
    if isinstance(found, Outcome) and found.error:
        console.error(found.error)
        return FAILED
    return DONE


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    # SIGTERM is as Ctrl-C from the first moment, also where no run folder listens yet.
    if threading.current_thread() is not threading.main_thread():  # no other may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _no_output() -> Iterator[None]:
    # What is meant for people goes nowhere, so that stdout holds one document.
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


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
            "fasthebb COMMAND --help lists a command's options; --quiet, --json and --debug go with every command.",
        ]
    )


def _unknown(what: str, name: str, known: Sequence[str] | dict[str, Any]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{what} {name!r} is unknown: {hint}choose from {', '.join(known)}"
