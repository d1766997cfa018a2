"""Options of the commands: one dataclass each, read from the command line and YAML, written to config.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fasthebb.data.labels import parse_budget
from fasthebb.jobs.checks import check_numbers
from fasthebb.jobs.ridge_head import HeadOptions
from fasthebb.rules import HPCA, Rule
from fasthebb.training.precision import Precision
from fasthebb.training.pretrain import Order

Augment = Literal["none", "light", "hard"]
Forward = Literal["auto", "relu", "tanh", "identity", "unit_norm_relu"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which images a command reads.

    Args:
        data: digits, a named data set such as cifar10, folder:PATH of class sub-folders, or shards:PATH.
        data_dir: the folder that data sets and relative paths are looked for in.
        download: fetch a named data set that is not there into data-dir.
        labels_file: CSV of path,label for the images of folder:PATH.
        unlabeled: more images without labels, a data set or folder:PATH.
        cache_dir: the folder of decoded images; FASTHEBB_CACHE or the user's cache folder by default.
        max_bad: fraction of unreadable image files that is skipped with a warning; above it the command fails.
    """

    data: str = "digits"
    data_dir: Path | None = None
    download: bool = False
    labels_file: Path | None = None
    unlabeled: str | None = None
    cache_dir: Path | None = None
    max_bad: float = 0.1

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True, kw_only=True)
class LoadOptions(DataOptions):
    """How a command that trains or measures comes by the pixels of its images.

    Args:
        stream: decode images when they are needed, in threads, instead of all of them once into the cache.
    """

    stream: bool = False


@dataclass(frozen=True, kw_only=True)
class ImageOptions(LoadOptions):
    """How images are brought to what a net takes.

    Args:
        image_size: side in pixels that images are brought to.
        channels: 1 grey or 3 colour; what the data set has by default.
        resize: crop keeps the centre, stretch changes the shape, pad adds black.
        validation: fraction of the training images set aside and never trained on, unless the data has a val folder.
    """

    image_size: int = 32
    channels: Literal[1, 3] | None = None
    resize: Literal["crop", "stretch", "pad"] = "crop"
    validation: float = 0.1


@dataclass(frozen=True, kw_only=True)
class RunDataOptions(LoadOptions):
    """The images that a command reads for a run, by default those of its pre-training.

    Args:
        run: the run folder.
        trust: let an exported net run the code that builds it, where that is a module:function of its author's.
        data: as in pretrain; by default the data of that run.
    """

    run: Path
    trust: bool = False
    data: str | None = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class RankOptions:
    """How the ranks that torchrun starts work together; of no effect without it.

    Args:
        sync_bn: batch norms take the statistics of all ranks' images; otherwise those of each rank's own.
        rank_timeout: seconds after which a rank that waits for another gives up.
    """

    sync_bn: bool = True
    rank_timeout: float = 600.0


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(RankOptions, ImageOptions):
    """Train the hidden layers of a net on images without labels.

    Args:
        model: a net of fasthebb such as sixlayer, of torchvision or timm such as resnet18, or your module:function.
        width: units of every hidden layer, relative to the published net.
        rule: the learning rule, a class of fasthebb.
        layer_rules: in place of rule, rules by pattern of layer names; the first that matches a layer trains it.
        forward: what a hidden layer passes on; auto takes it from the rule.
        lr: learning rate of plain SGD.
        epochs: passes over the images; with layerwise order for each layer.
        max_steps: end after so many steps.
        batch_size: images a step, of all ranks together.
        augment: none, light for random flips and shifts, or hard for crops, colours and more.
        whiten: ZCA-whiten the images, in blocks of 32 pixels.
        order: joint trains all layers at once, layerwise one after the other.
        cache_activations: with layerwise order, keep what enters a layer on disk instead of computing it every epoch.
        head: name of the classifying layer, which no rule trains; the last Linear by default.
        seed: decides initial weights and the order of images.
        device: cpu, cuda, or auto.
        precision: fp32, or products in tf32 (GPUs) or bf16: faster on machines with instructions for them.
        compile: let torch.compile take what rules make of responses; its first steps are slow.
        capture: on a GPU, replay each step as one CUDA graph.
        out: the run folder.
        resume: go on with the run in that folder; start anew if there is none.
        checkpoint_steps: steps between checkpoints.
        tensorboard: also write the curves for TensorBoard, into the run folder.
    """

    model: str = "sixlayer"
    width: float = 1.0
    rule: Rule = field(default_factory=HPCA)
    layer_rules: dict[str, Rule] = field(default_factory=dict)
    forward: Forward = "auto"
    lr: float = 1e-3
    epochs: int = 20
    max_steps: int | None = None
    batch_size: int = 64
    augment: Augment = "none"
    whiten: bool = False
    order: Order = "joint"
    cache_activations: bool = False
    head: str | None = None
    seed: int = 0
    device: str = "auto"
    precision: Precision = "fp32"
    compile: bool = False
    capture: bool = False
    out: Path = Path("runs/pretrain")
    resume: bool = False
    checkpoint_steps: int = 200
    tensorboard: bool = False

    def idle(self) -> dict[str, str]:
        """Options that nothing reads beside the others, and why."""
        return {"rule": "with --layer-rules"} if self.layer_rules else {}


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(RankOptions, HeadOptions, RunDataOptions):
    """Train a pre-trained net on few labels: by backpropagation, or the classifier alone in closed form.

    Args:
        run: the run folder of the pre-training, an exported net, or the name of ready weights.
        labels: the label budget: a fraction of the training images (0.1 or 10%) or a count (500).
        balanced: as many labels of every class; otherwise a plain shuffle.
        head_only: train the classifier alone, on frozen features.
        head_steps: train the classifier alone in so many steps, the first ones.
        hidden_rate: learning rate of everything but the classifier, relative to lr.
        depth: classify the features of this depth, and cut the net there; the whole net by default.
        lr: learning rate; halved ten times in the second half.
        epochs: passes over the labelled images.
        min_steps: train for more epochs where they are fewer steps.
        max_steps: end after so many steps.
        batch_size: images a step, of all ranks together.
        weight_decay: L2 penalty.
        augment: none, light for random flips and shifts, or hard for crops, colours and more.
        seed: decides which labels, the head's weights and the order of images.
        device: cpu, cuda, or auto.
        precision: fp32, or products in tf32 (GPUs) or bf16: faster on machines with instructions for them.
        out: the run folder; RUN/finetune-LABELS-sSEED by default, of ridge RUN/ridge-LABELS-sSEED.
        resume: go on with the run in that folder; start anew if there is none.
        checkpoint_steps: steps between checkpoints.
        tensorboard: also write the curves for TensorBoard, into the run folder.
    """

    labels: str = "0.1"
    balanced: bool = True
    head_only: bool = False
    head_steps: int = 0
    hidden_rate: float = 1.0
    depth: int | None = None
    lr: float = 1e-3
    epochs: int = 20
    min_steps: int = 500
    max_steps: int | None = None
    batch_size: int = 64
    weight_decay: float = 5e-3
    augment: Augment = "none"
    seed: int = 0
    device: str = "auto"
    precision: Precision = "fp32"
    out: Path | None = None
    resume: bool = False
    checkpoint_steps: int = 200
    tensorboard: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_budget(self.labels)
        if self.classifier != "ridge" and (self.pool or self.mirror):
            raise ValueError("--pool and --mirror are of --classifier ridge: give it, or leave them out")

    def idle(self) -> dict[str, str]:
        """Options that nothing reads beside the others, and why."""
        if self.classifier != "ridge":
            return dict.fromkeys(("head_steps", "hidden_rate"), "with --head-only") if self.head_only else {}
        steps = "head_only head_steps hidden_rate lr epochs min_steps max_steps batch_size weight_decay augment sync_bn"
        return dict.fromkeys(steps.split(), "with --classifier ridge")
