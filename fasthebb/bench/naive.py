"""The scheme before FastHebb: one update per sample and unit, for groups of 8 units, averaged afterwards.

For each group the terms r·w, their running sum x̄ over units, x − x̄ and its product with r are tensors [N, 8, K].
Source: the baseline of Lagani, Gennaro, Fassold, Amato 2022 (arXiv 2207.03172).

Shapes: x [B, Cin, H, W] or [B, K], w [C, Cin, k, k] or [C, K], patches X [N, K] with N = batch times locations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fasthebb.bench.published import Update, call_of, soft_winners, unfolded
from fasthebb.bench.timing import timed

UNITS = 8
REPEATS = 3
LIMIT_BYTES = 2_000_000_000
_TENSORS = 4  # as large as [N, 8, K], alive together


class LayerTime(NamedTuple):
    """Seconds of a whole layer, estimated from one group of 8 units; `images` is how many of the batch were used."""

    seconds: float
    images: int


def hpca(x: Tensor, w: Tensor, stride: tuple[int, int] = (1, 1)) -> Tensor:
    """ΔW = mean over n of y_i (x − Σ_{j ≤ i} y_j w_j), y = ReLU(W x); shaped like `w`."""
    patches, rows = unfolded(x, w, stride), w.flatten(1)
    y = torch.relu(patches @ rows.T)
    delta = torch.empty_like(rows)
    before: Tensor | None = None  # what the units of earlier groups reconstruct, [N, 1, K]
    for start in range(0, len(rows), UNITS):
        group = slice(start, start + UNITS)
        delta[group], before = _hpca_group(patches, y[:, group, None], rows[group], before)
    return delta.view_as(w)


def swta(x: Tensor, w: Tensor, stride: tuple[int, int] = (1, 1), temperature: float = 0.02) -> Tensor:
    """ΔW_i = Σ_n r · r(x_n − w_i) / Σ_n r, r the soft winners; shaped like `w`."""
    patches, rows = unfolded(x, w, stride), w.flatten(1)
    r = soft_winners(patches, rows, temperature)
    delta = torch.empty_like(rows)
    for start in range(0, len(rows), UNITS):
        group = slice(start, start + UNITS)
        delta[group] = _swta_group(patches, r[:, group, None], rows[group])
    return delta.view_as(w)


UPDATES: Mapping[str, Update] = {"hpca": hpca, "swta": swta}


def _hpca_group(patches: Tensor, y: Tensor, rows: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
    """ΔW of a group, [8, K], and the reconstruction up to its last unit, [N, 1, K]."""
    reconstruction = (y * rows).cumsum(1)
    if before is not None:
        reconstruction += before
    last = reconstruction[:, -1:].clone()
    return ((patches[:, None] - reconstruction) * y).mean(0), last


def _swta_group(patches: Tensor, r: Tensor, rows: Tensor) -> Tensor:
    """ΔW of a group, [8, K]."""
    total = r.sum(0)
    weight = r / total.where(total > 0, 1)
    return ((patches[:, None] - rows) * r * weight).sum(0)


def layer_time(rule: str, x: Tensor, w: Tensor, stride: tuple[int, int] = (1, 1)) -> LayerTime:
    """Time one group of a layer (the best of three), times its number of groups, C/8; no padding.

    Where the group's tensors would pass 2 GB, only the first image is used and the time scaled by the batch.
    """
    images = len(x)
    patches_bytes = unfolded(x[:1], w, stride).numel() * w.element_size()
    used = images if _TENSORS * UNITS * patches_bytes * images <= LIMIT_BYTES else 1
    patches, rows = unfolded(x[:used], w, stride), w.flatten(1)
    response = (patches @ rows[:UNITS].T)[:, :, None]
    before = torch.zeros_like(patches)[:, None]

    def group() -> None:
        if rule == "hpca":
            _hpca_group(patches, response, rows[:UNITS], before)
        else:
            _swta_group(patches, response, rows[:UNITS])

    group()
    seconds = min(timed(group) for _ in range(REPEATS))
    return LayerTime(seconds * len(rows) / UNITS * images / used, used)


def step_times(rule: str, calls: Mapping[str, tuple[nn.Module, Tensor]]) -> dict[str, LayerTime]:
    """`layer_time` of every layer and what it sees, by name."""
    with torch.no_grad():
        return {name: layer_time(rule, *call_of(layer, x)) for name, (layer, x) in calls.items()}
