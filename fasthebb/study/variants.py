"""Options of a method's own in a study, and variants: methods that differ from a rule or a baseline by options alone.

| own | means |
|---|---|
| vae: {model: sixlayer} | the VAE trains another net than the study's |
| hpca-wide: {is: hpca, title: HPCA wide, width: 2.0} | HPCA once more, twice as wide, under a name of its own |
"""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from jsonargparse import ArgumentParser

from fasthebb.jobs.readouts import ReadOutOptions
from fasthebb.models.blocks import one_of

if TYPE_CHECKING:
    from fasthebb.study.options import StudyOptions

IS, TITLE = "is", "title"
PRETRAINING = (
    "model", "width", "lr", "epochs", "max_steps", "max_seconds", "order", "head", "pretrain_augment",
    "initial_scale", "pretrain_images", "precision",
)  # fmt: skip
TUNABLE = ("finetune_lr", "weight_decay", "augment", "head_steps", "hidden_rate")
OWN = (
    *PRETRAINING, "batch_size", "revive", "rescale", "renew", "student", "student_model", "student_width",
    "fixmatch_steps", "fixmatch_ratio", "fixmatch_lr", "fixmatch_hidden_rate",
    "budgets", "budget_seeds", "both_twins",
    "finetune", "finetune_steps", "finetune_batch_size", "finetune_epochs", "finetune_depths",
    *TUNABLE, "tuning", "tune_steps",
    *(f.name for f in fields(ReadOutOptions)),
)  # fmt: skip
MOST = 4  # settings
SIMCLR_BATCH = 256
READ_OUT_WORDS = ("probe", "knn", "svm", "fine-tuned", "student", "fixmatch", "retrieval")


class Method(NamedTuple):
    """A method of a study.

    name: what options and cells call it. base: the rule or the baseline that it is. title: what results call it.
    options: the study's, with its own in their place, its rate of pre-training as `lr`. pretrained_by: the first method
    of the study that pre-trains the same net the same way, whose cell does for both.
    """

    name: str
    base: str
    title: str
    options: StudyOptions
    pretrained_by: str

    @property
    def batch_size(self) -> int:
        """Images a step of pre-training; of SimCLR 256, whatever the study has, unless it is told its own."""
        own = self.options.own.get(self.name, {})
        return int(own.get("batch_size", SIMCLR_BATCH if self.base == "simclr" else self.options.batch_size))

    def pretraining(self) -> tuple[object, ...]:
        """What decides how the net is pre-trained."""
        whitened = self.name in self.options.whiten
        return self.base, whitened, self.batch_size, *(getattr(self.options, name) for name in PRETRAINING)

    def with_(self, values: Mapping[str, Any]) -> Method:
        """The method with other values of some options."""
        options = copy(self.options)  # no new one: what holds for a study need not hold for one of its methods
        vars(options).update(values)
        return self._replace(options=options)


def check_own(kind: type[Any], own: Mapping[str, Mapping[str, Any]], bases: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The own options of every method, their values as the options of `kind` are typed.

    Raises:
        ValueError: a method, a base or an option is unknown, or a value or a title makes no sense.
    """
    bases, checked = list(bases), {}
    for method, given in own.items():
        where = f"--own {method}"
        if not isinstance(given, Mapping):
            raise ValueError(f"{where}: {given!r} is no mapping; give options of its own, such as {{width: 2.0}}")
        base = given.get(IS, method)
        one_of(f"{where}: a method, or what it `{IS}`,", base, bases)
        if method in bases and base != method:
            raise ValueError(f"{where}: {method} is a method already; give the variant of {base} another name")
        if not re.fullmatch(r"[\w.-]+", method):
            raise ValueError(f"{where}: name it by letters, digits, dots and dashes, and add a `{TITLE}` for people")
        _check_title(str(given.get(TITLE, method)), base, where)
        named = {key: str(given[key]) for key in (IS, TITLE) if key in given}
        rest = {key: value for key, value in given.items() if key not in named}
        checked[method] = named | typed(kind, OWN, rest, where)
        if "tuning" in rest:
            checked[method]["tuning"] = check_tuning(kind, checked[method]["tuning"], where)
    return checked


def in_words(options: Mapping[str, Any]) -> str:
    """Options as people read them."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in options.items()) or "all as given"


def check_tuning(
    kind: type[Any], settings: Sequence[Mapping[str, Any]], where: str = "--tuning"
) -> list[dict[str, Any]]:
    """The settings that training end to end chooses from, their values as the options of `kind` are typed.

    Raises:
        ValueError: they are too many, or an option or a value makes no sense.
    """
    if len(settings) > MOST:
        raise ValueError(f"{where}: {len(settings)} settings are more than a fair search tries; give at most {MOST}")
    return [typed(kind, TUNABLE, setting, f"{where} {number}") for number, setting in enumerate(settings, start=1)]


def check_ensembles(ensembles: Mapping[str, Sequence[str]], methods: Mapping[str, Method]) -> None:
    """See whether methods can be averaged.

    Raises:
        ValueError: one is not of the study or has no probe, their probes differ in kind, or a name makes no sense.
    """
    for name, members in ensembles.items():
        where = f"--ensembles {name}"
        _check_title(name, "", where)
        if name in {method.title for method in methods.values()}:
            raise ValueError(f"{where}: a method is called so; give the ensemble another name")
        if len(set(members)) < max(2, len(members)):
            raise ValueError(f"{where}: {', '.join(members) or 'nothing'}; name two methods or more, each once")
        for member in members:
            one_of(f"{where}: method", member, methods)
            options = methods[member].options
            if methods[member].base == "scratch" or not (options.probe or options.together):
                raise ValueError(f"{where}: {member} has no probe of frozen features; leave it out")
        each = [methods[member].options for member in members]
        kinds = {"ridge" if options.together else options.probe_method for options in each}
        if len(kinds) > 1:
            raise ValueError(f"{where}: scores of {' and '.join(sorted(kinds))} probes have no common scale")


def typed(kind: type[Any], names: Iterable[str], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Option values as the fields of `kind` are typed, of some names: YAML reads 1e-2 as text, for one.

    Raises:
        ValueError: an option is none of them, or its value makes no sense.
    """
    hints, names = get_type_hints(kind), list(names)
    parser = ArgumentParser(exit_on_error=False)
    found = {}
    for name, value in given.items():
        if name in hints and name not in names:
            raise ValueError(f"{where}: {name} cannot differ there; what can is {', '.join(names)}")
        parser.add_argument(f"--{one_of(f'{where}: option', name, names)}", type=hints[name])
        try:
            found[name] = parser.parse_object({name: value}, defaults=False)[name]
        except ArgumentError:
            raise ValueError(
                f"{where}: {name} {value!r} makes no sense; see --{name.replace('_', '-')} in --help"
            ) from None
    return found


def _check_title(title: str, base: str, where: str) -> None:
    # Results tell kinds of methods apart by these words alone.
    if bad := [word for word in READ_OUT_WORDS if word in title.lower()]:
        raise ValueError(
            f"{where}: {title!r} has the word {bad[0]}, as read-outs are called; choose a `{TITLE}` without"
        )
    for word in ("scratch", "random"):
        if (word in title.lower()) != (base == word):
            what = "lacks" if base == word else "has"
            raise ValueError(
                f"{where}: {title!r} {what} the word {word}, which tells what {word} is; choose a `{TITLE}`"
            )
