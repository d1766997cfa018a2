"""torchvision's and timm's nets by name: what they are asked for, and errors that say what to do."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import fasthebb
from fasthebb.models import VGG, build, call_order, head_name, trainable_layers


class Library:
    """Stands for an installed library: knows two nets, and remembers what it was asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def list_models(self, module: object = None) -> list[str]:
        assert module is (self if self.name == "torchvision" else None)
        return ["resnet18", "vgg11", f"only_{self.name}"]

    def get_model(self, name: str, **more: Any) -> nn.Module:
        assert name in ("resnet18", f"only_{self.name}")
        self.asked.append((name, more))
        return nn.Identity()

    create_model = get_model


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> dict[str, Library]:
    """Both libraries, installed."""
    stand_ins = {name: Library(name) for name in ("torchvision", "timm")}
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=stand_ins["torchvision"]))
    monkeypatch.setitem(sys.modules, "timm", stand_ins["timm"])
    return stand_ins


@pytest.mark.parametrize(
    ("name", "library", "more"),
    [
        ("torchvision:resnet18", "torchvision", {"weights": None, "num_classes": 7}),
        ("timm:resnet18", "timm", {"pretrained": False, "num_classes": 7, "in_chans": 3}),
        ("resnet18", "torchvision", {"weights": None, "num_classes": 7}),
        ("only_timm", "timm", {"pretrained": False, "num_classes": 7, "in_chans": 3}),
    ],
)
def test_a_library_is_asked_for_an_untrained_net(
    libraries: dict[str, Library], name: str, library: str, more: dict[str, Any]
) -> None:
    build(name, classes=7, image_size=64, forward="tanh", twin="backprop")
    assert libraries[library].asked == [(name.split(":")[-1], more)]
    assert not [other for other in libraries.values() if other.asked and other.name != library]


def test_nets_of_this_package_come_first(libraries: dict[str, Library]) -> None:
    assert isinstance(build("vgg11", classes=2, width=0.05), VGG)
    assert not libraries["torchvision"].asked


def test_one_channel_is_for_timm(libraries: dict[str, Library]) -> None:
    build("timm:resnet18", classes=2, channels=1)
    assert libraries["timm"].asked[0][1]["in_chans"] == 1


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("name", "wishes", "words"),
    [
        ("torchvision:resnet18", {"channels": 1}, "'torchvision:resnet18' takes 3 channels, not 1: give colour images"),
        ("torchvision:resnet18", {"width": 0.5}, "width 0.5 does not apply to 'torchvision:resnet18'.*leave it at 1"),
        ("timm:resnet18", {"width": 2}, "width 2 does not apply to 'timm:resnet18'"),
        ("timm:resnt18", {}, "model 'timm:resnt18' is unknown to timm: did you mean resnet18"),
        ("timm:", {}, "model 'timm:' is unknown to timm: it has 3"),
        ("timm:hf-hub:somebody/net", {}, "model 'timm:hf-hub:somebody/net' is unknown to timm"),
        ("sixlayers", {}, "model 'sixlayers' is unknown: did you mean 'sixlayer'"),
        ("alexnet", {}, r"model 'alexnet' is unknown: choose from sixlayer, .*, torchvision:NAME, .*function$"),
    ],
)
def test_errors_are_one_line(name: str, wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        build(name, classes=2, **wishes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18", "resnet18"])
def test_a_missing_library_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torchvision", "timm"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"needs (torchvision|timm): pip install 'fasthebb\[vision\]'$") as caught:
        build(name, classes=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "resnet18"])
def test_a_library_that_does_not_load_is_named_with_the_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: str) -> ModuleType:
        raise RuntimeError("operator torchvision::nms\ndoes not exist")

    monkeypatch.setattr(importlib, "import_module", broken)
    words = "importing it failed with RuntimeError: operator torchvision::nms does not exist$"
    with pytest.raises(ValueError, match=words) as caught:
        build(name, classes=2)
    assert "resnet18" in str(caught.value) or name.startswith("torchvision:")


@pytest.mark.usefixtures("torchvision_loads")
@pytest.mark.parametrize("name", ["torchvision:resnet18", "resnet18", "timm:resnet18"])
def test_a_real_resnet(name: str) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    net = build(name, classes=3)
    assert head_name(net) == "fc"
    x = torch.randn(4, 3, 32, 32)
    order = call_order(net, trainable_layers(net), x)
    assert (len(order), order[0], order[-1]) == (21, "conv1", "fc")
    assert order.index("layer2.0.conv1") < order.index("layer2.0.downsample.0") < order.index("layer2.1.conv1")
    hebb = fasthebb.attach(net, {"fc": None, "*": fasthebb.SoftWTA()})
    with torch.no_grad():
        assert net(x).shape == (4, 3)
    hebb.write_grad()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in hebb.parameters())


@pytest.mark.usefixtures("torchvision_loads")
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_nets_of_several_outputs_have_one(name: str) -> None:
    net = build(f"torchvision:{name}", classes=3)
    assert net.train()(torch.randn(2, 3, 96, 96)).shape == (2, 3)


@pytest.mark.usefixtures("torchvision_loads")
def test_a_grey_net_of_timm() -> None:
    pytest.importorskip("timm")
    assert build("timm:resnet18", classes=3, channels=1)(torch.randn(2, 1, 32, 32)).shape == (2, 3)


@pytest.mark.usefixtures("torchvision_loads")
def test_a_real_librarys_errors_name_near_models() -> None:
    with pytest.raises(ValueError, match="unknown to torchvision: did you mean resnet18"):
        build("torchvision:resnt18", classes=3)
