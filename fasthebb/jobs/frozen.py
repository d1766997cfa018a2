"""What frozen features are worth: read-outs trained on a label budget, and retrieval, at every depth of a net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fasthebb.console import Console
from fasthebb.data import Dataset, Loader
from fasthebb.distributed import gathered, rank, shared, world_size
from fasthebb.evaluation import knn_accuracy, knn_left_out, linear_probe, topk_accuracy
from fasthebb.evaluation.features import extract_many
from fasthebb.evaluation.propagation import propagate
from fasthebb.evaluation.results import Record
from fasthebb.evaluation.retrieval import precision_at_k, retrieval_map
from fasthebb.evaluation.svm import linear_svm
from fasthebb.jobs.net import Net, Spot, depths, spot_of
from fasthebb.jobs.readouts import ReadOutOptions
from fasthebb.jobs.results import record
from fasthebb.jobs.setup import labelled
from fasthebb.jobs.views import Features, InTurn, side_by_side, views_of
from fasthebb.models import trainable_layers

QUERIES = 1000  # test images that ask for those like them among the other test images, at most half of all
BITS = 256
HELD = 4 << 30  # bytes of features of several depths held at a time
CHOSEN = ("probe", "knn", "svm", "knn propagated")  # read-outs whose depth a budget's own labels choose


class ReadOut(NamedTuple):
    """A measurement: its leave-one-out error, its name, accuracies in percent, test scores [T, classes] if any."""

    error: float
    name: str
    top1: float
    top5: float | None
    scores: Tensor | None = None


Keep = Callable[[str, int, int, float, Tensor], None]  # name, labels, depth, leave-one-out error, test scores


def frozen(
    net: Net,
    model: nn.Module,
    dataset: Dataset,
    budgets: Mapping[int, Tensor],
    seed: int,
    device: torch.device,
    console: Console,
    wanted: ReadOutOptions,
    *,
    batch_size: int,
    keep: Keep | None = None,
) -> list[Record]:
    """Read-outs of the frozen features of every depth, for every label budget, and retrieval.

    A record without a depth is of the depth that a budget's own labels choose: of least leave-one-out error, for the
    support vector machine, propagation and probes without one that of the ridge probe. A probe of all depths together
    has no depth either. Labels are read at the budgets' images only. Propagation sees all test images at once, and none
    of their labels. Retrieval reads no label of a training image: test images ask for those of their class among the
    other test images, its records are of 0 labels. `keep` is told the scores of every read-out that has them, those of
    all depths together as of depth 0.

    Of several ranks each extracts features of its share of the images, and the first one reads them out: the others
    return no records.

    Raises:
        ValueError: the net has no such depth.
    """
    most = max(budgets.values(), key=len)
    place = {int(index): row for row, index in enumerate(most)}
    rows = {count: torch.tensor([place[int(i)] for i in indices]) for count, indices in budgets.items()}
    spots = spots_of(net, model, wanted)
    views = views_of(wanted)
    train, test = (
        [net.loader(p, batch_size, device, indices=shared(i), shuffle=False, **view._asdict()) for view in views]
        for p, i in ((dataset.train, most), (dataset.test, torch.arange(len(dataset.test))))
    )
    found: list[tuple[float, Record]] = []  # with their leave-one-out error
    beside: list[Features] = []

    def note(count: int, depth: int | None, one: ReadOut) -> None:
        if keep is not None and one.scores is not None:
            keep(one.name, count, depth or 0, one.error, one.scores)
        made = record(net, one.name, count, labelled(dataset), seed, depth, one.top1, one.top5)
        found.append((one.error, made))

    for taken in console.progress(_groups(spots, len(views) * (len(most) + len(dataset.test))), "features"):
        pools = {spot.module: spot.pool for spot in taken.values()}
        known, tested = (_extracted(model, pools, images) for images in (train, test))
        if rank() > 0:
            continue
        for depth, spot in taken.items():
            at = Features(*known.pop(spot.module), *tested.pop(spot.module), copies=len(views))
            for count, chosen in rows.items():
                for one in read_out(at.of(chosen), len(net.classes), wanted, seed, len(spots)):
                    note(count, depth, one)
            if wanted.together:
                beside.append(at)
            if wanted.retrieval:
                once = at.once()
                found += [
                    (0.0, record(net, method, 0, labelled(dataset), seed, depth, value, None))
                    for method, value in retrieval(once.tested, once.truth, seed, wanted.k)
                ]
    choice = _chosen(found)
    if beside:
        at = side_by_side(beside)
        for count, chosen in rows.items():
            note(count, None, _together(at.of(chosen)))
    return [r for _, r in found] + choice


def _extracted(
    model: nn.Module, pools: Mapping[str, int | None], views: Sequence[Loader]
) -> dict[str, tuple[Tensor, Tensor]]:
    # By module features and labels, one view after the other, of the images that all ranks share.
    found = extract_many(model, list(pools), InTurn(views), pool=pools)

    def every(rows: Tensor) -> Tensor:
        return torch.cat([gathered(view) for view in rows.chunk(len(views))]) if world_size() > 1 else rows

    return {name: (every(rows), every(labels)) for name, (rows, labels) in found.items()}


def spots_of(net: Net, model: nn.Module, wanted: ReadOutOptions) -> dict[int, Spot]:
    """By depth, where the features are taken that are read.

    Raises:
        ValueError: the net has no such depth.
    """
    x = torch.zeros(2, len(net.mean), net.image_size, net.image_size, device=next(model.parameters()).device)
    hidden = [name for name in trainable_layers(model) if name != net.head]
    layers = depths(model, hidden, net.head, x)
    absent = [depth for depth in wanted.probe_depths if depth not in layers]
    if absent:
        raise ValueError(f"--probe-depths {absent[0]}: {net.model} has depths 1 to {max(layers)}")
    return {depth: spot_of(model, layers[depth], x, wanted.pool) for depth in wanted.probe_depths or layers}


def read_out(at: Features, classes: int, wanted: ReadOutOptions, seed: int, depths: int) -> Iterator[ReadOut]:
    """Each read-out that is wanted, trained on few labels and tested; of a single depth, none needs to be compared."""
    error, fitted, once = 0.0, None, at.once()
    compared = depths > 1 and (wanted.probe or wanted.svm or wanted.propagate)
    if (wanted.probe and wanted.probe_method == "ridge") or compared:
        fitted = linear_probe(at.few, at.known, copies=at.copies)
        error = fitted.left_out or 0.0
    if wanted.probe:
        if fitted is None or wanted.probe_method != "ridge":
            fitted = linear_probe(at.few, at.known, method=wanted.probe_method, seed=seed, epochs=wanted.probe_epochs)
        yield _scored(error, "probe", at.mean(fitted.scores(at.tested)), once.truth)
    near = max(1, min(wanted.k, len(once.few) // classes))
    if wanted.knn and len(once.few) > near:
        top1 = knn_accuracy(once.few, once.known, once.tested, once.truth, k=near)
        yield ReadOut(-knn_left_out(once.few, once.known, k=near), "knn", top1, None)
    if wanted.propagate:
        yield _scored(error, "knn propagated", _propagated(once, wanted.k), once.truth)
    if wanted.svm:
        yield ReadOut(error, "svm", linear_svm(once.few, once.known, seed=seed).score(once.tested, once.truth), None)


def _together(at: Features) -> ReadOut:
    # A ridge probe of the features of all depths, each of them standardised.
    fitted = linear_probe(at.few, at.known, copies=at.copies)
    return _scored(fitted.left_out or 0.0, "probe together", at.mean(fitted.scores(at.tested)), at.once().truth)


def _propagated(once: Features, k: int) -> Tensor:
    # Scores of the test images, to which labels spread in a graph of labelled and test images.
    rows = torch.cat([once.few, once.tested])
    labels = torch.cat([once.known, torch.full_like(once.truth, -1)])
    return propagate(rows, labels, k=min(max(k, 2), len(rows)))[len(once.few) :]


def _scored(error: float, name: str, scores: Tensor, truth: Tensor) -> ReadOut:
    return ReadOut(error, name, topk_accuracy(scores, truth), topk_accuracy(scores, truth, 5), scores)


def retrieval(features: Tensor, labels: Tensor, seed: int, k: int) -> Iterator[tuple[str, float]]:
    """Mean average precision, of raw features and of codes, and precision of the first k, in percent."""
    queries, others = split_queries(len(features), seed)
    base = features[others], labels[others], features[queries], labels[queries]
    yield "retrieval mAP", retrieval_map(*base)
    yield f"retrieval mAP {BITS} bit", retrieval_map(*base, bits=BITS)
    first = min(k, len(others))
    yield f"retrieval P@{first}", precision_at_k(*base, k=first)


def split_queries(images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the test images that ask, drawn by the seed, and of those that they ask among."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    asking = max(1, min(QUERIES, images // 2))
    return order[:asking], order[asking:]


def _groups(spots: Mapping[int, Spot], rows: int) -> list[dict[int, Spot]]:
    # Depths whose features are held at a time, taken in one pass over the images.
    groups: list[dict[int, Spot]] = []
    held = 0
    for depth, spot in spots.items():
        size = 4 * rows * spot.size
        if not groups or held + size > HELD:
            groups.append({})
            held = 0
        groups[-1][depth] = spot
        held += size
    return groups


def _chosen(found: list[tuple[float, Record]]) -> list[Record]:
    # Of every read-out and budget the record of least leave-one-out error, as one of no depth.
    best: dict[tuple[str, int], tuple[float, Record]] = {}
    for error, r in found:
        at = r.method, r.labels
        if r.method in CHOSEN and (at not in best or error < best[at][0]):
            best[at] = error, r
    return [replace(r, depth=None) for _, r in best.values()]
