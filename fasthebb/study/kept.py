"""What the report draws of the nets themselves, kept in pictures.npz: the last thing that a study measures.

| key | holds |
|---|---|
| classes | names of the classes |
| filters/METHOD | first-layer weights [C, 1 or 3, k, k] |
| usage/METHOD/LAYER | each unit's share of the images [C] |
| units/METHOD/LAYER | a `LayerUnits`, and the likeness to the net from scratch [7] |
| confusion/METHOD | test images by class and prediction [classes, classes] |
| strips/METHOD, DEPTH/PART | images that ask, their neighbours, and the labels of both |

Strips are of the depth that kNN chose. Records do not name it: it is the first one whose accuracy is that of the
choice, and is called "as good as kNN's choice" where others have the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from fasthebb.diagnostics import cka
from fasthebb.evaluation.confusion import confusion_matrix, predictions
from fasthebb.evaluation.features import extract
from fasthebb.evaluation.results import Record, count
from fasthebb.evaluation.retrieval import nearest
from fasthebb.evaluation.usage import layer_units, unit_usage
from fasthebb.files import atomic_save
from fasthebb.jobs.frozen import split_queries, spots_of
from fasthebb.jobs.layer_rules import attachable
from fasthebb.jobs.net import Net
from fasthebb.matching import match
from fasthebb.models import trainable_layers
from fasthebb.study.bench import Bench
from fasthebb.study.cells import net_of
from fasthebb.study.ensembles import FILE as SCORES
from fasthebb.study.ensembles import probe_of
from fasthebb.study.exhibits import Strip
from fasthebb.study.prepared import cells_of

PICTURES = "pictures.npz"
ASKING, NEAR = 6, 8  # images of a strip, and neighbours of each
ROWS_A_UNIT = 4  # of fewer, any two layers look alike

Arrays = dict[str, NDArray[Any]]


def keep_pictures(benches: Sequence[Bench], records: list[Record]) -> None:
    """Write pictures.npz, of the nets of every method of one seed."""
    kept: Arrays = {"classes": np.array(benches[0].dataset.classes), **_best_read_out(benches, records)}
    for bench in benches:
        base, shown = bench.method.base, bench.method.title
        if base == "random" or not bench.budgets:
            continue
        net = net_of(bench)
        if base == "scratch":
            shown = f"{shown}, {count(max(bench.budgets))} labels"
            model = _tuned(bench, net)
            kept |= _filters(shown, model) | _confusion(bench, net, model, shown)
            continue
        model = bench.trained(net, cells_of(bench)[-1])
        kept |= _filters(shown, model)
        if bench.options.knn:
            kept |= _strips(bench, net, model, shown, records)
        if base in bench.options.rules:
            kept |= _usage(bench, net, model) | _units(bench, net, model, _like(bench, benches))
        if bench.options.finetune:
            kept |= _confusion(
                bench, net, _tuned(bench, net), f"{shown} fine-tuned, {count(max(bench.budgets))} labels"
            )
    atomic_save(benches[0].folder.path / PICTURES, lambda file: np.savez(file, allow_pickle=False, **kept))


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


def _tuned(bench: Bench, net: Net) -> nn.Module:
    # The net trained end to end on the most labels; of scratch the backprop twin.
    name = bench.method.name
    cell = f"{name}-backprop" if bench.method.base == "scratch" else f"finetune-{name}"
    return bench.trained(net, f"{cell}-{max(bench.budgets)}")


def _like(bench: Bench, benches: Sequence[Bench]) -> Bench | None:
    # The first method from scratch that trains the same net; none if there is none.
    def wanted(other: Bench) -> tuple[str, float]:
        return other.options.model, other.options.width

    return next((one for one in benches if one.method.base == "scratch" and wanted(one) == wanted(bench)), None)


def _filters(shown: str, model: nn.Module) -> Arrays:
    first = model.get_submodule(trainable_layers(model)[0]).weight
    assert isinstance(first, Tensor)
    return {f"filters/{shown}": first.detach().cpu().numpy()} if first.ndim == 4 else {}


def _usage(bench: Bench, net: Net, model: nn.Module) -> Arrays:
    # How the units that a rule trained share the images of the training set.
    images = _images(bench, net)
    learnt = match(model, attachable(bench.options.rules[bench.method.base], net.head))
    shares = unit_usage(model, {layer.name: layer.rule for layer in learnt}, images)
    return {f"usage/{bench.method.title}/{layer}": share.cpu().numpy() for layer, share in shares.items()}


def _units(bench: Bench, net: Net, model: nn.Module, scratch: Bench | None) -> Arrays:
    # What became of the units of every hidden layer, and how like those of the net trained on all labels they are.
    layers = [layer for layer in trainable_layers(model) if layer != net.head]
    found, activity = layer_units(model, layers, _images(bench, net))
    others: dict[str, Tensor] = {}
    if scratch is not None:
        twin = net_of(scratch)
        _, others = layer_units(_tuned(scratch, twin), layers, _images(scratch, twin))
    likeness = {
        layer: float(cka(rows, others[layer])) if others and len(rows) >= ROWS_A_UNIT * rows.shape[1] else math.nan
        for layer, rows in activity.items()
    }
    return {
        f"units/{bench.method.title}/{layer}": np.array([*units, likeness[layer]]) for layer, units in found.items()
    }


def _images(bench: Bench, net: Net) -> Tensor:
    # Some training images, the same ones for every net.
    x: Tensor = next(iter(net.loader(bench.dataset.train, 256, bench.device, seed=bench.seed)))[0]
    return x


def _best_read_out(benches: Sequence[Bench], records: list[Record]) -> Arrays:
    # The confusion of the rules' best probe on the most labels, by the scores that its cell kept. A report shows no
    # pictures of variants: they count where there is nothing else.
    found: dict[bool, list[tuple[int, float, str, Bench]]] = {False: [], True: []}
    for bench in benches:
        if bench.method.base not in bench.options.rules or not bench.budgets:
            continue
        wanted = f"{bench.method.title} {probe_of(bench.options)}", max(bench.budgets), None
        top1 = next((r.top1 for r in records if (r.method, r.labels, r.depth) == wanted), None)
        if top1 is not None:
            found[bench.method.name != bench.method.base].append((wanted[1], top1, wanted[0], bench))
    best = max(found[False] or found[True], key=lambda one: one[:2], default=None)
    if best is None:
        return {}
    labels, _, name, bench = best
    scores = load_file(bench.cell(f"frozen-{bench.method.name}") / SCORES)[str(labels)]
    counts = confusion_matrix(scores.argmax(1), bench.dataset.test.labels, len(bench.dataset.classes))
    return {f"confusion/{name}, {count(labels)} labels": counts.numpy()}


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
    depth, words = _depth(records, f"{shown} kNN", bench.seed)
    spot = spots_of(net, model, bench.options)[depth]
    features, _ = extract(model, spot.module, test_loader, pool=spot.pool)
    near = others[nearest(features[others], features[asking], min(NEAR, len(others))).cpu()]
    shown_near = test.pixels(near.flatten())
    parts = {
        "queries": test.pixels(asking),
        "neighbours": shown_near.view(*near.shape, *shown_near.shape[1:]),
        "query_labels": test.labels[asking],
        "neighbour_labels": test.labels[near],
    }
    return {f"strips/{shown}, {words}/{part}": values.cpu().numpy() for part, values in parts.items()}


def _depth(records: list[Record], method: str, seed: int) -> tuple[int, str]:
    # The depth that the labels of the largest budget chose, by its accuracy, and in words.
    own = [r for r in records if r.method == method and r.seed == seed]
    most = max(r.labels for r in own)
    own = [r for r in own if r.labels == most]
    chosen = next(r for r in own if r.depth is None)
    depths = [r.depth for r in own if r.depth is not None]
    same = sorted(r.depth for r in own if r.depth is not None and r.top1 == chosen.top1)
    how = "chosen by kNN" if len(same) == 1 else "as good as kNN's choice"
    return same[0], f"depth {same[0]}" + (f" ({how})" if len(depths) > 1 else "")
