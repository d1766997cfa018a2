"""What is measured of other nets than the six-layer one: their steps, their memory, how time grows, an epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fasthebb.bench import epoch, memory, published, run, steps, work
from fasthebb.cli import main
from fasthebb.decay import LowerGram

SMALL = ("--rounds", "1", "--out")


def measured(out: Path, *words: str) -> dict[str, Any]:
    """The figures of a benchmark, which has written its page too."""
    assert main(["bench", *words, str(out)]) == 0
    assert out.with_suffix(".md").read_text().startswith("# ")
    return json.loads(out.read_text())  # type: ignore[no-any-return]


def test_steps_of_two_nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SIZES", {"vgg11": run.Size(2, 32), "tenlayer": run.Size(2, 170)})
    out = tmp_path / "nets.json"
    found = measured(out, "--nets", "vgg11,tenlayer", "--width", "0.05", *SMALL)["nets"]
    assert list(found) == ["vgg11", "tenlayer"]
    for net, figures in found.items():
        kinds = {key.partition("/")[0] for key in figures["steps"]}
        assert kinds == {"floor", "sgd", "hpca", "swta", "published_hpca", "published_swta"}
        rate = 2 / min(figures["steps"][f"hpca/{format}"]["seconds"] for format in steps.FORMATS)
        assert figures["imagenet"]["hpca"]["images_per_second"] == pytest.approx(rate)
        assert figures["imagenet"]["hpca"]["hours"] == pytest.approx(20 * 1_281_167 / rate / 3600)
        assert "whole_step_seconds" not in figures["naive"]["hpca"]
        assert f"One step of {net} (batch 2" in out.with_suffix(".md").read_text()


@pytest.mark.parametrize("rule", ["hpca", "swta"])
@pytest.mark.parametrize("padding", [0, (1, 2)])
def test_published_updates_of_padded_and_strided_convolutions(rule: str, padding: Any) -> None:
    """As ours, by hooks on the layer."""
    layer = nn.Conv2d(2, 5, 3, stride=(2, 1), padding=padding, bias=False).double()
    twin = nn.Conv2d(2, 5, 3, stride=(2, 1), padding=padding, bias=False).double()
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(3, 2, 7, 6, dtype=torch.float64)
    step = steps.attached(nn.Sequential(layer), x, {"*": steps.RULES[rule]})
    step()
    published.listening({"": twin}, published.UPDATES[rule])
    twin(x)
    assert twin.weight.grad is not None
    assert layer.weight.grad is not None
    torch.testing.assert_close(twin.weight.grad, layer.weight.grad, rtol=1e-9, atol=1e-12)


def test_schemes_that_unfold_refuse_groups() -> None:
    with pytest.raises(ValueError, match="only plain convolutions"):
        published.call_of(nn.Conv2d(4, 4, 3, groups=2), torch.zeros(1, 4, 5, 5))


def test_memory_against_depth(tmp_path: Path) -> None:
    words = ("--nets", "blocks4,blocks20,vgg11.features", "--batch-size", "4")
    report = measured(tmp_path / "memory.json", "memory", *words, "--out")
    found: Mapping[str, Any] = report["nets"]
    assert set(found) == {"blocks4", "blocks20", "vgg11.features"}
    if found["blocks4"]["sgd"]["method"] == "VmHWM":
        assert found["blocks20"]["sgd"]["bytes"] > 2.5 * found["blocks4"]["sgd"]["bytes"]
        for method in ("hpca", "swta"):
            assert found["blocks20"][method]["bytes"] < 1.2 * found["blocks4"][method]["bytes"]


def test_growth_against_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"images": (work.Layer(inputs=8, units=16, side=None), "batch", [1, 2, 32, 64])}
    monkeypatch.setattr(work, "AXES", {**axes, "side": (work.Layer(batch=1, inputs=3, units=4), "side", [4, 6, 8, 10])})
    found = measured(tmp_path / "work.json", "work", *SMALL)["axes"]
    assert set(found["images"]["form"]) == {"dense"}  # of 16 units
    assert set(found["side"]["steps"]) == {"floor", "hpca", "swta"}
    assert work.exponent([1, 2, 4, 8], [9.0, 9.0, 3.0, 24.0]) == pytest.approx(3)
    assert math.isfinite(found["images"]["steps"]["hpca"]["exponent"])


@pytest.mark.parametrize("layer", [work.CONV, work.LINEAR, work.Layer(batch=4, inputs=512, units=4096, side=None)])
def test_the_named_form_is_the_one_that_is_taken(layer: work.Layer) -> None:
    module, x = layer.build("cpu")
    a = module(x).detach().flatten(2).unsqueeze(1) if layer.side else module(x).detach()[:, None, :, None]
    rows = a.shape[0] * a.shape[3]
    assert (layer.form() == "causal") == LowerGram(a, a).factored(module.weight[0].numel(), rows)


def test_an_epoch_of_one_layer(tmp_path: Path) -> None:
    found = measured(tmp_path / "epoch.json", "epoch", "--data", "digits", *SMALL)
    assert set(found["rules"]) == {"hpca", "swta", "softhebb"}
    assert all(of["seconds"] == min(of["laps"]) > 0 for of in found["rules"].values())
    assert found["settings"]["kernel"] == epoch.KERNEL


def test_unknown_nets_are_told_before_anything_is_timed() -> None:
    with pytest.raises(ValueError, match="model 'vgg12' is unknown"):
        run.run(["sixlayer", "vgg12"])
    with pytest.raises(ValueError, match="model 'block' is unknown"):
        memory.run(["blocks4", "block"])
    with pytest.raises(ValueError, match="part of vgg11 'feature' is unknown: did you mean 'features'"):
        memory.run(["vgg11.feature"])
