"""Options of `fasthebb study`, and which methods there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fasthebb import finish
from fasthebb.data.labels import parse_budget
from fasthebb.jobs.checks import check_numbers
from fasthebb.models.blocks import one_of
from fasthebb.rules import HPCA, HardWTA, Oja, Rule, SoftWTA, Subspace

BASELINES = ("random", "scratch")


def standard_rules() -> dict[str, Rule]:
    """The rules that a study knows by name."""
    return {
        "hpca": HPCA(finish=finish.fan_in),
        "swta": SoftWTA(),
        "hwta": HardWTA(),
        "oja": Oja(finish=finish.fan_in),
        "subspace": Subspace(finish=finish.fan_in),
    }


@dataclass(frozen=True)
class StudyOptions:
    """Compare methods over label budgets and seeds, all on the same images, labels and schedule.

    Args:
        recipe: the recipe that the other options start from.
        methods: names of rules, random (frozen random features) and scratch (supervised, both twins of the net).
        budgets: label budgets, fractions of the training images (0.1 or 10%) or counts (500).
        seeds: one repetition each; a seed decides initial weights, labels and the order of images.
        rules: by name, the rules that methods may name.
        rates: by name, learning rates of the rules; lr for the rest.
        data: digits, or folder:PATH with one sub-folder a class (and train, val, test above them if there are).
        data_dir: the folder that a relative PATH of data is below.
        model: sixlayer, vgg11, vgg13, vgg16, vgg19, or module:function of your own.
        width: units of every hidden layer, relative to the published net.
        lr: learning rate of pre-training, plain SGD.
        epochs: passes over the images in pre-training; with layerwise order for each layer.
        max_steps: end pre-training after so many steps.
        batch_size: images a step.
        image_size: side in pixels that images are brought to.
        order: joint pre-trains all layers at once, layerwise one after the other.
        head: name of the classifying layer; the last Linear by default.
        finetune_lr: learning rate of fine-tuning and of training from scratch.
        finetune_steps: their steps, at every budget; the rate is halved ten times in the second half.
        weight_decay: their L2 penalty.
        augment: their augmentation, none or light.
        balanced: as many labels of every class; otherwise a plain shuffle.
        probe_method: ridge in closed form, or sgd.
        k: how many neighbours vote, as far as there are as many labels of a class.
        validation: fraction of the training images set aside and never trained on, unless the data has a val folder.
        device: cpu, cuda, or auto.
        out: the study's folder.
        resume: go on with the study in that folder; start anew if there is none.
        checkpoint_steps: steps between checkpoints.
        max_bad: fraction of unreadable image files that is skipped with a warning; above it the command fails.
    """

    recipe: str | None = None
    methods: list[str] = field(default_factory=lambda: ["hpca", "swta", "random", "scratch"])
    budgets: list[str] = field(default_factory=lambda: ["0.01", "0.1", "1.0"])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    rules: dict[str, Rule] = field(default_factory=standard_rules)
    rates: dict[str, float] = field(default_factory=dict)
    data: str = "digits"
    data_dir: Path | None = None
    model: str = "sixlayer"
    width: float = 1.0
    lr: float = 1e-3
    epochs: int = 20
    max_steps: int | None = None
    batch_size: int = 64
    image_size: int = 32
    order: Literal["joint", "layerwise"] = "joint"
    head: str | None = None
    finetune_lr: float = 1e-2
    finetune_steps: int = 500
    weight_decay: float = 5e-3
    augment: Literal["none", "light"] = "none"
    balanced: bool = True
    probe_method: Literal["ridge", "sgd"] = "ridge"
    k: int = 10
    validation: float = 0.1
    device: str = "auto"
    out: Path = Path("runs/study")
    resume: bool = False
    checkpoint_steps: int = 200
    max_bad: float = 0.1

    def __post_init__(self) -> None:
        for name, given in (("methods", self.methods), ("budgets", self.budgets), ("seeds", self.seeds)):
            if not given:
                raise ValueError(f"--{name} is empty: name at least one")
            if len(set(given)) < len(given):
                raise ValueError(f"--{name} {', '.join(map(str, given))}: each may stand there once")
        for method in self.methods:
            one_of("method", method, [*self.rules, *BASELINES])
        for text in self.budgets:
            parse_budget(text)
        for name, rate in self.rates.items():
            one_of("rate of rule", name, self.rules)
            if not 0 < rate < float("inf"):
                raise ValueError(f"--rates {name}={rate}: a learning rate must be above 0")
        check_numbers(self)
