"""`fasthebb finetune`: a pre-trained net made a classifier by few labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from fasthebb.console import Console
from fasthebb.data.labels import parse_budget
from fasthebb.jobs.net import Net, cut_at, read_net, write_net
from fasthebb.jobs.options import FinetuneOptions
from fasthebb.jobs.results import add, record
from fasthebb.jobs.setup import budget, labelled, load_for, set_aside, source_of, with_data_of
from fasthebb.memory import peak_bytes, reset_peak
from fasthebb.options import plain
from fasthebb.training import checkpoint
from fasthebb.training.finetune import accuracies, finetune
from fasthebb.training.loop import device_of, place
from fasthebb.training.run import RunFolder, finished, read_metrics


def run(options: FinetuneOptions, console: Console) -> Path:
    """Fine-tune the net of a pre-training run into a run folder of its own, test it, and return the folder.

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
    at = "" if options.depth is None else f"-depth{options.depth}"
    out = options.out or options.run / f"finetune-{options.labels}{at}-s{options.seed}"
    options = replace(with_data_of(before, options), out=out)
    with RunFolder(out, plain(options), resume=options.resume, console=console) as folder:
        if finished(folder.path):
            console.say(f"{folder.path} is finished already")
            return folder.path
        dataset = load_for(before, options, console)
        folder.check_data(dataset.name, dataset.fingerprint)
        if options.depth is not None:
            before, model = cut_at(replace(before, classes=dataset.classes), model, options.depth)
        elif len(dataset.classes) != len(before.classes):
            model = _new_head(before, model, len(dataset.classes))
        aside = set_aside(dataset, before.validation, before.seed)
        chosen, validation = budget(dataset, labels, aside, seed=options.seed, balanced=options.balanced)
        seconds = next((r["seconds"] for r in reversed(list(read_metrics(options.run)))), None)
        net = replace(
            before,
            dataset=dataset.name,
            source=source_of(options),
            classes=dataset.classes,
            pretrain_seconds=seconds,
            classifier="head" if options.head_only else "finetune",
            labels=options.labels,
            balanced=options.balanced,
            label_seed=options.seed,
            label_count=len(chosen),
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
        held = dataset.val or dataset.train
        validation = torch.arange(len(held)) if dataset.val else validation
        folder.write_config()
        write_net(folder.path, net)
        folder.log(f"{dataset.name}: {len(chosen)} labels of {labelled(dataset)}, validation on {len(validation)}")
        reset_peak()
        loader = net.loader(
            dataset.train, options.batch_size, device, indices=chosen, seed=options.seed, augment=options.augment
        )
        history = finetune(
            model,
            loader,
            epochs=max(options.epochs, -(-options.min_steps // len(loader))),
            lr=options.lr,
            head_only=options.head_only,
            head=net.head,
            weight_decay=options.weight_decay,
            max_steps=options.max_steps,
            validation=net.loader(held, 256, device, indices=validation, shuffle=False) if len(validation) else None,
            watcher=folder.watcher(net.plain(), options.checkpoint_steps, tensorboard=options.tensorboard),
        )
        peak = peak_bytes() / 2**20
        top1, top5 = accuracies(model, net.loader(dataset.test, 256, device, shuffle=False), (1, 5))
        tested = record(net, net.classifier or "", len(chosen), labelled(dataset), options.seed, net.depth, top1, top5)
        add(folder.path, [replace(tested, finetune_seconds=history[-1]["seconds"], peak_memory_mb=peak)])
        folder.log(f"{len(chosen)} labels: test accuracy {top1:.2f} %: {folder.path}")
        folder.finish(model, net.plain())
        return folder.path


def _new_head(net: Net, model: torch.nn.Module, classes: int) -> torch.nn.Module:
    # The pre-trained hidden layers under a head of another size.
    other = replace(net, classes=tuple(map(str, range(classes)))).build()
    hidden = {name: value for name, value in model.state_dict().items() if not name.startswith(f"{net.head}.")}
    other.load_state_dict(hidden, strict=False)
    return other
