"""What all cells of a method and a seed share in a study, and how a cell is done once and never again."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fasthebb.console import launched
from fasthebb.data import Dataset, Loader
from fasthebb.data.labels import parse_budget
from fasthebb.data.whitening import Whitening
from fasthebb.evaluation.results import Record
from fasthebb.files import atomic_write
from fasthebb.jobs.net import Net, check_images, head_of, layer_at, write_net
from fasthebb.jobs.setup import all_but, budget, new_net, set_aside, whitening_of
from fasthebb.memory import reset_peak
from fasthebb.study.options import StudyOptions
from fasthebb.study.variants import Method
from fasthebb.training import checkpoint
from fasthebb.training.loop import Progress, place
from fasthebb.training.precision import Precision
from fasthebb.training.run import RunFolder
from fasthebb.training.watch import RunWatcher

RECORDS = "records.json"  # of a cell, when it is done


@dataclass(frozen=True)
class Bench:
    """What all cells of a method and a seed share: options, data, folder, device, and the seed's labels."""

    method: Method
    dataset: Dataset
    folder: RunFolder
    device: torch.device
    net: Net  # as `nets_of` has it
    seed: int

    @property
    def options(self) -> StudyOptions:
        """The study's, with the method's own in their place."""
        return self.method.options

    @cached_property
    def aside(self) -> Tensor:
        """Images that no stage trains on."""
        return set_aside(self.dataset, self.options.validation, self.seed)

    @cached_property
    def images(self) -> Tensor:
        """Images that pre-training sees, labelled or not.

        Raises:
            ValueError: there are not so many.
        """
        found, wanted = all_but(self.aside, len(self.dataset.train)), self.options.pretrain_images
        if wanted is None:
            return found
        if wanted > len(found):
            raise ValueError(f"--pretrain-images {wanted}: there are {len(found)}; give fewer")
        drawn = torch.randperm(len(found), generator=torch.Generator().manual_seed(self.seed))[:wanted]
        return found[drawn].sort().values

    @cached_property
    def budgets(self) -> dict[int, Tensor]:
        """Labelled images by their number, of the budgets of the seed; a smaller budget is part of a larger one."""
        place, measured_by = self.options.seeds.index(self.seed), self.options.budget_seeds
        wanted = [text for text in self.options.budgets if place < measured_by.get(text, len(self.options.seeds))]
        chosen = [self._budget(text) for text in wanted]
        return {len(indices): indices for indices in sorted(chosen, key=len)}

    def counts(self, budgets: Sequence[str]) -> list[int]:
        """How many labels budgets are."""
        return [len(self._budget(text)) for text in budgets]

    def net_of(self, **own: Any) -> Net:
        """The net that the method trains, with its whitening; own: fields of `Net`."""
        net = replace(self.net, whitened=self.method.name in self.options.whiten, **own)
        return replace(net, whitening=self.whitening) if net.whitened else net

    @cached_property
    def whitening(self) -> Whitening:
        """That of the images that pre-training sees."""
        return whitening_of(self.net, self.dataset, self.images, self.options, self.folder.console)

    def fresh(self, net: Net, precision: Precision | None = None) -> nn.Module:
        """A net with the seed's initial weights, on the device, calculating as the options say or in `precision`."""
        checkpoint.seed_everything(self.seed)
        return place(net.build(), self.device, precision or self.options.precision)

    def trained(self, net: Net, cell: str) -> nn.Module:
        """A net as a cell trained it."""
        model = self.fresh(net)
        last = self.cell(cell) / "checkpoints" / "last.pt"
        model.load_state_dict(checkpoint.load(last)["parts"]["model"])
        return model

    def unlabelled(self, net: Net, batch_size: int, **more: Any) -> Loader:
        """Batches of the images that pre-training sees; more: arguments of `Loader`."""
        return net.loader(
            self.dataset.train, batch_size, self.device,
            indices=self.images, seed=self.seed, **({"augment": self.options.pretrain_augment} | more),
        )  # fmt: skip

    def cell(self, name: str, seed: int | None = None) -> Path:
        """The folder of a cell, of this seed or another."""
        return self.folder.path / "cells" / f"{name}-s{self.seed if seed is None else seed}"

    def pretrained(self, name: str) -> bool:
        """Whether a method's net of this seed is pre-trained."""
        return (self.cell(f"pretrain-{name}") / RECORDS).exists()

    def once(self, name: str, measure: Callable[[Path], list[Record]]) -> list[Record]:
        """The records of a cell: read if it is done, measured and written if not."""
        path = self.cell(name)
        done = path / RECORDS
        path.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if done.exists():
                return [Record(**row) for row in json.loads(done.read_text())]
            checkpoint.seed_everything(self.seed)
            reset_peak()
            records = measure(path)
            atomic_write(done, json.dumps([asdict(r) for r in records], indent=1) + "\n")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # other processes may share the GPU
        self.folder.begun = True
        return records

    def watcher(self, path: Path, net: Net) -> RunWatcher:
        """Who watches the training of a cell's net; the cell is a run folder of it from then on."""
        options = self.options
        write_net(path, net)
        return self.folder.watcher(net.plain(), options.checkpoint_steps, path, tensorboard=options.tensorboard)

    def keep(self, path: Path, net: Net, model: nn.Module, seconds: float) -> None:
        """Make a cell of a net that no stage of its own trained: its checkpoint, and a metric, the seconds."""
        watcher = self.watcher(path, net)
        parts = {"model": model}
        record = {"epoch": 1, "step": 1, "seconds": seconds}
        if not watcher.restore(parts).step:
            watcher.epoch(record)
        watcher.finished(parts, Progress(step=1, seconds=seconds, history=[record]))

    def _budget(self, text: str) -> Tensor:
        wanted, balanced = parse_budget(text), self.options.balanced
        return budget(self.dataset, wanted, self.aside, seed=self.seed, balanced=balanced)[0]


@contextlib.contextmanager
def _alone(cell: Path) -> Iterator[None]:
    # Of several processes that share a study, one is in a cell; the others wait for it.
    if launched()[1] == 1:
        yield
        return
    with (cell / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def student_of(net: Net, options: StudyOptions) -> Net:
    """The net of a student: of its own model and width, of plain images, with the rule of its teacher `net`.

    Raises:
        ValueError: it cannot be built for these images.
    """
    own = replace(
        net, model=options.student_model, width=options.student_width, forward="relu", twin="backprop",
        whitened=False, whitening=None, classifier="finetune",
    )  # fmt: skip
    model = own.build()
    check_images(own, model)
    return replace(own, head=head_of(model, None))


def nets_of(options: StudyOptions, dataset: Dataset, spread: Any) -> dict[str, Net]:
    """By method, the net of the first seed before the method makes it its own; `spread` as of `new_net`.

    Raises:
        ValueError: a model cannot be built for these images, or has no such head or depth.
    """
    whole = new_net(options, dataset, spread, options.seeds[0])
    nets = {}
    for name in options.methods:
        wanted = options.method(name).options
        net = replace(whole, model=wanted.model, width=wanted.width)
        model = net.build()
        check_images(net, model)
        nets[name] = replace(net, head=head_of(model, wanted.head))
        if wanted.student:
            student_of(nets[name], wanted)
        for depth in wanted.finetune_depths:
            layer_at(nets[name], model, depth)
    return nets
