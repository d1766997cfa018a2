"""What all cells of one seed of a study share, and how a cell is done once and never again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fasthebb.data import Dataset, Loader
from fasthebb.data.labels import parse_budget
from fasthebb.data.whitening import Whitening
from fasthebb.evaluation.results import Record
from fasthebb.files import atomic_write
from fasthebb.jobs.net import Net, check_images, head_of, layer_at, write_net
from fasthebb.jobs.setup import all_but, budget, new_net, set_aside, whitening_of
from fasthebb.memory import reset_peak
from fasthebb.study.options import StudyOptions
from fasthebb.training import checkpoint
from fasthebb.training.loop import place
from fasthebb.training.run import RunFolder
from fasthebb.training.watch import RunWatcher


@dataclass(frozen=True)
class Bench:
    """What all cells of one seed share: options, data, folder, device, and the seed's labels."""

    options: StudyOptions
    dataset: Dataset
    folder: RunFolder
    device: torch.device
    net: Net  # of the seed; its forward, twin, rule and whitening are a method's own
    seed: int

    @cached_property
    def aside(self) -> Tensor:
        """Images that no stage trains on."""
        return set_aside(self.dataset, self.options.validation, self.seed)

    @cached_property
    def images(self) -> Tensor:
        """Images that pre-training sees, labelled or not."""
        return all_but(self.aside, len(self.dataset.train))

    @cached_property
    def budgets(self) -> dict[int, Tensor]:
        """Labelled images by their number; a smaller budget is part of a larger one."""
        chosen = [
            budget(self.dataset, parse_budget(text), self.aside, seed=self.seed, balanced=self.options.balanced)[0]
            for text in self.options.budgets
        ]
        return {len(indices): indices for indices in sorted(chosen, key=len)}

    def net_of(self, method: str, **own: Any) -> Net:
        """The net of a method: the seed's, with what is the method's own, and its whitening."""
        net = replace(self.net, whitened=method in self.options.whiten, **own)
        return replace(net, whitening=self.whitening) if net.whitened else net

    @cached_property
    def whitening(self) -> Whitening:
        """That of the images that pre-training sees."""
        return whitening_of(self.net, self.dataset, self.images, self.options, self.folder.console)

    def fresh(self, net: Net) -> nn.Module:
        """A net with the seed's initial weights, on the device."""
        checkpoint.seed_everything(self.seed)
        return place(net.build(), self.device)

    def trained(self, net: Net, cell: str) -> nn.Module:
        """A net as a cell trained it."""
        model = self.fresh(net)
        last = self.cell(cell) / "checkpoints" / "last.pt"
        model.load_state_dict(checkpoint.load(last)["parts"]["model"])
        return model

    def unlabelled(self, net: Net, batch_size: int) -> Loader:
        """Batches of the images that pre-training sees."""
        return net.loader(
            self.dataset.train, batch_size, self.device,
            indices=self.images, seed=self.seed, augment=self.options.pretrain_augment,
        )  # fmt: skip

    def cell(self, name: str) -> Path:
        """The folder of a cell."""
        return self.folder.path / "cells" / f"{name}-s{self.seed}"

    def once(self, name: str, measure: Callable[[Path], list[Record]]) -> list[Record]:
        """The records of a cell: read if it is done, measured and written if not."""
        path = self.cell(name)
        done = path / "records.json"
        if done.exists():
            return [Record(**row) for row in json.loads(done.read_text())]
        path.mkdir(parents=True, exist_ok=True)
        checkpoint.seed_everything(self.seed)
        reset_peak()
        records = measure(path)
        atomic_write(done, json.dumps([asdict(r) for r in records], indent=1) + "\n")
        self.folder.begun = True
        return records

    def watcher(self, path: Path, net: Net) -> RunWatcher:
        """Who watches the training of a cell's net; the cell is a run folder of it from then on."""
        options = self.options
        write_net(path, net)
        return self.folder.watcher(net.plain(), options.checkpoint_steps, path, tensorboard=options.tensorboard)


def base_net(options: StudyOptions, dataset: Dataset, spread: Any, seed: int) -> Net:
    """The net of a study before a method makes it its own; `spread` as of `new_net`.

    Raises:
        ValueError: the model cannot be built for these images, or has no such head or depth.
    """
    net = new_net(options, dataset, spread, seed)
    model = net.build()
    check_images(net, model)
    net = replace(net, head=head_of(model, options.head))
    for depth in options.finetune_depths:
        layer_at(net, model, depth)
    return net
