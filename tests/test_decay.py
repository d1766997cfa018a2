"""Every form of a decay is the same operator, in the cheapest of its exact forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fasthebb import decay
from fasthebb.decay import Diagonal, Gram, LowerGram

SHAPES = [(2, 1, 3, 1), (2, 2, 5, 4), (1, 1, 200, 3), (3, 2, 130, 1), (0, 1, 4, 2), (0, 1, 70, 1)]


def case(shape: tuple[int, ...], fan_in: int = 37) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    a, b = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    return a, b, torch.randn(shape[1], shape[2], fan_in, dtype=torch.float64)


def dense(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("ngil,ngjl->gij", a, b)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fan_in", [1, 37, 700])
def test_forms_agree(shape: tuple[int, ...], fan_in: int) -> None:
    a, b, w = case(shape, fan_in)
    for kind, matrix in ((Gram, dense(a, b)), (LowerGram, dense(a, b).tril())):
        for operator in (kind(a, b), kind(a, b).summed()):
            torch.testing.assert_close(operator @ w, matrix @ w, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", [Gram, LowerGram])
@pytest.mark.parametrize("shape", [(3, 1, 130, 1), (2, 1, 5, 3), (4, 1, 64, 1), (0, 1, 40, 1)])
def test_merged_with_the_correlation(kind: type[Gram] | type[LowerGram], shape: tuple[int, ...]) -> None:
    a, b, w = case(shape)
    x = torch.randn(1, shape[0] * shape[3], w.shape[2], dtype=torch.float64)
    rows = a.permute(1, 0, 3, 2).reshape(1, -1, shape[2])
    matrix = dense(a, b).tril() if kind is LowerGram else dense(a, b)
    want = rows.mT @ x - matrix @ w
    out = torch.full_like(w, torch.nan)  # poisoned: beta 0 must not read it
    kind(a, b).correlate(out, x, w, 0.0)
    torch.testing.assert_close(out, want, rtol=1e-11, atol=1e-11)
    kind(a, b).correlate(out, x, w, 1.0)
    torch.testing.assert_close(out, 2 * want, rtol=1e-11, atol=1e-11)


def bfloat16(t: Tensor) -> Tensor:
    return t.bfloat16()


def off(got: Tensor, want: Tensor) -> float:
    """Relative error of a result in float32."""
    assert got.dtype == torch.float32
    return float((got - want).norm() / want.norm()) if want.norm() else float(got.norm())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fan_in", [1, 700])
def test_factors_in_bfloat16(shape: tuple[int, ...], fan_in: int) -> None:
    a, b, w = (bfloat16(t).double() for t in case(shape, fan_in))
    for kind, matrix in ((Gram, dense(a, b)), (LowerGram, dense(a, b).tril())):
        wide = kind(a.float(), b.float())
        for operator in (wide, wide.summed(), wide + Diagonal(torch.zeros(shape[1:3]))):
            assert off(operator.rounded(bfloat16) @ w.float(), matrix @ w) <= 2**-7
        assert off(wide.rounded(bfloat16).summed() @ w.float(), matrix @ w) <= 2**-7  # as of a part of a batch


@pytest.mark.parametrize("kind", [Gram, LowerGram])
@pytest.mark.parametrize("format", [torch.float32, torch.bfloat16])  # of the input: an image, or a layer's output
def test_merged_in_bfloat16(kind: type[Gram] | type[LowerGram], format: torch.dtype) -> None:
    a, b, w = (bfloat16(t).double() for t in case((3, 1, 300, 1)))
    x = bfloat16(torch.randn(1, 3, w.shape[2])).double()
    want = a.squeeze(-1).permute(1, 2, 0) @ x - (dense(a, b).tril() if kind is LowerGram else dense(a, b)) @ w
    out = torch.full_like(w, torch.nan, dtype=torch.float32)
    for beta, times in ((0.0, 1), (1.0, 2)):
        kind(a.float(), b.float()).rounded(bfloat16).correlate(out, x.to(format), w.float(), beta)
        assert off(out, times * want) <= 2**-7


def test_sums() -> None:
    a, b, w = case((2, 2, 5, 4))
    d = torch.randn(2, 5, dtype=torch.float64)
    both = LowerGram(a, b) + Diagonal(d) + LowerGram(b, a) + Diagonal(d) + Gram(a, a) + Gram(b, b)
    want = (dense(a, b).tril() + dense(b, a).tril() + dense(a, a) + dense(b, b)) @ w + 2 * d[..., None] * w
    torch.testing.assert_close(both @ w, want, rtol=1e-11, atol=1e-11)
    merged = both.summed()
    assert isinstance(merged, decay.Sum)
    assert len(merged.parts) == 3
    torch.testing.assert_close(merged @ w, want, rtol=1e-11, atol=1e-11)


def test_the_cheaper_form_is_chosen() -> None:
    few = torch.empty(64, 1, 4096, 1, device="meta")
    many = torch.empty(64, 1, 96, 784, device="meta")
    for kind in (Gram, LowerGram):
        assert kind(few, few).factored(2304, 64)
        assert not kind(many, many).factored(75, 64 * 784)
        assert not kind(few, few).factored(2304, 8192)
