"""Two ranks with half the batch each are one process with the whole batch, for every rule, also through batch norms."""

from __future__ import annotations

from collections import OrderedDict
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from cases import RULES, SIGNALS, error
from nets import Centred, images, net
from pool import Ranks
from torch import Tensor, nn

import fasthebb
from fasthebb.distributed import rank, world_size
from fasthebb.models import VariancePreservingBatchNorm1d
from fasthebb.training.sync_norms import synchronised

STEPS, BATCH, LR = 50, 64, 1e-3
EMPTY, UNEVEN = 7, 11  # steps in which rank 1 has no image, and one image alone


def share(step: int, batch: Tensor) -> Tensor:
    """This rank's part of a step's batch; the whole batch for a process alone."""
    first = {EMPTY: BATCH, UNEVEN: BATCH - 1}.get(step, BATCH // 2)
    bounds = (0, BATCH) if world_size() == 1 else ((0, first), (first, BATCH))[rank()]
    return batch[slice(*bounds)]


def wide(normed: bool) -> nn.Sequential:
    """A net whose Linear layer is wide enough for the causal form of decays; with batch norms, one keeps variances."""
    model = net()
    parts = {"conv": model.conv, "act": model.act, "flat": model.flat, "fc": nn.Linear(96, 160)}
    if normed:
        norms = {"bn1": nn.BatchNorm2d(6, momentum=None), "bn2": VariancePreservingBatchNorm1d(160)}
        parts = {"conv": model.conv, "act": model.act, "bn1": norms["bn1"], "flat": model.flat, "fc": parts["fc"]}
        parts |= {"bn2": norms["bn2"], "fc2": nn.Linear(160, 5, bias=False)}
    return nn.Sequential(OrderedDict(parts)).double()


def train(
    rule: fasthebb.Rule, steps: int = STEPS, signal: Tensor | None = None, normed: bool = False,
    dtype: torch.dtype = torch.float64, parts: int = 1,
) -> list[Tensor]:  # fmt: skip
    """Weights, memory and statistics after some steps of so many forwards, and how many reductions a step took."""
    model = wide(normed).to(dtype)
    model.fc.bias.requires_grad_(False)
    hebb = fasthebb.attach(model, rule)
    optimizer = torch.optim.SGD(hebb.parameters(), lr=LR)
    with mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce) as reductions, synchronised(model):
        for step in range(steps):
            x = share(step, images(BATCH, seed=step)).to(dtype)
            told = [None] * parts if signal is None else share(step, signal).chunk(parts)
            for piece, hebb.signal in zip(x.chunk(parts), told, strict=True):
                with torch.no_grad():
                    model(piece)
            hebb.write_grad()
            optimizer.step()
    memory = hebb.state_dict()["layers"]["fc"]
    weights = [model.get_submodule(name).weight.detach() for name in hebb.layers]
    return [*weights, *memory.values(), *model.buffers(), torch.tensor(reductions.call_count / steps)]


EVERY = [
    *(pytest.param(case.rule, None, id=case.name) for case in RULES),
    *(pytest.param(case.rule, case.signal(BATCH), id=case.name) for case in SIGNALS),
    pytest.param(Centred(), None, id="memory"),
]
SMOOTH = [
    pytest.param(case.rule, case.name, id=case.name)
    for case in RULES
    if isinstance(case.rule, fasthebb.HPCA | fasthebb.Oja | fasthebb.Subspace | fasthebb.SoftWTA | fasthebb.SoftHebb)
]


def errors(got: list[Tensor], want: list[Tensor]) -> list[float]:
    """Relative errors of what should be equal, each."""
    return [error(a.double(), b.double()) for a, b in zip(got, want, strict=True)]


@pytest.mark.parametrize(("rule", "signal"), EVERY)
def test_two_ranks_are_one_process(rule: fasthebb.Rule, signal: Tensor | None, ranks: Ranks) -> None:
    start, *_ = train(rule, 1, signal)
    *want, none = train(rule, STEPS, signal)
    first, second = ranks(train, rule, STEPS, signal)
    *got, reductions = first
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert max(errors(got, want)) <= 1e-10
    assert max(errors(train(rule, STEPS, signal, parts=2)[:-1], want)) <= 1e-10  # nor do micro-batches differ
    assert error(want[0], start) > 1e-4  # it did learn
    assert (float(reductions), float(none)) == (1, 0)


@pytest.mark.parametrize(("rule", "signal"), EVERY)
def test_so_they_are_through_batch_norms_that_are_synchronised(
    rule: fasthebb.Rule, signal: Tensor | None, ranks: Ranks
) -> None:
    *want, _ = train(rule, STEPS, signal, True)
    first, second = ranks(train, rule, STEPS, signal, True)
    *got, reductions = first
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert max(errors(got, want)) <= 1e-10
    assert float(reductions) == 3  # one more for each batch norm


@pytest.mark.parametrize(("rule", "name"), SMOOTH)
@pytest.mark.parametrize("normed", [False, True])
def test_so_they_are_in_single_precision(rule: fasthebb.Rule, name: str, normed: bool, ranks: Ranks) -> None:
    *want, _ = train(rule, STEPS, None, normed, torch.float32)
    (*got, _), _ = ranks(train, rule, STEPS, None, normed, torch.float32)
    assert max(errors(got, want)) <= 1e-4


def fail(where: int | None, weights: bool) -> tuple[str, bool, bool]:
    """What a step says when one rank (None: all) has a NaN; are its gradients 0, and those of the next step finite?"""
    model = net()
    hebb = fasthebb.attach(model, fasthebb.HPCA())
    x = images(seed=rank())
    bad = where is None or where == rank()
    if weights and bad:
        model.fc.weight.data[0, 0] = torch.nan
    try:
        model(x.masked_fill(x > 0, torch.nan) if bad and not weights else x)
        hebb.write_grad()
    except FloatingPointError as problem:
        message = str(problem)
    zero = not any(p.grad.any() for p in model.parameters())
    model.fc.weight.data.nan_to_num_()
    model(x)
    hebb.write_grad()
    return message, zero, all(bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize(
    ("where", "weights", "message"),
    [
        (0, False, "The update is not finite on rank 0, in layer 'conv': its input holds NaN or Inf, "),
        (1, False, "The update is not finite on rank 1, in layer 'conv': its input holds NaN or Inf, "),
        (None, False, "The update is not finite in layer 'conv': its input holds NaN or Inf, "),
        (None, True, "The update is not finite in layer 'fc': its weights are not finite: "),
    ],
)
def test_every_rank_raises_and_names_the_one_at_fault(
    where: int | None, weights: bool, message: str, ranks: Ranks
) -> None:
    for said, zero, finite_after in ranks(fail, where, weights):
        assert said.startswith(message)
        assert zero
        assert finite_after


def differ() -> str:
    """What a rank says that took part in no forward, when the other did."""
    hebb = fasthebb.attach(net(), fasthebb.Oja())
    try:
        hebb.write_grad()
    except ValueError as problem:
        return str(problem)
    return "nothing"


def test_no_forward_is_told_before_any_reduction(ranks: Ranks) -> None:
    assert all("without a forward" in said for said in ranks(differ))
