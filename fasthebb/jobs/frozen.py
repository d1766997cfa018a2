"""What frozen features are worth: read-outs trained on a label budget, and retrieval, at every depth of a net."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fasthebb.console import Console
from fasthebb.data import Dataset
from fasthebb.evaluation import knn_accuracy, knn_left_out, linear_probe
from fasthebb.evaluation.features import extract
from fasthebb.evaluation.results import Record
from fasthebb.evaluation.retrieval import precision_at_k, retrieval_map
from fasthebb.evaluation.svm import linear_svm
from fasthebb.jobs.net import Net, depths, pool_of
from fasthebb.jobs.results import record
from fasthebb.jobs.setup import labelled
from fasthebb.models import trainable_layers

QUERIES = 1000  # test images that ask for those like them among the other test images, at most half of all
BITS = 256
CHOSEN = ("probe", "knn", "svm")  # read-outs whose depth a budget's own labels choose


@dataclass(frozen=True)
class ReadOuts:
    """Which read-outs of frozen features are measured, and how.

    probe_method: ridge or sgd. k: neighbours that vote, as far as there are as many labels of a class, and images
    retrieved for precision.
    """

    probe: bool = False
    knn: bool = False
    svm: bool = False
    retrieval: bool = False
    probe_method: str = "ridge"
    k: int = 10

    def __bool__(self) -> bool:
        return self.probe or self.knn or self.svm or self.retrieval


ReadOut = tuple[float, str, float, float | None]  # leave-one-out error, name, top-1 and top-5 accuracy


@dataclass(frozen=True)
class Features:
    """Features [M, F] and labels [M] of labelled training images, and of test images."""

    few: Tensor
    known: Tensor
    tested: Tensor
    truth: Tensor


def frozen(
    net: Net,
    model: nn.Module,
    dataset: Dataset,
    budgets: Mapping[int, Tensor],
    seed: int,
    device: torch.device,
    console: Console,
    wanted: ReadOuts,
    *,
    batch_size: int,
) -> list[Record]:
    """Read-outs of the frozen features of every depth, for every label budget, and retrieval.

    A record without a depth is of the depth that a budget's own labels choose: of least leave-one-out error, for the
    support vector machine that of the ridge probe. Labels are read at the budgets' images only. Retrieval reads no
    label of a training image: test images ask for those of their class among the other test images, its records are
    of 0 labels.
    """
    most = max(budgets.values(), key=len)
    place = {int(index): row for row, index in enumerate(most)}
    rows = {count: torch.tensor([place[int(i)] for i in indices]) for count, indices in budgets.items()}
    train = net.loader(dataset.train, batch_size, device, indices=most, shuffle=False)
    test = net.loader(dataset.test, batch_size, device, shuffle=False)
    x = next(iter(test))[0][:2]
    hidden = [name for name in trainable_layers(model) if name != net.head]
    found: list[tuple[float, Record]] = []  # with their leave-one-out error
    for depth, layer in console.progress(list(depths(model, hidden, net.head, x).items()), "depths"):
        pool = pool_of(model, layer, x)
        features, labels = extract(model, layer, train, pool=pool)
        tested, truth = extract(model, layer, test, pool=pool)
        for count, chosen in rows.items():
            at = Features(features[chosen.to(features.device)], labels[chosen.to(labels.device)], tested, truth)
            for error, method, top1, top5 in read_out(at, len(net.classes), wanted, seed):
                found.append((error, record(net, method, count, labelled(dataset), seed, depth, top1, top5)))
        if wanted.retrieval:
            found += [
                (0.0, record(net, method, 0, labelled(dataset), seed, depth, value, None))
                for method, value in retrieval(tested, truth, seed, wanted.k)
            ]
    return [r for _, r in found] + _chosen(found)


def read_out(at: Features, classes: int, wanted: ReadOuts, seed: int) -> Iterator[ReadOut]:
    """Each read-out that is wanted, trained on few labels and tested."""
    if wanted.probe or wanted.svm:
        ridge = linear_probe(at.few, at.known)
        error = ridge.left_out or 0.0
    if wanted.probe:
        sgd = wanted.probe_method != "ridge"
        fitted = linear_probe(at.few, at.known, method=wanted.probe_method, seed=seed) if sgd else ridge
        yield error, "probe", fitted.score(at.tested, at.truth), fitted.score(at.tested, at.truth, 5)
    near = max(1, min(wanted.k, len(at.few) // classes))
    if wanted.knn and len(at.few) > near:
        top1 = knn_accuracy(at.few, at.known, at.tested, at.truth, k=near)
        yield -knn_left_out(at.few, at.known, k=near), "knn", top1, None
    if wanted.svm:
        yield error, "svm", linear_svm(at.few, at.known, seed=seed).score(at.tested, at.truth), None


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


def _chosen(found: list[tuple[float, Record]]) -> list[Record]:
    # Of every read-out and budget the record of least leave-one-out error, as one of no depth.
    best: dict[tuple[str, int], tuple[float, Record]] = {}
    for error, r in found:
        at = r.method, r.labels
        if r.method in CHOSEN and (at not in best or error < best[at][0]):
            best[at] = error, r
    return [replace(r, depth=None) for _, r in best.values()]
