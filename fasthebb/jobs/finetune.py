"""`fasthebb finetune`: a pre-trained net made a classifier by few labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fasthebb.console import Console
from fasthebb.data import Dataset
from fasthebb.data.labels import parse_budget
from fasthebb.distributed import first_of_machine, rank, shared, world_size
from fasthebb.jobs.net import Net, cut_at, write_net
from fasthebb.jobs.options import FinetuneOptions
from fasthebb.jobs.readouts import ReadOutOptions
from fasthebb.jobs.results import add, record
from fasthebb.jobs.ridge_head import ridge_head
from fasthebb.jobs.setup import budget, labelled, load_for, set_aside, source_of, with_data_of
from fasthebb.jobs.trained import place_of, read_net, trained_folder
from fasthebb.jobs.views import views_of
from fasthebb.memory import peak_bytes, reset_peak
from fasthebb.options import plain
from fasthebb.training import checkpoint
from fasthebb.training.finetune import accuracies, finetune
from fasthebb.training.loop import device_of, place
from fasthebb.training.norms import batch_norms
from fasthebb.training.run import RunFolder, finished, read_metrics
from fasthebb.training.sync_norms import synchronised


def run(options: FinetuneOptions, console: Console) -> Path:
    """Fine-tune the net of a pre-training run into a run folder of its own, test it, and return the folder.

    Raises:
        ValueError: an option does not fit the data or the folders.
        FloatingPointError: the loss is not finite.
        Interrupted: a signal came; the run resumes.
    """
    labels = parse_budget(options.labels)
    device = device_of(options.device)
    options = replace(options, run=trained_folder(options.run))
    before, model = read_net(options.run, console, trust=options.trust)
    if before.classifier:
        raise ValueError(f"{options.run} is fine-tuned already, on labels of its own: give the run of a pre-training")
    at = "" if options.depth is None else f"-depth{options.depth}"
    kind = "ridge" if options.classifier == "ridge" else "finetune"
    out = place_of(options.out, options.run, f"{kind}-{options.labels}{at}-s{options.seed}")
    options = replace(with_data_of(before, options), out=out)
    defaults = plain(FinetuneOptions(run=options.run))  # what older folders do not name was so
    with RunFolder(out, plain(options), resume=options.resume, console=console, defaults=defaults) as folder:
        if finished(folder.path):
            console.say(f"{folder.path} is finished already")
            return folder.path
        with first_of_machine():
            dataset = load_for(before, options, console)
        folder.check_data(dataset.name, dataset.fingerprint)
        if options.depth is not None:
            before, model = cut_at(replace(before, classes=dataset.classes), model, options.depth)
        elif len(dataset.classes) != len(before.classes):
            model = _new_head(before, model, len(dataset.classes))
        aside = set_aside(dataset, before.validation, before.seed)
        chosen, validation = budget(dataset, labels, aside, seed=options.seed, balanced=options.balanced)
        seconds = next((r["seconds"] for r in reversed(list(read_metrics(options.run)))), before.pretrain_seconds)
        net = replace(
            before,
            dataset=dataset.name,
            source=source_of(options),
            classes=dataset.classes,
            pretrain_seconds=seconds,
            classifier="head" if options.head_only or options.classifier == "ridge" else "finetune",
            labels=options.labels,
            balanced=options.balanced,
            label_seed=options.seed,
            label_count=len(chosen),
        )
        checkpoint.seed_everything(options.seed)
        place(model, device, options.precision)
        head = model.get_submodule(net.head)
        if isinstance(head, torch.nn.Linear) and head.out_features != len(net.classes):
            raise ValueError(
                f"The head {net.head!r} of {net.model} has {head.out_features} outputs for {len(net.classes)} classes: "
                "let its function take `classes`"
            )
        head.reset_parameters()  # type: ignore[operator]
        validation = torch.arange(len(dataset.val)) if dataset.val else validation
        folder.write_config()
        write_net(folder.path, net)
        folder.log(f"{dataset.name}: {len(chosen)} labels of {labelled(dataset)}, validation on {len(validation)}")
        reset_peak()
        seconds = _train(options, net, model, dataset, chosen, validation, folder)
        peak = peak_bytes() / 2**20
        tests = _share(torch.arange(len(dataset.test)))
        top1, top5 = accuracies(model, net.loader(dataset.test, 256, device, indices=tests, shuffle=False), (1, 5))
        tested = record(net, net.classifier or "", len(chosen), labelled(dataset), options.seed, net.depth, top1, top5)
        if rank() == 0:
            add(folder.path, [replace(tested, finetune_seconds=seconds, peak_memory_mb=peak)])
        folder.log(f"{len(chosen)} labels: test accuracy {top1:.2f} %: {folder.path}")
        folder.finish(model, net.plain())
        return folder.path


def _train(
    options: FinetuneOptions, net: Net, model: torch.nn.Module, dataset: Dataset, chosen: Tensor, validation: Tensor,
    folder: RunFolder,
) -> float:  # fmt: skip
    # The seconds that it took.
    device = next(model.parameters()).device
    watcher = folder.watcher(net.plain(), options.checkpoint_steps, tensorboard=options.tensorboard)
    if options.classifier == "ridge":
        views = [
            net.loader(dataset.train, 256, device, indices=chosen, shuffle=False, **view._asdict())
            for view in views_of(ReadOutOptions(probe=True, mirror=options.mirror))
        ]
        return ridge_head(model, net, views, pool=options.pool, watcher=watcher)[-1]["seconds"]
    loader = net.loader_of_rank(
        dataset.train, options.batch_size, device, together=options.sync_bn or not batch_norms(model),
        indices=chosen, seed=options.seed, augment=options.augment,
    )  # fmt: skip
    held = None
    if len(validation):
        held = net.loader(dataset.val or dataset.train, 256, device, indices=_share(validation), shuffle=False)
    with synchronised(model, on=options.sync_bn):
        history = finetune(
            model,
            loader,
            epochs=max(options.epochs, -(-options.min_steps // len(loader))),
            lr=options.lr,
            head_only=options.head_only,
            head=net.head,
            head_steps=options.head_steps,
            hidden_rate=options.hidden_rate,
            weight_decay=options.weight_decay,
            max_steps=options.max_steps,
            validation=held,
            watcher=watcher,
        )
    return history[-1]["seconds"]


def _share(rows: Tensor) -> Tensor:
    # This rank's part of rows to measure on; all of them where there are fewer than ranks, with the same result.
    return shared(rows) if len(rows) >= world_size() else rows


def _new_head(net: Net, model: torch.nn.Module, classes: int) -> torch.nn.Module:
    # The pre-trained hidden layers under a head of another size.
    other = replace(net, classes=tuple(map(str, range(classes)))).build()
    hidden = {name: value for name, value in model.state_dict().items() if not name.startswith(f"{net.head}.")}
    other.load_state_dict(hidden, strict=False)
    return other
