"""A net cut at a layer keeps what is before it, and learns to classify from there."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fasthebb.models import build, trainable_layers
from fasthebb.models.cut import HEAD, Cut


def base(model: str = "sixlayer") -> nn.Module:
    torch.manual_seed(0)
    return build(model, classes=10, width=0.05, image_size=32)


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("model", "layer"), [("sixlayer", "conv3"), ("sixlayer", "fc6"), ("vgg11", "features.conv4")])
def test_what_is_before_the_layer_is_as_it_was(model: str, layer: str) -> None:
    whole = base(model).eval()
    entered: list[torch.Tensor] = []
    hook = whole.get_submodule(layer).register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    whole(images())
    hook.remove()
    cut = Cut(copy.deepcopy(whole), layer, 7, images(2)).eval()
    wanted = entered[0].flatten(1) @ cut.head.weight.T + cut.head.bias
    torch.testing.assert_close(cut(images()), wanted)
    assert cut(images()).shape == (4, 7)


def test_only_what_is_before_the_layer_stays() -> None:
    cut = Cut(base(), "conv3", 10, images(2))
    assert trainable_layers(cut) == ("body.conv1", "body.conv2", HEAD)
    assert {name.split(".")[1] for name in cut.state_dict() if name.startswith("body")} == {
        "conv1", "conv2", "bn1", "bn2",
    }  # fmt: skip


def test_all_of_it_learns() -> None:
    cut = Cut(base(), "conv3", 10, images(2))
    cross_entropy(cut(images()), torch.tensor([0, 1, 2, 3])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in cut.named_parameters() if "weight" in n)


def test_it_is_saved_and_built_again() -> None:
    cut = Cut(base(), "conv4", 10, images(2)).eval()
    file = io.BytesIO()
    torch.save(cut.state_dict(), file)
    file.seek(0)
    torch.manual_seed(5)
    again = Cut(build("sixlayer", classes=10, width=0.05), "conv4", 10, images(2)).eval()
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(cut(images()), again(images()))


@pytest.mark.parametrize("through", [False, True])
def test_a_copy_is_another_net(through: bool) -> None:
    cut = Cut(base(), "conv3", 10, images(2)).eval()
    if through:
        cut.run_through()
    x, y = images(4), images(6)
    want = cut(x), cut(y)
    other = copy.deepcopy(cut)
    assert torch.equal(other(y), want[1])
    assert torch.equal(cut(x), want[0])


def test_no_such_layer() -> None:
    with pytest.raises(ValueError, match="cut 'conv9': the net has no such layer"):
        Cut(base(), "conv9", 10, images(2))


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Flatten(), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.used(x)
        return y


def test_a_layer_that_is_never_called() -> None:
    with pytest.raises(ValueError, match="cut 'idle': the net's forward does not call that layer"):
        Cut(Idle(), "idle", 10, images(2))
