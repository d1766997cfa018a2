"""The kernel says what the torch lines say: in Triton's interpreter, and on a GPU where there is one."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import error
from torch import Tensor, nn

import fasthebb
from fasthebb import kernels, ops
from fasthebb.response import Dot, RaisedCosine
from fasthebb.update import said

SHAPES = [(3, 5, 7), (2, 96, 9), (4, 130, 1), (1, 2, 40), (5, 300, 3)]  # N, C, L


class Norms:
    """Patches of which only the norms are asked; one is zero."""

    def __init__(self, n: int, locations: int) -> None:
        self._norm = torch.rand(n, 1, 1, locations, generator=torch.Generator().manual_seed(1)) + 0.5
        self._norm[0, 0, 0, 0] = 0

    def norm(self) -> Tensor:
        return self._norm

    def project(self, w: Tensor) -> Tensor:
        raise NotImplementedError


def check(device: str) -> None:
    """Every shape, both averages."""
    for n, units, locations in SHAPES:
        generator = torch.Generator().manual_seed(0)
        dot = torch.randn(n, 1, locations, units, generator=generator).mT
        w, patches = torch.randn(1, units, 4, generator=generator), Norms(n, locations)
        dot = torch.where(patches.norm() == 0, 0, dot.abs().clamp(max=0.4) * dot.sign())
        dot = dot.mT.contiguous().mT
        for average in ("weighted", "plain"):
            rule = fasthebb.SoftWTA(0.02, average=average)
            want = said(rule, dot.double(), w.double(), Doubled(patches), {}, None)
            unit = ops.reciprocal(w[0].norm(dim=-1)).to(device)
            patch = ops.reciprocal(patches.norm()).to(device)
            post, norm, decay = kernels.soft_shares(dot.to(device), unit, patch, 0.02, squared=average == "weighted")
            assert post.stride() == dot.stride()
            assert norm.shape == decay.shape == (1, units)
            assert error(post.cpu().double(), want.post) <= 1e-5
            assert error(norm.cpu().double(), want.norm) <= 1e-5
            assert error(decay.cpu().double(), want.decay.d) <= 1e-5


class Doubled(Norms):
    def __init__(self, norms: Norms) -> None:
        self._norm = norms.norm().double()


def test_in_the_interpreter() -> None:
    """In a process of its own: whether kernels are interpreted is decided where they are made."""
    pytest.importorskip("triton")
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    code = "import test_kernels; test_kernels.check('cpu'); print('equal')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "equal\n", done.stderr


def test_it_compiles_for_a_gpu_that_is_not_here() -> None:
    triton = pytest.importorskip("triton")
    target = pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    kernel = importlib.import_module("fasthebb.kernels.soft").shares
    types = dict.fromkeys(("y", "unit", "patch", "post", "sums"), "*fp32")
    types |= dict.fromkeys(("rows", "units", "norms"), "i32") | dict.fromkeys(("inverse", "least"), "fp32")
    for squared, width in ((True, 128), (False, 4096)):
        fixed = {"squared": squared, "turns": 2, "tile": kernels.TILE // width, "width": width}
        source = triton.compiler.ASTSource(kernel, types | dict.fromkeys(fixed, "constexpr"), fixed)
        assert "shares" in triton.compile(source, target=target).asm["ptx"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu() -> None:
    check("cuda")


def test_where_triton_fails_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **more: object) -> None:
        raise RuntimeError("Failed to find C compiler.")

    pytest.importorskip("triton")
    monkeypatch.setattr(kernels, "soft_shares", fails)
    monkeypatch.setattr(kernels.torch, "zeros", lambda size, device: torch.ones(size))
    kernels.available.cache_clear()
    with pytest.warns(UserWarning, match=r"PyTorch's operators, since Triton fails here \(Failed to find C compiler"):
        assert not kernels.available()
    assert not kernels.available()  # said once
    kernels.available.cache_clear()


def test_it_is_for_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **more: object) -> None:
        raise AssertionError

    monkeypatch.setattr(kernels, "soft_shares", never)
    layer = nn.Linear(4, 6, bias=False)
    hebb = fasthebb.attach(layer, fasthebb.SoftWTA())
    layer(torch.randn(5, 4))
    hebb.write_grad()


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        (fasthebb.SoftWTA(), True),
        (fasthebb.SoftWTA(average="plain"), True),
        (fasthebb.SoftWTA(0.05, "power"), False),
        (fasthebb.SoftWTA(response=RaisedCosine(3.0)), False),
        (fasthebb.SoftWTA(response=Dot()), False),
        (fasthebb.HardWTA(), False),
    ],
)
def test_which_rules_it_is_for(rule: fasthebb.Rule, fits: bool) -> None:
    y = torch.randn(3, 1, 7, 5).mT  # [N, 1, 5, 7]
    assert kernels._fits(rule, y) == fits
    assert not kernels._fits(rule, y.double())
    assert not kernels._fits(rule, y.contiguous())
    assert not kernels._fits(rule, y.expand(3, 2, 5, 7))
    assert not kernels._fits(rule, y[:, :, :3])
