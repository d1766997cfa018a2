"""Sums over samples and locations, against einsum, in every order that memory can have."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from cases import error
from torch import Tensor

from fasthebb.ops import columns, gram, rows


def in_order(order: str, *shape: int) -> Tensor:
    """Random [N, G, C, L] in float64: locations last in memory, units last, or units last with gaps between them."""
    n, groups, units, locations = shape
    if order == "locations":
        return torch.randn(shape, dtype=torch.float64)
    gaps = 2 if order == "gaps" else 1
    flat = torch.randn(n, locations, gaps * groups * units, dtype=torch.float64)[..., ::gaps]
    return flat.unflatten(2, (groups, units)).permute(0, 2, 3, 1)


ORDERS = ("locations", "units", "gaps")


@pytest.mark.parametrize("a", ORDERS)
@pytest.mark.parametrize("b", ORDERS)
@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_gram(a: str, b: str, dtype: torch.dtype, least: float) -> None:
    torch.manual_seed(0)
    for n, groups, i, j, locations in product((0, 1, 2, 3), (1, 2), (1, 3, 16), (1, 3, 16), (0, 1, 4, 49)):
        first, second = in_order(a, n, groups, i, locations), in_order(b, n, groups, j, locations)
        want = torch.einsum("ngil,ngjl->gij", first, second)
        got = gram(first.to(dtype), second.to(dtype))
        assert got.dtype == dtype
        assert error(got.double(), want) <= least, (n, groups, i, j, locations)


@pytest.mark.parametrize("order", ORDERS)
def test_rows_and_columns(order: str) -> None:
    t = in_order(order, 2, 3, 4, 5)
    assert torch.equal(rows(t), torch.einsum("ngcl->nlgc", t).reshape(10, 3, 4).permute(1, 0, 2))
    assert torch.equal(columns(t), rows(t).mT)
    assert columns(t).is_contiguous()
