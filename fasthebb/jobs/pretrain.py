"""`fasthebb pretrain`: a net's hidden layers, trained on images alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from fasthebb.console import Console
from fasthebb.hebbian import attach
from fasthebb.jobs.net import check_images, head_of, write_net
from fasthebb.jobs.options import PretrainOptions, attachable, by_layer, forward_of, rule_name
from fasthebb.jobs.setup import all_but, load_as_given, new_net, set_aside, statistics, whitening_of
from fasthebb.options import plain
from fasthebb.training import checkpoint
from fasthebb.training.loop import device_of, place
from fasthebb.training.pretrain import pretrain
from fasthebb.training.run import RunFolder, finished


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
    with RunFolder(options.out, plain(options), resume=options.resume, console=console) as folder:
        if finished(folder.path):
            console.say(f"{folder.path} is finished already")
            return folder.path
        dataset = load_as_given(options, console)
        folder.check_data(dataset.name, dataset.fingerprint)
        checkpoint.seed_everything(options.seed)
        own = {"forward": options.forward, "rule": rule_name(rules), "whitened": options.whiten}
        net = new_net(options, dataset, statistics(dataset), options.seed, **own)
        model = place(net.build(), device, options.precision)
        check_images(net, model)
        net = replace(net, head=head_of(model, options.head))
        hebb = attach(model, attachable(rules, net.head))
        aside = set_aside(dataset, options.validation, options.seed)
        images = all_but(aside, len(dataset.train))
        if options.whiten:
            net = replace(net, whitening=whitening_of(net, dataset, images, options, console))
        loader = net.loader(
            dataset.train, options.batch_size, device, indices=images, seed=options.seed, augment=options.augment
        )
        folder.write_config()
        write_net(folder.path, net)
        folder.log(
            f"{dataset.name}: {len(images)} images without labels, {len(hebb.layers)} layers by {net.rule}, "
            f"forward {net.forward}"
        )
        history = pretrain(
            model,
            hebb,
            loader,
            torch.optim.SGD(hebb.parameters(), lr=options.lr),
            epochs=options.epochs,
            order=options.order,
            max_steps=options.max_steps,
            activations=folder.path / "activations" if options.cache_activations else None,
            watcher=folder.watcher(net.plain(), options.checkpoint_steps, tensorboard=options.tensorboard),
        )
        folder.finish(model, net.plain())
        folder.log(f"pre-trained in {history[-1]['seconds']:.1f} s: {folder.path}")
        console.rich(hebb.summary())
        return folder.path
