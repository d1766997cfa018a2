"""`fasthebb pretrain`: a net's hidden layers, trained on images alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from fasthebb.console import Console
from fasthebb.distributed import first_of_machine
from fasthebb.hebbian import attach
from fasthebb.jobs.layer_rules import attachable, by_layer, forward_of, rule_name
from fasthebb.jobs.net import check_images, head_of, write_net
from fasthebb.jobs.options import PretrainOptions
from fasthebb.jobs.setup import all_but, load_as_given, new_net, set_aside, statistics, whitening_of
from fasthebb.options import plain
from fasthebb.training import checkpoint
from fasthebb.training.loop import device_of, place
from fasthebb.training.norms import batch_norms
from fasthebb.training.pretrain import check_capture, pretrain
from fasthebb.training.run import RunFolder, finished
from fasthebb.training.sync_norms import synchronised


def run(options: PretrainOptions, console: Console) -> Path:
    """Pre-train a net into a run folder, and return the folder.

    Raises:
        ValueError: an option does not fit the data or the folder.
        FloatingPointError: an update is not finite.
        Interrupted: a signal came; the run resumes.
    """
    rules = by_layer(options.layer_rules or options.rule)
    if options.forward == "auto":
        options = replace(options, forward=forward_of(rules))
    device = device_of(options.device)
    if options.capture:
        check_capture(device, keeps=options.cache_activations)
    defaults = plain(PretrainOptions())  # what older folders do not name was so
    with RunFolder(options.out, plain(options), resume=options.resume, console=console, defaults=defaults) as folder:
        if finished(folder.path):
            console.say(f"{folder.path} is finished already")
            return folder.path
        with first_of_machine():
            dataset = load_as_given(options, console, labelled=False)
        folder.check_data(dataset.name, dataset.fingerprint)
        checkpoint.seed_everything(options.seed)
        own = {"forward": options.forward, "rule": rule_name(rules), "whitened": options.whiten}
        net = new_net(options, dataset, statistics(dataset), options.seed, **own)
        model = place(net.build(), device, options.precision)
        check_images(net, model)
        net = replace(net, head=head_of(model, options.head))
        hebb = attach(model, attachable(rules, net.head))
        if options.compile:
            hebb.compile()
        aside = set_aside(dataset, options.validation, options.seed)
        images = all_but(aside, len(dataset.train))
        if options.whiten:
            with first_of_machine():
                net = replace(net, whitening=whitening_of(net, dataset, images, options, console))
        loader = net.loader_of_rank(
            dataset.train, options.batch_size, device, together=options.sync_bn or not batch_norms(model),
            indices=images, seed=options.seed, augment=options.augment,
        )  # fmt: skip
        folder.write_config()
        write_net(folder.path, net)
        folder.log(
            f"{dataset.name}: {len(images)} images without labels, {len(hebb.layers)} layers by {net.rule}, "
            f"forward {net.forward}"
        )
        with synchronised(model, on=options.sync_bn):
            history = pretrain(
                model,
                hebb,
                loader,
                torch.optim.SGD(hebb.parameters(), lr=options.lr),
                epochs=options.epochs,
                order=options.order,
                max_steps=options.max_steps,
                activations=folder.path / "activations" if options.cache_activations else None,
                capture=options.capture,
                watcher=folder.watcher(net.plain(), options.checkpoint_steps, tensorboard=options.tensorboard),
            )
        folder.finish(model, net.plain())
        folder.log(f"pre-trained in {history[-1]['seconds']:.1f} s{_reduced(history[-1])}: {folder.path}")
        console.rich(hebb.summary())
        return folder.path


def _reduced(record: Mapping[str, float]) -> str:
    # What the ranks of a run told each other, by the record of its last epoch.
    if "reduce_mb" not in record:
        return ""
    step = 1000 * record["seconds"] / record["step"]
    return f", {record['reduce_mb']:.1f} MB summed over ranks a step in {record['reduce_ms']:.0f} of {step:.0f} ms"
