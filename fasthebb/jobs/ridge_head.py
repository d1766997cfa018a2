"""A classifier in closed form: the ridge probe of frozen features, written into the head of the net.

    scores = ((P x − mean) / scale) Vᵀ + b        head: W = s · (V / scale) P,  bias = s · (b − (V / scale) mean)

x [F] is what enters the head, P the averaging of its maps to cells (the identity without), V and b the probe's, and s a
sharpness that leaves the order of the scores as it is: with it their softmax fits labels that the probe did not see.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fasthebb.data import Loader
from fasthebb.evaluation import Probe, extract, linear_probe
from fasthebb.jobs.net import Net, Spot, spot_of
from fasthebb.jobs.views import InTurn
from fasthebb.training.loop import History, Progress, Stateful, Watcher

FOLD = 5  # one label in so many judges the sharpness
SHARPNESS = torch.logspace(-1, 2, 121, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """How the classifier of a net is made.

    Args:
        classifier: sgd trains it, and the net, in steps; ridge sets it in closed form on frozen features.
        pool: of ridge, average maps to at most so many cells a side; by default as many as leave 4096 features.
        mirror: ridge also learns from mirrored images.
    """

    classifier: Literal["sgd", "ridge"] = "sgd"
    pool: int | None = None
    mirror: bool = False


def ridge_head(
    model: nn.Module, net: Net, views: Sequence[Loader], *, pool: int | None = None, watcher: Watcher | None = None
) -> History:
    """Set the head of a net by a ridge probe on the labelled images, of which each loader gives one view, in one order.

    Returns one record, of one step.

    Raises:
        ValueError: the head is no Linear with a bias, or no maps enter it that could be averaged.
    """
    watcher = watcher or Watcher()
    head, parts = _linear(model, net), dict[str, Stateful](model=model)
    progress = watcher.restore(parts)
    if not progress.step:
        began = time.perf_counter()
        spot = _spot(model, net, pool)
        features, labels = extract(model, spot.module, InTurn(views), pool=spot.pool)
        probe = linear_probe(features, labels, copies=len(views))
        write_head(head, probe, spot, sharpness(features, labels, len(views)))
        record = {"epoch": 1, "step": 1, "seconds": time.perf_counter() - began, "left_out": probe.left_out or 0.0}
        progress = Progress(step=1, seconds=record["seconds"], history=[record])
        watcher.epoch(record)
    watcher.finished(parts, progress)
    return progress.history


def write_head(head: nn.Linear, probe: Probe, spot: Spot, sharp: float = 1.0) -> None:
    """Let a head give a probe's scores, times `sharp`, of what enters it before its maps are averaged.

    A class without a label scores as one that no feature speaks for.
    """
    weight = probe.weight / probe.scale  # [classes, cells·C]
    bias = probe.bias - weight @ probe.mean
    if spot.pool is not None:
        channels, height, width = spot.shape
        cells = averaging(height, width, spot.pool).to(weight)  # [cells, height·width]
        weight = (weight.view(-1, channels, len(cells)) @ cells).flatten(1)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(-sharp)
        head.weight[: len(weight)] = sharp * weight
        head.bias[: len(bias)] = sharp * bias


def averaging(height: int, width: int, pool: int) -> Tensor:
    """The averaging of maps to at most pool x pool cells as a matrix [cells, height·width]."""
    each = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)  # maps of a single one
    return F.adaptive_avg_pool2d(each, (min(pool, height), min(pool, width))).flatten(1).T


def sharpness(features: Tensor, labels: Tensor, copies: int = 1) -> float:
    """The factor of a probe's scores at which their softmax fits labels best that it did not see, a fifth of them.

    features [copies·M, F], labels [copies·M]. 1 where there are too few. n labels are fitted as if one of n + 2 were
    wrong, so that none of few being wrong does not make every answer certain. Sources: Guo, Pleiss, Sun, Weinberger
    2017, "On calibration of modern neural networks" (temperature scaling); Platt 1999, "Probabilistic outputs for
    support vector machines" (n + 2).
    """
    order = torch.randperm(len(labels) // copies, generator=torch.Generator().manual_seed(0))
    held = order.to(labels.device) % FOLD == 0
    rest = (~held).repeat(copies)
    if int(rest.sum()) < 2:
        return 1.0
    scores = linear_probe(features[rest], labels[rest], copies=copies).scores(features[: len(held)][held])
    truth = labels[: len(held)][held]
    known = truth < scores.shape[1]  # classes that only the held labels have
    if not known.any():
        return 1.0
    scores, truth = scores[known], truth[known]
    classes = scores.shape[1]
    doubt = min(1.0, classes / max(1, classes - 1) / (len(truth) + 2))  # as label_smoothing counts it
    losses = torch.stack(
        [F.cross_entropy(sharp * scores, truth, label_smoothing=doubt) for sharp in SHARPNESS.to(scores.device)]
    )
    return float(SHARPNESS[int(losses.argmin())])


def _linear(model: nn.Module, net: Net) -> nn.Linear:
    head = model.get_submodule(net.head)
    if not isinstance(head, nn.Linear) or head.bias is None:
        raise ValueError(f"--classifier ridge: the head {net.head!r} is no Linear with a bias; use sgd")
    return head


def _spot(model: nn.Module, net: Net, pool: int | None) -> Spot:
    device = next(model.parameters()).device
    x = torch.zeros(2, len(net.mean), net.image_size, net.image_size, device=device)
    spot = spot_of(model, net.head, x, pool)
    if pool is not None and spot.pool is None:
        raise ValueError(f"--pool {pool}: no maps enter the head {net.head!r} of {net.model}; leave it out")
    return spot
