"""Compiled rules make the same update, in one graph each, and are not compiled again when batches change their size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import LAYERS, error, make
from nets import images, net
from tiny import NET, weights
from torch._dynamo.testing import CompileCounterWithBackend

import fasthebb
from fasthebb.bench.rules import every_rule
from fasthebb.cli import main

RULES = {**every_rule(), "Taught": fasthebb.Taught(fasthebb.HPCA(), 3)}
LABELLED = ("Prototypes", "Taught", "Modulated")
LOOPS = ("SOM", "Trace")  # of as many turns as there are units, or locations: a graph for each number


def signal(name: str, count: int) -> torch.Tensor | None:
    labels = torch.arange(count) % 3
    return None if name not in LABELLED else labels.double() if name == "Modulated" else labels


def learned(hebb: fasthebb.Hebbian, model: torch.nn.Module, counts: tuple[int, ...], name: str) -> list[torch.Tensor]:
    """The gradients of a step with micro-batches of some sizes."""
    for count in counts:
        hebb.signal = signal(name, count)
        with torch.no_grad():
            model(images(count, seed=count))
    hebb.write_grad()
    return [p.grad.clone() for p in hebb.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", sorted(RULES.keys() - LOOPS))
def test_every_rule_is_one_graph_for_all_batches(name: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    plain, fast = net().double(), net().double()
    hebb, compiled = (fasthebb.attach(model, {"*": RULES[name]}) for model in (plain, fast))
    compiled.compile(backend=counter, fullgraph=True)
    for counts in ((9,), (17, 6), (13,)):
        for a, b in zip(learned(compiled, fast, counts, name), learned(hebb, plain, counts, name), strict=True):
            assert error(a, b) <= 1e-12
        if counts == (9,):
            graphs = counter.frame_count
    assert 0 < counter.frame_count == graphs


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule", [fasthebb.SoftWTA(), fasthebb.HPCA(), fasthebb.SoftHebb()], ids=lambda r: type(r).__name__
)
def test_kernels_that_the_compiler_makes(rule: fasthebb.Rule) -> None:
    for case in LAYERS:
        if case.name in ("linear", "conv2d-stride", "conv2d-groups"):
            torch._dynamo.reset()
            results = []
            for compiled in (False, True):
                layer, x = make(case)
                hebb = fasthebb.attach(layer, rule)
                if compiled:
                    hebb.compile()
                layer(x)
                hebb.write_grad()
                results.append(layer.weight.grad)
            assert error(*results) <= 1e-10


@pytest.mark.slow
def test_the_command_compiles(tmp_path: Path) -> None:
    run = ("pretrain", *NET, "--data", "digits", "--rule", "SoftWTA", "--max-steps", "5")
    assert main([*run, "--out", str(tmp_path / "plain")]) == 0
    assert main([*run, "--compile", "--out", str(tmp_path / "compiled")]) == 0
    got, want = weights(tmp_path / "compiled"), weights(tmp_path / "plain")
    assert all(error(got[name].double(), value.double()) < 1e-4 for name, value in want.items() if value.any())
