"""Options of the commands: one dataclass each, read from the command line and YAML, written to config.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fasthebb.data.labels import parse_budget
from fasthebb.jobs.checks import check_numbers
from fasthebb.rules import HPCA, KWTA, HardWTA, Rule, SoftWTA
from fasthebb.training.pretrain import Order

Forward = Literal["auto", "relu", "tanh", "identity", "unit_norm_relu"]


@dataclass(frozen=True)
class PretrainOptions:
    """Train the hidden layers of a net on images without labels.

    Args:
        data: digits, or folder:PATH with one sub-folder a class (and train, val, test above them if there are).
        data_dir: the folder that a relative PATH of data is below.
        model: sixlayer, vgg11, vgg13, vgg16, vgg19, or module:function of your own.
        width: units of every hidden layer, relative to the published net.
        rule: the learning rule, a class of fasthebb.
        forward: what a hidden layer passes on; auto takes it from the rule.
        lr: learning rate of plain SGD.
        epochs: passes over the images; with layerwise order for each layer.
        max_steps: end after so many steps.
        batch_size: images a step.
        image_size: side in pixels that images are brought to.
        order: joint trains all layers at once, layerwise one after the other.
        head: name of the classifying layer, which no rule trains; the last Linear by default.
        validation: fraction of the training images set aside and never trained on, unless the data has a val folder.
        seed: decides initial weights and the order of images.
        device: cpu, cuda, or auto.
        out: the run folder.
        resume: go on with the run in that folder; start anew if there is none.
        checkpoint_steps: steps between checkpoints.
        max_bad: fraction of unreadable image files that is skipped with a warning; above it the command fails.
    """

    data: str = "digits"
    data_dir: Path | None = None
    model: str = "sixlayer"
    width: float = 1.0
    rule: Rule = field(default_factory=HPCA)
    forward: Forward = "auto"
    lr: float = 1e-3
    epochs: int = 20
    max_steps: int | None = None
    batch_size: int = 64
    image_size: int = 32
    order: Order = "joint"
    head: str | None = None
    validation: float = 0.1
    seed: int = 0
    device: str = "auto"
    out: Path = Path("runs/pretrain")
    resume: bool = False
    checkpoint_steps: int = 200
    max_bad: float = 0.1

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True)
class FinetuneOptions:
    """Train a pre-trained net on few labels, by backpropagation.

    Args:
        run: the run folder of the pre-training.
        data: as in pretrain; by default the data of that run.
        data_dir: the folder that data is below; by default that of the run, unless data is given.
        labels: the label budget: a fraction of the training images (0.1 or 10%) or a count (500).
        balanced: as many labels of every class; otherwise a plain shuffle.
        head_only: train the classifier alone, on frozen features.
        lr: learning rate; halved ten times in the second half.
        epochs: passes over the labelled images.
        max_steps: end after so many steps.
        batch_size: images a step.
        weight_decay: L2 penalty.
        augment: none, or light for random flips and shifts.
        seed: decides which labels, the head's weights and the order of images.
        device: cpu, cuda, or auto.
        out: the run folder; RUN/finetune-LABELS-sSEED by default.
        resume: go on with the run in that folder; start anew if there is none.
        checkpoint_steps: steps between checkpoints.
        max_bad: fraction of unreadable image files that is skipped with a warning; above it the command fails.
    """

    run: Path
    data: str | None = None
    data_dir: Path | None = None
    labels: str = "0.1"
    balanced: bool = True
    head_only: bool = False
    lr: float = 1e-3
    epochs: int = 20
    max_steps: int | None = None
    batch_size: int = 64
    weight_decay: float = 5e-2
    augment: Literal["none", "light"] = "none"
    seed: int = 0
    device: str = "auto"
    out: Path | None = None
    resume: bool = False
    checkpoint_steps: int = 200
    max_bad: float = 0.1

    def __post_init__(self) -> None:
        check_numbers(self)
        parse_budget(self.labels)


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure a trained net on test images; results are added to the run's results.csv and results.json.

    Args:
        run: the run folder, of pre-training or of fine-tuning.
        data: as in pretrain; by default the data of that run.
        data_dir: the folder that data is below; by default that of the run, unless data is given.
        labels: the label budget of probe and knn, all labels by default; a fine-tuned net keeps its own.
        balanced: as many labels of every class, otherwise a plain shuffle; a fine-tuned net keeps its own.
        probe: train a linear classifier on the frozen features of every depth.
        probe_method: ridge in closed form, or sgd.
        knn: classify by the nearest labelled images, at every depth.
        k: how many neighbours vote, as far as there are as many labels of a class.
        seed: decides which labels; by default the run's, and a fine-tuned net keeps its own.
        device: cpu, cuda, or auto.
        batch_size: images a step.
        max_bad: fraction of unreadable image files that is skipped with a warning; above it the command fails.
    """

    run: Path
    data: str | None = None
    data_dir: Path | None = None
    labels: str | None = None
    balanced: bool | None = None
    probe: bool = False
    probe_method: Literal["ridge", "sgd"] = "ridge"
    knn: bool = False
    k: int = 10
    seed: int | None = None
    device: str = "auto"
    batch_size: int = 256
    max_bad: float = 0.1

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.labels is not None:
            parse_budget(self.labels)


def forward_of(rule: Rule) -> Forward:
    """What the hidden layers of a net pass on when `rule` trains it (DESIGN: the training commands choose)."""
    if isinstance(rule, HardWTA | KWTA | SoftWTA):
        return "unit_norm_relu"
    names: dict[object, Forward] = {"relu": "relu", "tanh": "tanh", "identity": "identity"}
    return names.get(rule.activation, "relu") if isinstance(rule, HPCA) else "relu"


def rule_name(rule: Rule) -> str:
    """How results call a rule."""
    return type(rule).__name__
