"""What the report draws of the nets themselves, kept in pictures.npz: the last thing that a study measures.

| key | holds |
|---|---|
| classes | names of the classes |
| filters/METHOD | first-layer weights [C, 1 or 3, k, k] |
| usage/METHOD/LAYER | each unit's share of the images [C] |
| confusion/METHOD | test images by class and prediction [classes, classes] |
| strips/METHOD/PART | images that ask, their neighbours, and the labels of both |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fasthebb.evaluation.confusion import confusion_matrix, predictions
from fasthebb.evaluation.features import extract
from fasthebb.evaluation.results import Record, count
from fasthebb.evaluation.retrieval import nearest
from fasthebb.evaluation.usage import unit_usage
from fasthebb.files import atomic_save
from fasthebb.jobs.frozen import split_queries
from fasthebb.jobs.net import Net, depths, pool_of
from fasthebb.jobs.options import forward_of, rule_name
from fasthebb.models import trainable_layers
from fasthebb.study.bench import Bench
from fasthebb.study.exhibits import Strip
from fasthebb.study.options import title_of

PICTURES = "pictures.npz"
ASKING, NEAR = 6, 8  # images of a strip, and neighbours of each

Arrays = dict[str, NDArray[Any]]


def keep_pictures(bench: Bench, records: list[Record]) -> None:
    """Write pictures.npz, of the nets of one seed."""
    kept: Arrays = {"classes": np.array(bench.dataset.classes)}
    largest = max(bench.budgets)
    for name in bench.options.methods:
        if name == "random":
            continue
        if name == "scratch":
            net, shown = bench.net_of(name, twin="backprop"), f"scratch, {count(largest)} labels"
            model = bench.trained(net, f"scratch-backprop-{largest}")
            kept |= _filters(shown, model) | _confusion(bench, net, model, shown)
            continue
        net, shown = _net(bench, name), title_of(name)
        model = bench.trained(net, f"pretrain-{name}")
        kept |= _filters(shown, model) | _strips(bench, net, model, shown, records)
        if name in bench.options.rules:
            kept |= _usage(bench, net, model, name)
        tuned = bench.trained(net, f"finetune-{name}-{largest}")
        kept |= _confusion(bench, net, tuned, f"{shown} fine-tuned, {count(largest)} labels")
    atomic_save(bench.folder.path / PICTURES, lambda file: np.savez(file, allow_pickle=False, **kept))


def pictures(folder: Path, kind: str) -> Arrays:
    """The arrays of a kind by what follows it in their keys; none where none were kept."""
    file = folder / PICTURES
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as arrays:
        return {name.partition("/")[2]: arrays[name] for name in arrays.files if name.partition("/")[0] == kind}


def strips(folder: Path) -> dict[str, Strip]:
    """By method and depth, the images that ask and their neighbours."""
    arrays = pictures(folder, "strips")
    names = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
    return {name: Strip(**{part: arrays[f"{name}/{part}"] for part in Strip._fields}) for name in names}


def _net(bench: Bench, name: str) -> Net:
    # The net that a method trains.
    rule = bench.options.rules.get(name)
    if rule is None:
        return bench.net_of(name, twin="backprop" if name == "vae" else "hebbian")
    return bench.net_of(name, forward=forward_of(rule), rule=rule_name(rule))


def _hidden(net: Net, model: nn.Module) -> list[str]:
    return [layer for layer in trainable_layers(model) if layer != net.head]


def _filters(shown: str, model: nn.Module) -> Arrays:
    first = model.get_submodule(trainable_layers(model)[0]).weight
    assert isinstance(first, Tensor)
    return {f"filters/{shown}": first.detach().cpu().numpy()} if first.ndim == 4 else {}


def _usage(bench: Bench, net: Net, model: nn.Module, name: str) -> Arrays:
    # How the units that a rule trained share the images of the training set.
    images, _ = next(iter(net.loader(bench.dataset.train, 256, bench.device, seed=bench.seed)))
    shares = unit_usage(model, dict.fromkeys(_hidden(net, model), bench.options.rules[name]), images)
    return {f"usage/{name.upper()}/{layer}": share.cpu().numpy() for layer, share in shares.items()}


def _confusion(bench: Bench, net: Net, model: nn.Module, shown: str) -> Arrays:
    scores, labels = predictions(model, net.loader(bench.dataset.test, 256, bench.device, shuffle=False))
    counts = confusion_matrix(scores.argmax(1), labels, len(net.classes))
    return {f"confusion/{shown}": counts.cpu().numpy()}


def _strips(bench: Bench, net: Net, model: nn.Module, shown: str, records: list[Record]) -> Arrays:
    # Test images, one of a class, and the test images nearest to them, by the features that serve kNN best.
    test = bench.dataset.test
    queries, others = split_queries(len(test), bench.seed)
    labels = test.labels[queries]
    asking = torch.stack([queries[labels == label][0] for label in sorted(set(labels.tolist()))[:ASKING]])
    test_loader = net.loader(test, 256, bench.device, shuffle=False)
    x = next(iter(test_loader))[0][:2]
    depth = _depth(records, f"{shown} kNN", bench.seed)
    layer = depths(model, _hidden(net, model), net.head, x)[depth]
    features, _ = extract(model, layer, test_loader, pool=pool_of(model, layer, x))
    near = others[nearest(features[others], features[asking], min(NEAR, len(others))).cpu()]
    parts = {
        "queries": test.images[asking],
        "neighbours": test.images[near],
        "query_labels": test.labels[asking],
        "neighbour_labels": test.labels[near],
    }
    return {f"strips/{shown}, depth {depth}/{part}": values.cpu().numpy() for part, values in parts.items()}


def _depth(records: list[Record], method: str, seed: int) -> int:
    # The depth that the labels of the largest budget chose.
    own = [r for r in records if r.method == method and r.seed == seed]
    most = max(r.labels for r in own)
    own = [r for r in own if r.labels == most]
    chosen = next(r for r in own if r.depth is None)
    return next(r.depth for r in own if r.depth is not None and r.top1 == chosen.top1)
