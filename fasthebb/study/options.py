"""Options of `fasthebb study`, and which methods there are."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from fasthebb.data.labels import parse_budget
from fasthebb.finish import Finish
from fasthebb.jobs.checks import check_numbers
from fasthebb.jobs.layer_rules import forward_of
from fasthebb.jobs.options import Augment, ImageOptions
from fasthebb.jobs.readouts import ReadOutOptions
from fasthebb.models.blocks import one_of
from fasthebb.rules import HPCA, HardWTA, Oja, Rule, SoftWTA, Subspace
from fasthebb.study.checks import SOFTHEBB, check_budgets, check_method, check_rates
from fasthebb.study.expected import Expected
from fasthebb.study.onward import OnwardOptions
from fasthebb.study.variants import IS, TITLE, Method, check_ensembles, check_own, check_tuning, in_words
from fasthebb.training.patches import KMeansPatches, PatchFilters, PCAPatches
from fasthebb.training.precision import Precision

PATCHES: dict[str, tuple[str, PatchFilters]] = {
    "pca-patches": ("PCA patches", PCAPatches()),
    "kmeans-patches": ("k-means patches", KMeansPatches()),
}
BASELINES = ("random", "scratch", "vae", "simclr", *PATCHES)
RATES = {"simclr": 0.06}  # of pre-training, where the study's own does not fit


def standard_rules(finish: Finish | None = None) -> dict[str, Rule | dict[str, Rule]]:
    """The rules that a study knows by name; finish: that of rules whose updates grow with the fan-in.

    Rates of 1e-3 are for none, 1e-2 and more for `fasthebb.finish.fan_in`.
    """
    return {
        "hpca": HPCA(finish=finish),
        "swta": SoftWTA(),
        "hwta": HardWTA(),
        "oja": Oja(finish=finish),
        "subspace": Subspace(finish=finish),
    }


def title_of(method: str, own: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> str:
    """What people call a method, with what is its own; a variant without a title goes by its name."""
    if {IS, TITLE} & set(own.get(method, ())):
        return str(own[method].get(TITLE, method))
    if method in PATCHES:
        return PATCHES[method][0]
    names = {"random": "random", "scratch": "scratch", "simclr": "SimCLR", "softhebb": "SoftHebb"}
    return names.get(method, method.upper())


def differences(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """By title, what is a method's own in a study's config.yaml, in words."""
    own = config.get("own", {})  # older studies have none
    found = []
    for method in config["methods"]:
        values = {name: value for name, value in own.get(method, {}).items() if name != TITLE}
        base = values.pop(IS, method)
        if method in config.get("whiten", ()):
            values["whiten"] = True
        if values or base != method:
            words = in_words(values)
            found.append((title_of(method, own), words if base == method else f"{title_of(base)} with {words}"))
    return found


@dataclass(frozen=True, kw_only=True)
class StudyOptions(ReadOutOptions, OnwardOptions, ImageOptions):
    """Compare methods over label budgets and seeds, all on the same images, labels and schedule.

    Args:
        recipe: the recipe that the other options start from.
        minutes: choose every option that is not given so that the study takes about so long.
        methods: rules, baselines (random, scratch, vae, simclr, pca-patches, kmeans-patches), variants in own.
        own: by method, options that differ for it; a variant has a name of its own, says what it is, and its title.
        budgets: label budgets, fractions of the training images (0.1 or 10%) or counts (500).
        seeds: one repetition each; a seed decides initial weights, labels and the order of images.
        budget_seeds: by budget, how many seeds measure it, the first ones (all, if there are fewer); all by default.
        classes: take the images of the first so many classes alone.
        rules: by name, the rules that methods may name; one may differ by layer: rules by pattern of layer names.
        rates: by name, learning rates of pre-training; 0.06 for simclr, lr for the rest.
        whiten: names of the methods whose images are ZCA-whitened, in blocks of 32 pixels.
        model: a net of fasthebb such as sixlayer, of torchvision or timm such as resnet18, or your module:function.
        width: units of every hidden layer, relative to the published net.
        lr: learning rate of pre-training, plain SGD.
        epochs: passes over the images in pre-training; with layerwise order for each layer.
        max_steps: end pre-training after so many steps.
        initial_scale: multiply the initial weights that a rule begins with by so much.
        pretrain_images: pre-train on so many of the seed's images alone.
        revive: give units without a use a random patch after pre-training, then pre-train for one more epoch.
        rescale: after pre-training, scale every hidden unit's response to variance 1.
        renew: after pre-training, give batch norms the statistics of all images that it saw.
        max_seconds: end the pre-training of simclr after so much time; no other run then gives the same again.
        batch_size: images a step; in the pre-training of simclr 256, if its own says nothing else.
        order: joint pre-trains all layers at once, layerwise one after the other.
        head: name of the classifying layer; the last Linear by default.
        finetune: train pre-trained nets on every budget too, end to end.
        finetune_lr: learning rate of fine-tuning and of training from scratch.
        finetune_steps: their steps, at every budget; the rate is halved ten times in the second half.
        finetune_batch_size: their images a step, and those of a student; batch-size by default.
        finetune_epochs: their passes over the labelled images, in place of finetune-steps.
        weight_decay: their L2 penalty.
        head_steps: their first steps, in which the classifier is trained alone.
        hidden_rate: learning rate of their hidden layers, relative to finetune-lr.
        tuning: up to 4 settings of finetune-lr, weight-decay, augment, head-steps, hidden-rate that they choose from.
        tune_at: budgets at which they choose, by a fifth of the labels; others do as the nearest. All by default.
        tune_steps: steps of a setting then, at most.
        finetune_depths: also cut the net at these depths for them, under a classifier of its own.
        both_twins: scratch trains the hebbian twin of its net too, where their batch norms differ.
        augment: their augmentation, none, light or hard.
        pretrain_augment: that of pre-training.
        balanced: as many labels of every class; otherwise a plain shuffle.
        ensembles: by name, methods whose probes' scores are averaged, at the depth that each chooses.
        expected: accuracies measured elsewhere, shown beside those measured here.
        device: cpu, cuda, or auto.
        precision: fp32, or products in tf32 (GPUs) or bf16: faster on machines with instructions for them.
        out: the study's folder.
        resume: go on with the study in that folder; start anew if there is none.
        checkpoint_steps: steps between checkpoints.
        tensorboard: also write the curves for TensorBoard, into the cells.
    """

    recipe: str | None = None
    minutes: float | None = None
    methods: list[str] = field(default_factory=lambda: ["hpca", "swta", "random", "scratch"])
    own: dict[str, dict[str, Any]] = field(default_factory=dict)
    budgets: list[str] = field(default_factory=lambda: ["0.01", "0.1", "1.0"])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    budget_seeds: dict[str, int] = field(default_factory=dict)
    classes: int | None = None
    rules: dict[str, Rule | dict[str, Rule]] = field(default_factory=standard_rules)
    rates: dict[str, float] = field(default_factory=dict)
    whiten: list[str] = field(default_factory=list)
    model: str = "sixlayer"
    width: float = 1.0
    lr: float = 1e-3
    epochs: int = 20
    max_steps: int | None = None
    initial_scale: float = 1.0
    pretrain_images: int | None = None
    revive: bool = False
    rescale: bool = False
    renew: bool = False
    max_seconds: float | None = None
    batch_size: int = 64
    order: Literal["joint", "layerwise"] = "joint"
    head: str | None = None
    finetune: bool = True
    finetune_lr: float = 1e-2
    finetune_steps: int = 500
    finetune_batch_size: int | None = None
    finetune_epochs: int | None = None
    finetune_depths: list[int] = field(default_factory=list)
    weight_decay: float = 5e-3
    head_steps: int = 0
    hidden_rate: float = 1.0
    tuning: list[dict[str, Any]] = field(default_factory=list)
    tune_at: list[str] = field(default_factory=list)
    tune_steps: int = 300
    both_twins: bool = True
    augment: Augment = "none"
    pretrain_augment: Augment = "none"
    balanced: bool = True
    ensembles: dict[str, list[str]] = field(default_factory=dict)
    expected: list[Expected] = field(default_factory=list)
    probe: bool = True
    knn: bool = True
    device: str = "auto"
    precision: Precision = "fp32"
    out: Path = Path("runs/study")
    resume: bool = False
    checkpoint_steps: int = 200
    tensorboard: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recipe is not None and self.minutes is not None:
            raise ValueError(f"--minutes chooses what the recipe {self.recipe} gives: name one of them")
        for name, given in (("methods", self.methods), ("budgets", self.budgets), ("seeds", self.seeds)):
            if not given:
                raise ValueError(f"--{name} is empty: name at least one")
            if len(set(given)) < len(given):
                raise ValueError(f"--{name} {', '.join(map(str, given))}: each may stand there once")
        planned = () if self.minutes is None else (SOFTHEBB, *standard_rules())  # which --minutes goes through
        known = list(dict.fromkeys([*self.rules, *BASELINES, *planned]))
        object.__setattr__(self, "own", check_own(type(self), self.own, known))
        object.__setattr__(self, "tuning", check_tuning(type(self), self.tuning))
        for method in self.methods:
            check_method(method, [*known, *(name for name in self.own if name not in known)])
        for method in self.whiten:
            one_of("method to whiten", method, self.methods)
        methods = {name: self.method(name) for name in self.methods}
        self._check_methods(list(methods.values()))
        check_ensembles(self.ensembles, methods)
        for text in self.tune_at:
            parse_budget(text)
        check_rates(self.rates, [*self.rules, *planned, "vae", "simclr", *self.own])

    def method(self, name: str) -> Method:
        """A method by its name, with what is its own.

        Raises:
            ValueError: a number of its own makes no sense.
        """
        method = self._method(name)
        try:
            for setting in ({}, *method.options.tuning):
                check_numbers(method.with_(setting).options)
        except ValueError as error:
            raise ValueError(f"--own {name}: {error}") from None
        same = (other for other in self.methods if self._method(other).pretraining() == method.pretraining())
        return method._replace(pretrained_by=next(same, name))

    def _method(self, name: str) -> Method:
        own = dict(self.own.get(name, {}))
        base, shown = own.pop(IS, name), title_of(name, self.own)
        own.pop(TITLE, None)
        rate = self.rates.get(name, self.rates.get(base, RATES.get(base, self.lr)))
        return Method(name, base, shown, self, name).with_({"lr": rate, **own})

    def _check_methods(self, methods: list[Method]) -> None:
        titles = [method.title for method in methods]
        for method in methods:
            check_budgets(method.options)
            if method.options.student and not (method.options.probe or method.options.together):
                raise ValueError(f"--student of {method.name}: there is no probe to learn from: leave out --no-probe")
            if titles.count(method.title) > 1:
                raise ValueError(f"--own: two methods are called {method.title!r}; give each a title of its own")
            if method.base in self.rules:
                forward_of(self.rules[method.base])
            if method.base == "simclr" and importlib.util.find_spec("lightly") is None:
                raise ValueError(f"--methods {method.name}: SimCLR needs lightly: pip install 'fasthebb[simclr]'")
            if method.base == "vae" and method.options.model != "sixlayer":
                raise ValueError(
                    f"--methods {method.name}: a VAE is made of the sixlayer net, not of {method.options.model}: leave "
                    f"it out, or give it that net with --own '{{{method.name}: {{model: sixlayer}}}}'"
                )
        if not any(
            method.base == "scratch" or method.options.wanted or (method.options.finetune and method.base != "random")
            for method in methods
        ):
            raise ValueError("No read-out and no fine-tuning is wanted, so nothing is measured: leave out --no-probe")
