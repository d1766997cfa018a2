"""`fasthebb finetune`: a pre-trained net made a classifier by few labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from fasthebb.console import Console
from fasthebb.data.labels import parse_budget
from fasthebb.jobs.options import FinetuneOptions, plain
from fasthebb.jobs.results import add, record
from fasthebb.jobs.setup import Net, budget, load_data, read_net, set_aside, write_net
from fasthebb.memory import peak_bytes, reset_peak
from fasthebb.training import checkpoint
from fasthebb.training.finetune import accuracies, finetune
from fasthebb.training.loop import device_of, place
from fasthebb.training.run import RunFolder, read_metrics


def run(options: FinetuneOptions, console: Console) -> None:
    """Fine-tune the net of a pre-training run into a run folder of its own, and test it.

    Raises:
        ValueError: an option does not fit the data or the folders.
        FloatingPointError: the loss is not finite.
        Interrupted: a signal came; the run resumes.
    """
    if not options.lr > 0:
        raise ValueError(f"lr={options.lr}: the learning rate must be above 0")
    labels = parse_budget(options.labels)
    device = device_of(options.device)
    before, model = read_net(options.run)
    out = options.out or options.run / f"finetune-{options.labels}-s{options.seed}"
    options = replace(options, data=options.data or before.data, out=out)
    with RunFolder(out, plain(options), resume=options.resume, console=console) as folder:
        dataset = load_data(
            options.data or before.data,
            image_size=before.image_size,
            max_bad=options.max_bad,
            data_dir=options.data_dir,
            console=console,
        )
        if len(dataset.classes) != len(before.classes):
            model = _new_head(before, model, len(dataset.classes))
        aside = set_aside(dataset, before.validation, before.seed)
        chosen, validation = budget(dataset, labels, aside, seed=options.seed, balanced=options.balanced)
        seconds = next((r["seconds"] for r in reversed(list(read_metrics(options.run)))), None)
        net = replace(
            before,
            dataset=dataset.name,
            data=options.data or before.data,
            classes=dataset.classes,
            classifier="head" if options.head_only else "finetune",
            labels=options.labels,
            pretrain_seconds=seconds,
        )
        checkpoint.seed_everything(options.seed)
        place(model, device)
        model.get_submodule(net.head).reset_parameters()  # type: ignore[operator]
        val = dataset.val or (dataset.train.subset(validation) if len(validation) else None)
        folder.write_config()
        write_net(folder.path, net)
        folder.log(
            f"{dataset.name}: {len(chosen)} labels of {len(dataset.train)}, validation on {len(val) if val else 0}"
        )
        reset_peak()
        history = finetune(
            model,
            net.loader(
                dataset.train, options.batch_size, device, indices=chosen, seed=options.seed, augment=options.augment
            ),
            epochs=options.epochs,
            lr=options.lr,
            head_only=options.head_only,
            head=net.head,
            weight_decay=options.weight_decay,
            max_steps=options.max_steps,
            validation=net.loader(val, 256, device, shuffle=False) if val else None,
            watcher=folder.watcher(net.plain(), options.checkpoint_steps),
        )
        peak = peak_bytes() / 2**20
        top1, top5 = accuracies(model, net.loader(dataset.test, 256, device, shuffle=False), (1, 5))
        folder.finish(model, net.plain())
        tested = record(net, net.classifier or "", len(chosen), len(dataset.train), options.seed, None, top1, top5)
        add(folder.path, [replace(tested, finetune_seconds=history[-1]["seconds"], peak_memory_mb=peak)])
        folder.log(f"{len(chosen)} labels: test accuracy {top1:.2f} %: {Path(folder.path)}")


def _new_head(net: Net, model: torch.nn.Module, classes: int) -> torch.nn.Module:
    # The pre-trained hidden layers under a head of another size.
    other = replace(net, classes=tuple(map(str, range(classes)))).build()
    hidden = {name: value for name, value in model.state_dict().items() if not name.startswith(f"{net.head}.")}
    other.load_state_dict(hidden, strict=False)
    return other
