"""Two ranks with half the batch each are one process with the whole batch, for every rule."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from cases import RULES, SIGNALS, error
from nets import Centred, images, net
from torch import Tensor, nn

import fasthebb
from fasthebb.distributed import rank, world_size

STEPS, BATCH, LR = 20, 6, 1e-3
EMPTY, UNEVEN = 7, 11  # steps in which rank 1 has no image, and one image of six

Ranks = Callable[..., list[Any]]


def serve(number: int, rendezvous: str, pipe: Connection) -> None:
    """One rank: run what comes through the pipe and send back its result, or its exception."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=rendezvous, rank=number, world_size=2)
    while task := pipe.recv():
        function, args = task
        try:
            pipe.send(function(*args))
        except Exception as problem:
            pipe.send(problem)
    dist.destroy_process_group()


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Runs a function of this file on two gloo ranks, and returns what each returned or raised."""
    rendezvous = (tmp_path_factory.mktemp("gloo") / "rendezvous").as_uri()
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for number in range(2):
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(number, rendezvous, theirs), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)

    def run(function: Callable[..., Any], *args: Any) -> list[Any]:
        for pipe in pipes:
            pipe.send((function, args))
        assert all(pipe.poll(60) for pipe in pipes), "a rank hangs"
        return [pipe.recv() for pipe in pipes]

    yield run
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join(10)
        process.kill()


def share(step: int, batch: Tensor) -> Tensor:
    """This rank's part of a step's batch; the whole batch for a process alone."""
    first = {EMPTY: BATCH, UNEVEN: BATCH - 1}.get(step, BATCH // 2)
    bounds = (0, BATCH) if world_size() == 1 else ((0, first), (first, BATCH))[rank()]
    return batch[slice(*bounds)]


def wide() -> nn.Sequential:
    """A net whose Linear layer is wide enough for the causal form of decays."""
    model = net()
    model.fc = nn.Linear(96, 160).double()
    return model


def train(rule: fasthebb.Rule, steps: int = STEPS, signal: Tensor | None = None) -> list[Tensor]:
    """Weights and memory after some steps, and how many reductions a step took."""
    model = wide()
    model.fc.bias.requires_grad_(False)
    hebb = fasthebb.attach(model, rule)
    optimizer = torch.optim.SGD(hebb.parameters(), lr=LR)
    with mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce) as reductions:
        for step in range(steps):
            hebb.signal = None if signal is None else share(step, signal)
            with torch.no_grad():
                model(share(step, images(BATCH, seed=step)))
            hebb.write_grad()
            optimizer.step()
    memory = hebb.state_dict()["layers"]["fc"]
    reduced = torch.tensor(reductions.call_count / steps)
    return [model.conv.weight.detach(), model.fc.weight.detach(), *memory.values(), reduced]


@pytest.mark.parametrize(
    ("rule", "signal"),
    [
        *(pytest.param(case.rule, None, id=case.name) for case in RULES),
        *(pytest.param(case.rule, case.signal(BATCH), id=case.name) for case in SIGNALS),
        pytest.param(Centred(), None, id="memory"),
    ],
)
def test_two_ranks_are_one_process(rule: fasthebb.Rule, signal: Tensor | None, ranks: Ranks) -> None:
    start, *_ = train(rule, 1, signal)
    *want, none = train(rule, STEPS, signal)
    first, second = ranks(train, rule, STEPS, signal)
    *got, reductions = first
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert [error(a, b) <= 1e-10 for a, b in zip(got, want, strict=True)] == [True] * len(want)
    assert error(want[0], start) > 1e-4  # it did learn
    assert (float(reductions), float(none)) == (1, 0)


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
