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
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any, NamedTuple

from fasthebb import __version__
from fasthebb.console import GRACE, Console, OtherRank, launched, nearest, no_output

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 75
GROUPS = ("pretrain", "finetune", "evaluate")  # commands whose ranks work on one batch; those of a study share cells
EVERYWHERE = ("--debug", "--json", "--quiet")


class Command(NamedTuple):
    """A command: its help line, and where its options class and its function are, as "module:name"."""

    help: str
    options: str
    function: str

    def load(self) -> tuple[type[Any], Callable[[Any, Console], object]]:
        """Import the options class and the function."""
        return _imported(self.options), _imported(self.function)


COMMANDS = {
    name: Command(about, f"fasthebb.{options}", f"fasthebb.{function}")
    for name, about, options, function in (
        (
            "study", "compare methods over label budgets and seeds: tables and a report",
            "study.options:StudyOptions", "study.runner:run",
        ),
        (
            "pretrain", "train a net's hidden layers on images without labels",
            "jobs.options:PretrainOptions", "jobs.pretrain:run",
        ),
        (
            "finetune", "train a pre-trained net on few labels",
            "jobs.options:FinetuneOptions", "jobs.finetune:run",
        ),
        (
            "evaluate", "measure a run on test images: classifier, probe, nearest neighbours",
            "jobs.evaluate:EvaluateOptions", "jobs.evaluate:run",
        ),
        (
            "embed", "write the features of images, with their paths and labels, to a file",
            "jobs.embed:EmbedOptions", "jobs.embed:run",
        ),
        (
            "predict", "write the class of every image of a folder as CSV",
            "jobs.predict:PredictOptions", "jobs.predict:run",
        ),
        (
            "export", "write a net for others: weights, a model card, programs",
            "jobs.export:ExportOptions", "jobs.export:run",
        ),
        (
            "data", "`data check` looks the images of a data set over, `data shard` writes them as shards",
            "jobs.data:DataCommandOptions", "jobs.data:run",
        ),
        ("report", "write a study's report again from its results", "study.rebuild:ReportOptions", "study.rebuild:run"),
        (
            "bench", "time a training step against supervised and published ones",
            "bench.command:BenchOptions", "bench.command:run",
        ),
        (
            "completion", "print a script that completes commands and options in bash, zsh or fish",
            "jobs.completion:CompletionOptions", "cli:complete",
        ),
    )
}  # fmt: skip


def complete(options: Any, console: Console) -> object:
    """Print a script that knows every command, option and name."""
    from fasthebb.jobs.completion import run
    from fasthebb.recipes import RECIPES
    from fasthebb.study.options import BASELINES, standard_rules

    kinds = {name: (command.help, command.load()[0]) for name, command in COMMANDS.items()}
    known = {"recipe": list(RECIPES), "methods": [*standard_rules(), *BASELINES]}
    return run(options, console, kinds, known)


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    given = given[1:] if given[:1] == ["--"] else given  # without it torchrun takes --run for its own --run-path
    said = {word for word in given if word in EVERYWHERE}
    given = [word for word in given if word not in EVERYWHERE]
    rank, ranks = launched()
    console = OtherRank(rank) if rank else Console(quiet="--quiet" in said)
    if not given or given[0] in ("-h", "--help", "help"):
        console.say(_help())
        return DONE if given else USAGE
    if given[0] in ("-V", "--version"):
        console.say(f"fasthebb {__version__}")
        return DONE
    if given[0] not in COMMANDS:
        console.error(_unknown("command", given[0], COMMANDS))
        return USAGE
    if ranks > 1 and given[0] not in (*GROUPS, "study"):
        console.error(f"{given[0]} runs in one process: start it without torchrun")
        return USAGE
    with warnings.catch_warnings(), _terminable():
        warnings.showwarning = lambda message, kind, *_, **__: _warn(console, given[0], message, kind)
        try:
            return _run(given, console, debug="--debug" in said, as_document="--json" in said)
        except KeyboardInterrupt:
            if not rank:
                console.error("interrupted")
            return INTERRUPTED


def _warn(console: Console, command: str, message: Warning | str, kind: type[Warning]) -> None:
    text = " ".join(str(message).split())
    if isinstance(console, OtherRank) and (command == "study" or kind.__name__ == "UnreadableWarning"):
        console.own_warning(text)  # of work that the first rank does not do
    else:
        console.warn(text)


def _run(given: list[str], console: Console, *, debug: bool, as_document: bool) -> int:
    rank, ranks = launched()
    from fasthebb.distributed import LostRankError, joined
    from fasthebb.files import told
    from fasthebb.jobs.outcome import Outcome, as_json
    from fasthebb.options import Usage, parse
    from fasthebb.training.stop import Interrupted

    try:
        kind, function = COMMANDS[given[0]].load()
        options = parse(f"fasthebb {given[0]}", kind, given[1:], _recipe(given, kind))
        with contextlib.ExitStack() as around:
            if given[0] in GROUPS:
                around.enter_context(joined(getattr(options, "rank_timeout", None)))
            if as_document:
                around.enter_context(no_output())
            found = function(options, console)
        if as_document and not rank:
            sys.stdout.write(as_json(found, options) + "\n")
        sys.stdout.flush()
    except SystemExit as done:  # --help and the like
        return int(done.code or DONE)
    except Usage as error:
        console.error(str(error))
        return USAGE
    except Interrupted:
        if rank:
            return INTERRUPTED
        resume = [] if {"--resume", "--resume=true"} & set(given) else ["--resume"]
        resumes = "resume" in {f.name for f in fields(kind)}
        program = "fasthebb" if ranks == 1 else "torchrun … -m fasthebb --"
        line = shlex.join([*given, *resume])
        console.error(f"interrupted; go on with: {program} {line}" if resumes else "interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (ValueError, FloatingPointError, OSError) as error:
        if debug:
            raise
        console.error(told(error))
        if isinstance(error, LostRankError) and not rank:
            time.sleep(GRACE + 1)  # for the rank that failed to say why
        return FAILED
    except Exception as error:
        if debug:
            raise
        console.error(f"{type(error).__name__}: {told(error)} (--debug shows where)")
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


def _recipe(given: list[str], kind: type[Any]) -> Any:
    # A study's recipe: the values that its options start from.
    from fasthebb.options import Usage, read_words, values_of
    from fasthebb.recipes import RECIPES, at_budgets

    if given[0] != "study":
        return None
    words, config = read_words(given[1:], kind)
    named, budgets = ([config.get(name), *values_of(f"--{name}", words)][-1] for name in ("recipe", "budgets"))
    if named is None:
        return None
    if named not in RECIPES:
        raise Usage(_unknown("recipe", str(named), RECIPES))
    return at_budgets(RECIPES[named](), budgets)


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
    near = nearest(name, known)
    hint = f"did you mean {near}? " if near else ""
    return f"{what} {name!r} is unknown: {hint}choose from {', '.join(known)}"
