"""What frozen features are worth: read-outs trained on a label budget, and retrieval, at every depth of a net."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor, nn

from fasthebb.console import Console
from fasthebb.data import Dataset, Loader
from fasthebb.evaluation import knn_accuracy, knn_left_out, linear_probe, topk_accuracy
from fasthebb.evaluation.features import extract_many
from fasthebb.evaluation.results import Record
from fasthebb.evaluation.retrieval import precision_at_k, retrieval_map
from fasthebb.evaluation.svm import linear_svm
from fasthebb.jobs.net import Net, Spot, depths, spot_of
from fasthebb.jobs.readouts import ReadOutOptions
from fasthebb.jobs.results import record
from fasthebb.jobs.setup import labelled
from fasthebb.models import trainable_layers

QUERIES = 1000  # test images that ask for those like them among the other test images, at most half of all
BITS = 256
HELD = 4 << 30  # bytes of features of several depths held at a time
CHOSEN = ("probe", "knn", "svm")  # read-outs whose depth a budget's own labels choose


ReadOut = tuple[float, str, float, float | None]  # leave-one-out error, name, top-1 and top-5 accuracy


@dataclass(frozen=True)
class Features:
    """Features [copies·M, F] and labels [copies·M] of labelled training images, and of test images.

    With two copies the images are followed by the same images mirrored.
    """

    few: Tensor
    known: Tensor
    tested: Tensor
    truth: Tensor
    copies: int = 1

    def of(self, rows: Tensor) -> Features:
        """With the labelled images of some rows alone."""
        images = len(self.few) // self.copies
        if len(rows) == images:  # all of them: in place, since they may fill the memory
            return self
        rows = torch.cat([rows + images * copy for copy in range(self.copies)])
        return replace(self, few=self.few[rows.to(self.few.device)], known=self.known[rows.to(self.known.device)])

    def once(self) -> Features:
        """The images as they are."""
        parts = (self.few, self.known, self.tested, self.truth)
        few, known, tested, truth = (part[: len(part) // self.copies] for part in parts)
        return Features(few, known, tested, truth)


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
) -> list[Record]:
    """Read-outs of the frozen features of every depth, for every label budget, and retrieval.

    A record without a depth is of the depth that a budget's own labels choose: of least leave-one-out error, for the
    support vector machine and for probes without one that of the ridge probe. Labels are read at the budgets' images
    only. Retrieval reads no label of a training image: test images ask for those of their class among the other test
    images, its records are of 0 labels.

    Raises:
        ValueError: the net has no such depth.
    """
    most = max(budgets.values(), key=len)
    place = {int(index): row for row, index in enumerate(most)}
    rows = {count: torch.tensor([place[int(i)] for i in indices]) for count, indices in budgets.items()}
    spots = spots_of(net, model, wanted)
    views = ("none", "mirror") if wanted.mirror and wanted.probe else ("none",)
    train, test = (
        _InTurn([net.loader(p, batch_size, device, indices=i, shuffle=False, augment=view) for view in views])
        for p, i in ((dataset.train, most), (dataset.test, None))
    )
    found: list[tuple[float, Record]] = []  # with their leave-one-out error
    for taken in console.progress(_groups(spots, len(views) * (len(most) + len(dataset.test))), "features"):
        pools = {spot.module: spot.pool for spot in taken.values()}
        known, tested = (extract_many(model, list(pools), images, pool=pools) for images in (train, test))
        for depth, spot in taken.items():
            at = Features(*known.pop(spot.module), *tested.pop(spot.module), copies=len(views))
            for count, chosen in rows.items():
                for error, method, top1, top5 in read_out(at.of(chosen), len(net.classes), wanted, seed, len(spots)):
                    found.append((error, record(net, method, count, labelled(dataset), seed, depth, top1, top5)))
            if wanted.retrieval:
                once = at.once()
                found += [
                    (0.0, record(net, method, 0, labelled(dataset), seed, depth, value, None))
                    for method, value in retrieval(once.tested, once.truth, seed, wanted.k)
                ]
    return [r for _, r in found] + _chosen(found)


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
    if (wanted.probe and wanted.probe_method == "ridge") or ((wanted.probe or wanted.svm) and depths > 1):
        fitted = linear_probe(at.few, at.known, copies=at.copies)
        error = fitted.left_out or 0.0
    if wanted.probe:
        if fitted is None or wanted.probe_method != "ridge":
            fitted = linear_probe(at.few, at.known, method=wanted.probe_method, seed=seed, epochs=wanted.probe_epochs)
        scores = fitted.scores(at.tested).reshape(at.copies, len(once.truth), -1).mean(0)
        yield error, "probe", topk_accuracy(scores, once.truth), topk_accuracy(scores, once.truth, 5)
    near = max(1, min(wanted.k, len(once.few) // classes))
    if wanted.knn and len(once.few) > near:
        top1 = knn_accuracy(once.few, once.known, once.tested, once.truth, k=near)
        yield -knn_left_out(once.few, once.known, k=near), "knn", top1, None
    if wanted.svm:
        yield error, "svm", linear_svm(once.few, once.known, seed=seed).score(once.tested, once.truth), None


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


class _InTurn:
    # The batches of one loader after those of another.

    def __init__(self, loaders: Sequence[Loader]) -> None:
        self._loaders = loaders

    def __len__(self) -> int:
        return sum(map(len, self._loaders))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return chain.from_iterable(self._loaders)


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
