"""Nets by name: those of the package and the user's own, with errors that say what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fasthebb.models import NETS, VGG, SixLayer, build, head_name

MINE = """
import torch.nn as nn

def net(classes, width=1.0):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, int(8 * width)), nn.Linear(int(8 * width), classes))

def everything(**wishes):
    module = nn.Identity()
    module.wishes = wishes
    return module

def demanding(classes, depth):
    return nn.Identity()

def number(classes):
    return 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory holding modules that only it has."""
    (tmp_path / "its_own_net.py").write_text(MINE)
    (tmp_path / "its_broken_net.py").write_text("import no_such_thing\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_names_of_the_package() -> None:
    assert isinstance(build("sixlayer", classes=4, width=0.05), SixLayer)
    net = build("vgg13", classes=4, channels=1, image_size=32, width=0.05, forward="tanh", twin="backprop")
    assert isinstance(net, VGG)
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize("name", NETS)
def test_every_net_takes_grey_images(name: str) -> None:
    side = 162 if name == "tenlayer" else 32
    net = build(name, classes=4, channels=1, image_size=side, width=0.02)
    assert net(torch.randn(2, 1, side, side)).shape == (2, 4)


@pytest.mark.usefixtures("here")
def test_module_and_function() -> None:
    net = build("its_own_net:net", classes=5, image_size=4, width=0.5)
    assert net(torch.randn(2, 3, 4, 4)).shape == (2, 5)
    assert build("its_own_net:everything", classes=5).wishes == {
        "classes": 5,
        "channels": 3,
        "image_size": 32,
        "width": 1.0,
        "forward": "relu",
        "twin": "hebbian",
    }


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sixlayers", "model 'sixlayers' is unknown: did you mean 'sixlayer'"),
        ("resnet", "model 'resnet' is unknown: choose from sixlayer"),
        ("no_such_net:net", "importing 'no_such_net' failed with ModuleNotFoundError"),
        ("its_broken_net:net", "importing 'its_broken_net' failed with .*no_such_thing"),
        (":net", "importing '' failed"),
        ("its_own_net:nett", "function 'nett' is unknown: did you mean 'net'"),
        ("its_own_net:", "function '' is unknown"),
        ("its_own_net:demanding", "requires 'depth'"),
        ("its_own_net:number", "returned int"),
    ],
)
def test_errors_are_one_line_that_repeats_the_name(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        build(name, classes=2)
    assert "\n" not in str(caught.value)
    assert name.split(":")[0] in str(caught.value)


def test_head_name() -> None:
    assert head_name(build("sixlayer", classes=4, width=0.05)) == "fc6"
    assert head_name(build("vgg11", classes=4, width=0.05)) == "fc10"
    with pytest.raises(ValueError, match="has no Linear layer"):
        head_name(nn.Conv2d(1, 1, 1))
