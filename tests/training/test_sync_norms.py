"""Batch norm of two ranks is that of one process with all images: values, statistics, and what flows back."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from cases import error
from pool import Ranks
from torch import Tensor, nn

from fasthebb.distributed import rank, world_size
from fasthebb.models import VariancePreservingBatchNorm1d, VariancePreservingBatchNorm2d
from fasthebb.training.sync_norms import synchronised

SPLITS = {"even": (3, 3), "uneven": (5, 1), "empty": (6, 0)}
NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "1d": (lambda: nn.BatchNorm1d(4), (6, 4)),
    "1d-sequence": (lambda: nn.BatchNorm1d(4), (6, 4, 5)),
    "2d": (lambda: nn.BatchNorm2d(4), (6, 4, 3, 2)),
    "3d-plain": (lambda: nn.BatchNorm3d(4, affine=False), (6, 4, 2, 3, 2)),
    "cumulative": (lambda: nn.BatchNorm2d(4, momentum=None), (6, 4, 3, 2)),
    "without-statistics": (lambda: nn.BatchNorm2d(4, track_running_stats=False), (6, 4, 3, 2)),
    "preserving-1d": (lambda: VariancePreservingBatchNorm1d(4), (6, 4)),
    "preserving-2d": (lambda: VariancePreservingBatchNorm2d(4), (6, 4, 3, 2)),
}


def run(name: str, split: str, grad: bool) -> dict[str, Tensor]:
    """Outputs of three batches, statistics after them and gradients, of this rank's images or, alone, of all."""
    torch.manual_seed(0)
    make, shape = NORMS[name]
    norm = make().double().train()
    if norm.affine:
        norm.weight.data, norm.bias.data = torch.rand(2, 4, dtype=torch.float64)
    x = torch.randn(3, *shape, dtype=torch.float64) * 2 + 1
    aim = torch.randn(shape, dtype=torch.float64)
    first = SPLITS[split][0]
    own = slice(None) if world_size() == 1 else (slice(first), slice(first, None))[rank()]
    found: dict[str, Tensor] = {}
    with synchronised(norm), torch.set_grad_enabled(grad):
        for number, batch in enumerate(x):
            mine = batch[own].clone().requires_grad_(grad)
            out = norm(mine)
            found[f"out{number}"] = out.detach()
            if grad:
                (out * aim[own]).sum().backward()
                found[f"grad{number}"] = mine.grad
    return found | {name: value for name, value in norm.state_dict().items() if name.startswith("running")}


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", NORMS)
def test_two_ranks_normalise_as_one(name: str, split: str, grad: bool, ranks: Ranks) -> None:
    want = run(name, split, grad)
    first, second = ranks(run, name, split, grad)
    for key, value in want.items():
        if key.startswith("running"):
            assert error(first[key], value) <= 1e-12, key
            assert torch.equal(first[key], second[key])
        else:
            assert error(torch.cat([first[key], second[key]]), value) <= 1e-12, key


def kinds() -> list[str]:
    """What the norm of a net is before, in and after the block, and whether its copy is plain."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    names, keys = [type(model[1]).__name__], list(model.state_dict())
    with synchronised(model):
        names.append(type(model[1]).__name__)
        assert isinstance(model[1], nn.BatchNorm1d)
        assert list(model.state_dict()) == keys
        evaluated = copy.deepcopy(model).eval()(torch.ones(1, 2))  # no other rank is asked in eval mode
        assert evaluated.shape == (1, 2)
    with synchronised(model, on=False):
        names.append(type(model[1]).__name__)
    return [*names, type(model[1]).__name__]


def test_the_norm_is_plain_again(ranks: Ranks) -> None:
    assert kinds() == ["BatchNorm1d"] * 4
    assert ranks(kinds) == [["BatchNorm1d", "SynchronisedBatchNorm1d", "BatchNorm1d", "BatchNorm1d"]] * 2
