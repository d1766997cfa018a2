"""The sections of a report that show the nets themselves: confusion, nearest images, filters, units and training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthebb.evaluation.results import count
from fasthebb.study import insides
from fasthebb.study.page import blocks, escape, figure, folded, gallery, note, prose, table
from fasthebb.study.pictures import NUMBERED, filter_grid, heat_map, thumbnail

PAIRS = 10


class Strip(NamedTuple):
    """Images and those nearest to them by their features: for each of Q queries its K neighbours, nearest first."""

    queries: NDArray[np.uint8]  # [Q, C, H, W]; C is 1 or 3
    neighbours: NDArray[np.uint8]  # [Q, K, C, H, W]
    query_labels: NDArray[np.integer[Any]]  # [Q]
    neighbour_labels: NDArray[np.integer[Any]]  # [Q, K]


def confusion(matrices: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> str:
    """By method, which classes [C, C] were taken for which, rows true; without names the classes are numbered.

    Raises `ValueError` if a matrix is not square, or not of as many classes as there are names.
    """
    pictures, large = [], False
    for method, counts in matrices.items():
        counts = np.asarray(counts)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or (classes and len(classes) != len(counts)):
            named = f"for {len(classes)} classes" if classes else "for any number of classes"
            raise ValueError(f"the confusion matrix of {method} is {list(counts.shape)}: give [C, C] {named}")
        names = _names(classes, len(counts))
        pairs = _confused(counts)
        large |= len(counts) > NUMBERED
        words = _in_words(counts, names, pairs)
        picture = heat_map(counts, names, f"Confusion matrix of {method}, rows true, columns predicted: {words}")
        most = _pairs(method, counts, names, pairs[:PAIRS]) if len(counts) > NUMBERED else ""
        box = f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(method)}">{picture}</div>'
        pictures.append(figure(box + most, method, words))
    reading = "Rows: the true class; columns: the predicted one. Shades are square roots of a row's shares."
    kind = "wide" if any(NUMBERED // 2 < len(counts) <= NUMBERED for counts in matrices.values()) else ""
    return blocks(note(reading) if pictures else "", gallery(pictures, kind=kind))


def strips(nearest: Mapping[str, Strip], classes: Sequence[str]) -> str:
    """By method, each query and its nearest images, framed by whether they are of its class."""
    found = [figure("\n".join(_rows(strip, classes)), method, _hits(strip)) for method, strip in nearest.items()]
    words = (
        "A test image and those nearest to it by their features. Solid blue frame: of the same class; dashed orange: of"
        " another."
    )
    return blocks(note(words) if found else "", gallery(found))


def filters(weights: Mapping[str, NDArray[Any]]) -> str:
    """First layers side by side; what is no image filter is named with its shape."""
    pictures, refused = [], []
    for name, layer in weights.items():
        try:
            source = filter_grid(layer)
        except ValueError as problem:
            refused.append(note(f"{name}: {problem}."))
            continue
        number, channels, height, width = np.shape(layer)
        size = f"{number} filters of {height} × {width}, {'colour' if channels == 3 else 'grey'}"
        image = f'<img src="{source}" alt="{escape(f"First-layer filters of {name}: {size}")}">'
        pictures.append(figure(image, name, size))
    words = note("Each filter is stretched to its own full range.") if pictures else ""
    return blocks(words, gallery(pictures, kind="filters"), *refused)


def usage(shares: Mapping[str, NDArray[Any]], methods: Sequence[str], *, drawn: bool) -> str:
    """Winner entropy and unused units: runs down, layers across; each unit's use behind a line that opens it."""
    runs = insides.by_run(shares)
    layers = list(dict.fromkeys(layer for run in runs.values() for layer in run))
    if not layers:
        return ""
    lines = [
        [prose(run or "every run"), *(_use(of[layer]) if layer in of else "–" for layer in layers)]
        for run, of in runs.items()
    ]
    ranks = insides.unit_usage(shares) if drawn else {}
    return blocks(
        figure(insides.entropy_by_layer(shares, methods), "Winner entropy", "by layer") if drawn else "",
        table("Unit usage and winner entropy", ["", *map(escape, layers)], lines),
        note(
            "Entropy of the units' shares of wins over that of equal shares: 100 % when all are used alike. Below it,"
            " how many units were never used."
        ),
        folded(
            "Every unit by rank",
            gallery([figure(svg, name or "Every layer", "use by rank") for name, svg in ranks.items()]),
        ),
    )


def units(states: Mapping[str, NDArray[Any]]) -> str:
    """What became of the units, by "run/layer" as kept with the pictures: a table of layers for every run."""
    runs: dict[str, list[list[str]]] = {}
    for key, (number, dead, twins, rank, most, sparsity, likeness) in states.items():
        run, _, layer = key.rpartition("/")
        cells = [count(int(number)), count(int(dead)), count(int(twins))]
        cells += [f"{rank:.0f} of {count(int(most))}", f"{sparsity:.2f}"]
        runs.setdefault(run, []).append([escape(layer), *cells, "–" if math.isnan(likeness) else f"{likeness:.2f}"])
    head = ["layer", "units", "dead", "twins", "effective rank", "sparsity", "CKA"]
    words = (
        "Dead: no image activates the unit, whether it ever wins or not. Twin: |cos| ≥ 0.95 to an earlier unit."
        " Effective rank and sparsity are of the activity after a ReLU; CKA: likeness to the same layer of the net"
        " trained from scratch on the most labels, from 0 to 1, where there are images enough for the number of units."
    )
    tables = [figure(table(f"Units of {run}", head, lines), run, "layer by layer") for run, lines in runs.items()]
    return blocks(gallery(tables, kind="wide"), note(words) if runs else "")


def curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], methods: Sequence[str]) -> str:
    """A figure for each metric of training."""
    pictures = insides.training_curves(runs, methods)
    return gallery([figure(svg, name.replace("_", " ")) for name, svg in pictures.items()])


def _use(share: NDArray[Any]) -> str:
    entropy = insides.winner_entropy(share)
    words = "–" if math.isnan(entropy) else f"{entropy:.0f} %"
    return f"{words}<small>{np.count_nonzero(share == 0)}&nbsp;of&nbsp;{share.size}&nbsp;unused</small>"


def _confused(counts: NDArray[Any]) -> list[tuple[int, int]]:
    """Pairs (true, predicted) of mistakes that were made, the most frequent first."""
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
    return [(int(place) // len(counts), int(place) % len(counts)) for place in order[:PAIRS]]


def _in_words(counts: NDArray[Any], names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> str:
    words = f"{100 * np.trace(counts) / max(counts.sum(), 1):.1f} % right of {count(int(counts.sum()))}"
    if not pairs:
        return f"{words}, no mistake."
    true, taken = pairs[0]
    return f"{words}; most often {names[true]} taken for {names[taken]}, {count(int(counts[true, taken]))} times."


def _pairs(method: str, counts: NDArray[Any], names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> str:
    lines = [
        [prose(names[true]), escape(names[taken]), count(int(counts[true, taken])), f"{100 * share:.1f} %"]
        for true, taken in pairs
        for share in [counts[true, taken] / counts[true].sum()]
    ]
    return table(f"Most confused classes of {method}", ["true", "predicted", "images", "of the true class"], lines)


def _rows(strip: Strip, classes: Sequence[str]) -> list[str]:
    names = _names(classes, 1 + int(max(strip.query_labels.max(initial=0), strip.neighbour_labels.max(initial=0))))
    columns = strip.neighbour_labels.shape[1]
    style = f"--columns:{columns};--few:{columns if columns < 6 else -(-columns // 2)}"
    rows = []
    for query, images, label, labels in zip(*strip):
        near = [
            f'<img class="{"right" if other == label else "wrong"}" src="{thumbnail(image)}" '
            f'alt="{escape(names[other])}{"" if other == label else ", another class"}" title="{escape(names[other])}">'
            for image, other in zip(images, labels)
        ]
        rows.append(
            f'<div class="strip"><div><img src="{thumbnail(query)}" alt="{escape(f"Query: {names[label]}")}">'
            f'<small>{escape(names[label])}</small></div><div class="near" style="{style}">{"".join(near)}</div></div>'
        )
    return rows


def _hits(strip: Strip) -> str:
    hits = strip.neighbour_labels == strip.query_labels[:, None]
    return f"{np.count_nonzero(hits)} of {hits.size} of the query's class"


def _names(classes: Sequence[str], number: int) -> Sequence[str]:
    return classes or [str(place) for place in range(number)]
