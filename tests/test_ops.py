"""Sums over samples and locations, against einsum, in every order that memory can have."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from cases import error
from torch import Tensor

from fasthebb.ops import FEW, MANY, add_product, columns, gram, lower_gram, rows


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
@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2**-8)])
def test_gram(a: str, b: str, dtype: torch.dtype, least: float) -> None:
    torch.manual_seed(0)
    for n, groups, i, j, locations in product((0, 1, 2, 3), (1, 2), (1, 3, 16), (1, 3, 16), (0, 1, 4, 49)):
        first, second = in_order(a, n, groups, i, locations).to(dtype), in_order(b, n, groups, j, locations).to(dtype)
        want = torch.einsum("ngil,ngjl->gij", first.double(), second.double())
        got = gram(first, second)
        assert got.dtype == dtype
        assert error(got.double(), want) <= least, (n, groups, i, j, locations)


@pytest.mark.parametrize("a", ORDERS)
@pytest.mark.parametrize("b", ORDERS)
@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2**-8)])
def test_lower_gram(a: str, b: str, dtype: torch.dtype, least: float) -> None:
    torch.manual_seed(0)
    for n, groups, units, locations in product((0, 1, 3), (1, 2), (1, 5, MANY, MANY + 3), (0, 1, 9)):
        first, second = (in_order(order, n, groups, units, locations).to(dtype) for order in (a, b))
        got = lower_gram(first, second)
        want = torch.einsum("ngil,ngjl->gij", first.double(), second.double()).tril()
        assert got.dtype == dtype
        assert error(got.double(), want) <= least, (n, groups, units, locations)
        assert not got.triu(1).any()


@pytest.mark.parametrize("order", ORDERS)
def test_rows_and_columns(order: str) -> None:
    t = in_order(order, 2, 3, 4, 5)
    assert torch.equal(rows(t), torch.einsum("ngcl->nlgc", t).reshape(10, 3, 4).permute(1, 0, 2))
    assert torch.equal(columns(t), rows(t).mT)
    assert columns(t).is_contiguous()


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("alpha", [1.0, -1.0])
@pytest.mark.parametrize("inner", [3, FEW, FEW + 1])
def test_products_of_narrow_factors(narrow: torch.dtype, beta: float, alpha: float, inner: int) -> None:
    """Of few rows they are exact; a product that is itself narrow is rounded once."""
    torch.manual_seed(0)
    a, b = torch.randn(2, 4, inner).to(narrow), torch.randn(2, inner, 5).to(narrow)
    out = torch.full((2, 4, 5), torch.nan) if beta == 0 else torch.randn(2, 4, 5)
    want = alpha * (a.double() @ b.double()) + (beta * out.double() if beta else 0)
    add_product(out, a, b, beta=beta, alpha=alpha)
    assert error(out.double(), want) <= (1e-6 if narrow == torch.float32 or inner <= FEW else 2**-8)
