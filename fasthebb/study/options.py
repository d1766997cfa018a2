"""Options of `fasthebb study`, and which methods there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fasthebb import finish
from fasthebb.data.labels import parse_budget
from fasthebb.jobs.options import Augment, ImageOptions, forward_of
from fasthebb.jobs.readouts import ReadOutOptions
from fasthebb.models.blocks import one_of
from fasthebb.rules import HPCA, HardWTA, Oja, Rule, SoftWTA, Subspace
from fasthebb.study.expected import Expected
from fasthebb.training.patches import KMeansPatches, PatchFilters, PCAPatches

PATCHES: dict[str, tuple[str, PatchFilters]] = {
    "pca-patches": ("PCA patches", PCAPatches()),
    "kmeans-patches": ("k-means patches", KMeansPatches()),
}
BASELINES = ("random", "scratch", "vae", *PATCHES)


def standard_rules() -> dict[str, Rule | dict[str, Rule]]:
    """The rules that a study knows by name."""
    return {
        "hpca": HPCA(finish=finish.fan_in),
        "swta": SoftWTA(),
        "hwta": HardWTA(),
        "oja": Oja(finish=finish.fan_in),
        "subspace": Subspace(finish=finish.fan_in),
    }


def title_of(method: str) -> str:
    """What people call a method."""
    if method in PATCHES:
        return PATCHES[method][0]
    names = {"random": "random", "scratch": "scratch", "softhebb": "SoftHebb"}
    return names.get(method, method.upper())


@dataclass(frozen=True, kw_only=True)
class StudyOptions(ReadOutOptions, ImageOptions):
    """Compare methods over label budgets and seeds, all on the same images, labels and schedule.

    Args:
        recipe: the recipe that the other options start from.
        methods: names of rules, and of baselines: random, scratch, vae, pca-patches, kmeans-patches.
        budgets: label budgets, fractions of the training images (0.1 or 10%) or counts (500).
        seeds: one repetition each; a seed decides initial weights, labels and the order of images.
        rules: by name, the rules that methods may name; one may differ by layer: rules by pattern of layer names.
        rates: by name, learning rates of pre-training; lr for the rest.
        whiten: names of the methods whose images are ZCA-whitened, in blocks of 32 pixels.
        model: a net of fasthebb such as sixlayer, of torchvision or timm such as resnet18, or your module:function.
        width: units of every hidden layer, relative to the published net.
        lr: learning rate of pre-training, plain SGD.
        epochs: passes over the images in pre-training; with layerwise order for each layer.
        max_steps: end pre-training after so many steps.
        batch_size: images a step.
        order: joint pre-trains all layers at once, layerwise one after the other.
        head: name of the classifying layer; the last Linear by default.
        finetune: train pre-trained nets on every budget too, end to end.
        finetune_lr: learning rate of fine-tuning and of training from scratch.
        finetune_steps: their steps, at every budget; the rate is halved ten times in the second half.
        finetune_epochs: their passes over the labelled images, in place of finetune-steps.
        weight_decay: their L2 penalty.
        finetune_depths: also cut the net at these depths for them, under a classifier of its own.
        augment: their augmentation, none, light or hard.
        pretrain_augment: that of pre-training.
        balanced: as many labels of every class; otherwise a plain shuffle.
        expected: accuracies measured elsewhere, shown beside those measured here.
        device: cpu, cuda, or auto.
        out: the study's folder.
        resume: go on with the study in that folder; start anew if there is none.
        checkpoint_steps: steps between checkpoints.
        tensorboard: also write the curves for TensorBoard, into the cells.
    """

    recipe: str | None = None
    methods: list[str] = field(default_factory=lambda: ["hpca", "swta", "random", "scratch"])
    budgets: list[str] = field(default_factory=lambda: ["0.01", "0.1", "1.0"])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    rules: dict[str, Rule | dict[str, Rule]] = field(default_factory=standard_rules)
    rates: dict[str, float] = field(default_factory=dict)
    whiten: list[str] = field(default_factory=list)
    model: str = "sixlayer"
    width: float = 1.0
    lr: float = 1e-3
    epochs: int = 20
    max_steps: int | None = None
    batch_size: int = 64
    order: Literal["joint", "layerwise"] = "joint"
    head: str | None = None
    finetune: bool = True
    finetune_lr: float = 1e-2
    finetune_steps: int = 500
    finetune_epochs: int | None = None
    finetune_depths: list[int] = field(default_factory=list)
    weight_decay: float = 5e-3
    augment: Augment = "none"
    pretrain_augment: Augment = "none"
    balanced: bool = True
    expected: list[Expected] = field(default_factory=list)
    probe: bool = True
    knn: bool = True
    device: str = "auto"
    out: Path = Path("runs/study")
    resume: bool = False
    checkpoint_steps: int = 200
    tensorboard: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, given in (("methods", self.methods), ("budgets", self.budgets), ("seeds", self.seeds)):
            if not given:
                raise ValueError(f"--{name} is empty: name at least one")
            if len(set(given)) < len(given):
                raise ValueError(f"--{name} {', '.join(map(str, given))}: each may stand there once")
        for method in self.methods:
            one_of("method", method, [*self.rules, *BASELINES])
        for method in self.methods:
            if method in self.rules:
                forward_of(self.rules[method])
        supervised = "scratch" in self.methods or (self.finetune and set(self.methods) != {"random"})
        if not (self.wanted or supervised):
            raise ValueError("No read-out and no fine-tuning is wanted, so nothing is measured: leave out --no-probe")
        for method in self.whiten:
            one_of("method to whiten", method, self.methods)
        if "vae" in self.methods and self.model != "sixlayer":
            raise ValueError(f"--methods vae: a VAE is made of the sixlayer net, not of {self.model}: leave it out")
        for text in self.budgets:
            parse_budget(text)
        for name, rate in self.rates.items():
            one_of("rate of method", name, [*self.rules, "vae"])
            if not 0 < rate < float("inf"):
                raise ValueError(f"--rates {name}={rate}: a learning rate must be above 0")
