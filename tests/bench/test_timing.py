"""The stop-watch, the memory meter and the whole benchmark, in small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fasthebb.bench.memory import peak_in_subprocess, step_of
from fasthebb.bench.run import run
from fasthebb.bench.steps import all_steps
from fasthebb.bench.timing import interleaved
from fasthebb.environment import hardware


class Formats(TorchDispatchMode):
    """The number formats of convolutions and their weight gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.convolution, torch.ops.aten.convolution_backward):
            self.seen.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


def test_rounds_run_every_step_in_turn() -> None:
    calls: list[str] = []
    steps = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = interleaved(steps, rounds=3, warmup=1)
    assert calls == list("abababab")
    assert {name: len(laps) for name, laps in seconds.items()} == {"a": 3, "b": 3}
    assert all(lap >= 0 for laps in seconds.values() for lap in laps)
    with pytest.raises(ValueError, match="rounds 0"):
        interleaved(steps, rounds=0)


def test_hardware_header_is_json() -> None:
    header = hardware()
    assert json.loads(json.dumps(header)) == header
    assert header["threads"] == torch.get_num_threads()
    assert header["cpu"]


def test_all_steps_run_and_train() -> None:
    steps = all_steps(batch_size=4, width=0.05)
    assert {name.partition("/")[0] for name in steps} == {
        "floor", "sgd", "vae", "hpca", "swta", "published_hpca", "published_swta",
    }  # fmt: skip
    for step in steps.values():
        step()


def test_all_steps_in_bfloat16() -> None:
    steps = all_steps(batch_size=4, width=0.05, precision="bf16")
    assert {name.partition("/")[0] for name in steps} == {"floor", "sgd", "vae", "hpca", "swta"}
    for name, step in steps.items():
        with Formats() as formats:
            step()
        assert torch.bfloat16 in formats.seen, name  # norms of patches are in float32


def test_run_reports_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(rounds=1, out=tmp_path / "bench.json", batch_size=4, width=0.05)
    assert json.loads((tmp_path / "bench.json").read_text()) == report
    six = report["nets"]["sixlayer"]
    steps = six["steps"]
    assert min(steps[f"sgd/{format}"]["to_sgd"] for format in ("contiguous", "channels_last")) == 1
    assert min(steps[f"floor/{format}"]["to_floor"] for format in ("contiguous", "channels_last")) == 1
    assert set(six["naive"]) == {"hpca", "swta"}
    assert set(six["naive"]["hpca"]["layers"]) == {"conv1", "conv2", "conv3", "conv4", "fc5"}
    printed = capsys.readouterr().out
    assert "published_hpca" in printed
    assert "Hardware" in printed


def test_run_refuses_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="device 'nowhere' cannot be used"):
        run(device="nowhere")


def test_peak_memory_of_one_step() -> None:
    sgd, hpca = (
        peak_in_subprocess("vgg11.features", method, batch_size=4, image_size=96) for method in ("sgd", "hpca")
    )
    if sgd.method == "VmHWM":  # the first map alone takes 9.4 MB
        assert 9.4e6 < hpca.bytes < 0.8 * sgd.bytes
    with pytest.raises(RuntimeError, match=r"measuring vgg11.features adam failed.*'adam' is unknown"):
        peak_in_subprocess("vgg11.features", "adam")


def test_a_step_refuses_unknown_methods() -> None:
    with pytest.raises(ValueError, match="method 'hpac' is unknown: did you mean 'hpca'"):
        step_of("vgg11", "hpac", batch_size=1, image_size=32)
