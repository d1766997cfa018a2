"""`fasthebb finetune`: a pre-trained net made a classifier by few labels."""

from __future__ import annotations

from dataclasses import replace

import torch

from fasthebb.console import Console
from fasthebb.data.labels import parse_budget
from fasthebb.jobs.options import FinetuneOptions
from fasthebb.jobs.results import add, record
from fasthebb.jobs.setup import Net, budget, load_data, read_net, set_aside, with_data_of, write_net
from fasthebb.memory import peak_bytes, reset_peak
from fasthebb.options import plain
from fasthebb.training import checkpoint
from fasthebb.training.finetune import accuracies, finetune
from fasthebb.training.loop import device_of, place
from fasthebb.training.run import RunFolder, finished, read_metrics


def run(options: FinetuneOptions, console: Console) -> None:
    """Fine-tune the net of a pre-training run into a run folder of its own, and test it.

    Raises:
        ValueError: an option does not fit the data or the folders.
        FloatingPointError: the loss is not finite.
        Interrupted: a signal came; the run resumes.
    """
    labels = parse_budget(options.labels)
    device = device_of(options.device)
    before, model = read_net(options.run, console)
    if before.classifier:
        raise ValueError(f"{options.run} is fine-tuned already, on labels of its own: give the run of a pre-training")
    out = options.out or options.run / f"finetune-{options.labels}-s{options.seed}"
    options = replace(with_data_of(before, options), out=out)
    with RunFolder(out, plain(options), resume=options.resume, console=console) as folder:
        if finished(folder.path):
            console.say(f"{folder.path} is finished already")
            return
        dataset = load_data(options, before.image_size, console)
        if len(dataset.classes) != len(before.classes):
            model = _new_head(before, model, len(dataset.classes))
        aside = set_aside(dataset, before.validation, before.seed)
        chosen, validation = budget(dataset, labels, aside, seed=options.seed, balanced=options.balanced)
        seconds = next((r["seconds"] for r in reversed(list(read_metrics(options.run)))), None)
        net = replace(
            before,
            dataset=dataset.name,
            data=options.data or "",
            data_dir=None if options.data_dir is None else str(options.data_dir),
            classes=dataset.classes,
            pretrain_seconds=seconds,
            classifier="head" if options.head_only else "finetune",
            labels=options.labels,
            balanced=options.balanced,
            label_seed=options.seed,
        )
        checkpoint.seed_everything(options.seed)
        place(model, device)
        head = model.get_submodule(net.head)
        if isinstance(head, torch.nn.Linear) and head.out_features != len(net.classes):
            raise ValueError(
                f"The head {net.head!r} of {net.model} has {head.out_features} outputs for {len(net.classes)} classes: "
                "let its function take `classes`"
            )
        head.reset_parameters()  # type: ignore[operator]
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
        tested = record(net, net.classifier or "", len(chosen), len(dataset.train), options.seed, None, top1, top5)
        add(folder.path, [replace(tested, finetune_seconds=history[-1]["seconds"], peak_memory_mb=peak)])
        folder.log(f"{len(chosen)} labels: test accuracy {top1:.2f} %: {folder.path}")
        folder.finish(model, net.plain())


def _new_head(net: Net, model: torch.nn.Module, classes: int) -> torch.nn.Module:
    # The pre-trained hidden layers under a head of another size.
    other = replace(net, classes=tuple(map(str, range(classes)))).build()
    hidden = {name: value for name, value in model.state_dict().items() if not name.startswith(f"{net.head}.")}
    other.load_state_dict(hidden, strict=False)
    return other
