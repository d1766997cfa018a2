"""What jsonargparse says of options that make no sense, as one line that repeats the input and says what to do."""

from __future__ import annotations

import re
from typing import Any

from jsonargparse import ArgumentParser

from fasthebb import rules
from fasthebb.competition import Competition
from fasthebb.console import nearest
from fasthebb.response import Response
from fasthebb.rules.supervised import Signalled

SIGNALLED = (rules.Prototypes, Signalled)
BASES = {"response": Response, "competition": Competition, "inner": Competition}


def classes(base: type[Any]) -> list[str]:
    """Names of the classes of a kind that a command line may name."""
    if base is rules.Rule:
        named = [(name, getattr(rules, name)) for name in rules.__all__ if name not in ("Rule", "Local", "Terms")]
        return [name for name, rule in named if not issubclass(rule, SIGNALLED)]
    below = base.__subclasses__()
    return [name for kind in below for name in classes(kind)] if below else [base.__name__]


def one_line(error: Exception, parser: ArgumentParser) -> str:
    """jsonargparse's message, which nests by indentation, in one line: --option value: what is wrong."""
    text = re.sub(r"NestedArg\(key='([\w.]+)', val='?(.*?)'?\)", r"\1=\2", " ".join(str(error).split()))
    keys = ".".join(re.findall(r'Parser key "([\w.]+)"', text))
    option = f"--{keys.replace('_', '-')}"
    value = re.search(r"(?:Got|Given) value: (.*)$", text)
    wanted = re.search(r"Expected a (?:<class '(\w+)'>|typing\.Literal\[(.*?)\])", text)
    if lacking := re.search(r"arguments are required: ([\w, ]*\w)", text):
        if keys:
            return f"{option} needs {', '.join(f'{option}.{name}' for name in lacking[1].split(', '))} too"
        helps = {action.dest: str(action.help).rstrip(".") for action in parser._actions}
        about = helps.get(lacking[1], "--help says what")  # of one option, what it is
        return f"{parser.prog} needs {', '.join(f'--{name}' for name in lacking[1].split(', '))} ({about})"
    if unknown := re.search(r"[Uu]nrecognized arguments: (\S+)|Option '(.+?)' is not accepted", text):
        name = unknown[1] or f"--{unknown[2]}"
        if owner := re.findall(r"class_path '(.+?)'", text):
            return f"{option}.{name[2:]}: {owner[-1]} has no such option (--rule.help CLASS lists what there is)"
        options = [o for action in parser._actions for o in action.option_strings if o.startswith("--")]
        close = nearest(name.partition("=")[0].replace("-", "_"), [o.replace("-", "_") for o in options])
        hint = f"; did you mean --{close[2:].replace('_', '-')}?" if close else ""
        return f"{parser.prog}: there is no option {name}{hint} (--help lists them)"
    if ours := re.search(r"- (\w+\(\w+=.+?\): .+?) (?:- |Given value)", text):  # one of several types
        return f"{option.rstrip('-') or parser.prog}: {ours[1]} (--help lists what there is)"
    if keys and value and "Callable" in text:
        name = (re.search(r"import path string: (\S+)", text) or value)[1]
        return f"{option} {name}: give the path of a function, such as fasthebb.finish.fan_in"
    if foreign := re.search(r"import path string: (\S+)", text):
        known = classes(BASES.get(keys.rpartition(".")[2], rules.Rule))
        near = nearest(foreign[1], known)
        hint = f"did you mean {near}? " if near else ""
        return f"{option} {foreign[1]}: there is no such class; {hint}choose from {', '.join(known)}, or module.Class"
    if other := re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", text):
        return f"{option} {other[1]}: this is no {other[2]}; name a class of fasthebb, or module.Class of your own"
    if keys and value and wanted:
        kinds = {"int": "a whole number", "float": "a number", "bool": "true or false", "NoneType": "a class's path"}
        kinds |= {
            "tuple": "a list, such as [3,4]",
            "dict": "a mapping, such as '{conv1: Oja}', with a space after the colon",
        }
        choices = (wanted[2] or "").replace("'", "")
        return f"{option} {value[1]}: give {f'one of {choices}' if choices else kinds.get(wanted[1], wanted[1])}"
    if keys:
        given = "".join(f" {path}" for path in re.findall(r"class_path '(.+?)'", text)[-1:])
        return f"{option}{given}: {text.rpartition(': ')[2]} (--help lists what there is)"
    return f"{parser.prog}: {text} (--help lists what there is)"
