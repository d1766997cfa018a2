"""SoftHebb's net is its formula, and any rule trains it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fasthebb
from fasthebb.models import FORWARDS, TWINS, DeepHebb, Triangle, deephebb

POWERS = (0.7, 1.4, 1.0)
RULES = [fasthebb.HPCA(), fasthebb.SoftWTA(), fasthebb.KWTA(2), fasthebb.Oja(), fasthebb.Hebb()]


def triangle(u: Tensor, power: float) -> Tensor:
    """relu(u − mean over channels)^power, location by location."""
    result = torch.zeros_like(u)
    for n in range(len(u)):
        for i in range(u.shape[2]):
            for j in range(u.shape[3]):
                mean = sum(u[n, :, i, j]) / u.shape[1]
                for c in range(u.shape[1]):
                    result[n, c, i, j] = max(u[n, c, i, j] - mean, torch.zeros((), dtype=u.dtype)) ** power
    return result


def literal(net: DeepHebb, x: Tensor) -> Tensor:
    """BN, reflect pad, convolution, Triangle, pool, three times; then the head. In eval mode."""
    for index, power in enumerate(POWERS, start=1):
        norm, conv = net.get_submodule(f"bn{index}"), net.get_submodule(f"conv{index}")
        mean, var = (t.view(1, -1, 1, 1) for t in (norm.running_mean, norm.running_var))
        x = (x - mean) / (var + norm.eps).sqrt()
        x = F.conv2d(F.pad(x, (conv.kernel_size[0] // 2,) * 4, mode="reflect"), conv.weight)
        x = triangle(x, power)
        x = F.max_pool2d(x, 4, 2, 1) if index < 3 else F.avg_pool2d(x, 2)
    return net.get_submodule("fc4")(x.flatten(1))


def test_published_shapes() -> None:
    with torch.device("meta"):
        net = deephebb()
    assert {key: tuple(value.shape) for key, value in net.named_parameters()} == {
        "conv1.weight": (96, 3, 5, 5),
        "conv2.weight": (384, 96, 3, 3),
        "conv3.weight": (1536, 384, 3, 3),
        "fc4.weight": (10, 24576),
        "fc4.bias": (10,),
    }


def test_it_is_the_literal_net() -> None:
    torch.manual_seed(0)
    net = deephebb(4, image_size=9, width=0.05).double().eval()
    for norm in net:
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(x), literal(net, x), rtol=1e-9, atol=1e-12)


def test_initial_weights_have_the_published_deviation() -> None:
    torch.manual_seed(0)
    for layer in deephebb(width=0.5):
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.std().item() == pytest.approx(25 / layer.weight[0].numel() ** 0.5, rel=0.05)
            assert layer.weight.flatten(1).norm(dim=1).mean().item() == pytest.approx(25, rel=0.05)


def test_every_forward_and_twin_is_the_same_net() -> None:
    x = torch.randn(2, 3, 16, 16)
    outputs = []
    for forward in FORWARDS:
        for twin in TWINS:
            torch.manual_seed(0)
            outputs.append(deephebb(image_size=16, width=0.05, forward=forward, twin=twin).eval()(x))
    assert all(torch.equal(output, outputs[0]) for output in outputs)


@pytest.mark.parametrize("power", POWERS)
def test_the_triangle_has_finite_gradients(power: float) -> None:
    u = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 5.0]]).requires_grad_()
    Triangle(power)(u).sum().backward()
    assert u.grad is not None
    assert u.grad.isfinite().all()
    assert u.grad[0].abs().max() == 0
    assert u.grad[1].abs().max() > 0


@pytest.mark.parametrize("image_size", [8, 9, 28, 33])
def test_any_size_from_the_smallest(image_size: int) -> None:
    net = deephebb(7, channels=1, image_size=image_size, width=0.05)
    assert net(torch.randn(2, 1, image_size, image_size)).shape == (2, 7)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_any_rule_trains_it(rule: fasthebb.Rule) -> None:
    torch.manual_seed(0)
    net = deephebb(image_size=8, width=0.05)
    before = {name: value.clone() for name, value in net.named_parameters()}
    hebb = fasthebb.attach(net, {"fc4": None, "*": rule})
    with torch.no_grad():
        net(torch.randn(6, 3, 8, 8))
    hebb.write_grad()
    torch.optim.SGD(hebb.parameters(), lr=1e-3).step()
    changed = {name for name, value in net.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"conv1.weight", "conv2.weight", "conv3.weight"}
    assert all(value.isfinite().all() for value in net.parameters())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"image_size": 7}, "image_size 7 is too small for deephebb.*8 px"),
        ({"width": 0.0}, "width 0.0 is not positive"),
        ({"forward": "rleu"}, "'rleu' is unknown: did you mean 'relu'"),
        ({"twin": "hebian"}, "'hebian' is unknown: did you mean 'hebbian'"),
    ],
)
def test_wrong_arguments(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        deephebb(**wrong)
