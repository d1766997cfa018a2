"""attach and detach: what the handle promises of a whole model."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from nets import RULES, grads, images, net, same, written
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import fasthebb


def test_the_twelve_lines_train() -> None:
    model, data = net().float(), images(32).float()
    patches, fc = F.unfold(data, 3).mT.flatten(0, 1), model.fc.weight.clone()

    def unexplained() -> float:
        w = model.conv.weight.detach().flatten(1)
        return float((patches - torch.relu(patches @ w.T) @ w).norm() / patches.norm())

    assert unexplained() > 0.9
    hebb = fasthebb.attach(model, {"fc": None, "*": fasthebb.HPCA()})
    opt = torch.optim.SGD(hebb.parameters(), lr=1e-2)
    for _ in range(10):
        for x in data.split(8):
            with torch.no_grad():
                model(x)
            hebb.write_grad()
            opt.step()
    hebb.detach()
    assert unexplained() < 0.7
    assert torch.equal(model.fc.weight, fc)
    assert model.fc.weight.grad is None


def test_hooks_listen_in_train_mode_only() -> None:
    model, x = net(), images()
    want = grads(model, x)
    hebb = fasthebb.attach(model, RULES)
    model.eval()
    model(images(seed=2))
    with pytest.raises(ValueError, match=r"without a forward in training mode .* call model.train\(\)"):
        hebb.write_grad()
    model.train()
    model(x)
    model.eval()
    model(images(seed=3))
    hebb.write_grad()
    assert same(written(model), want)
    with pytest.raises(ValueError, match="since the last one"):
        hebb.write_grad()
    assert hebb.steps == 1


def test_a_layer_in_eval_mode_is_named() -> None:
    model = net()
    hebb = fasthebb.attach(model, RULES)
    model.fc.eval()
    model(images())
    with pytest.raises(ValueError, match=r"^fc took no part in the forward .*eval mode"):
        hebb.write_grad()


@pytest.mark.filterwarnings("ignore:No rule trains a bias")
def test_a_bypassed_layer_is_named() -> None:
    model, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 5, 8)
    hebb = fasthebb.attach(model, fasthebb.Oja())
    model(x)
    with pytest.raises(ValueError, match=r"^self_attn.out_proj took no part .* map it to None"):
        hebb.write_grad()
    hebb.detach()
    hebb = fasthebb.attach(model, {"self_attn.out_proj": None, "*": fasthebb.Oja()})
    model(x)
    hebb.write_grad()
    assert hebb.layers == ("linear1", "linear2")


class Backwards(nn.Module):
    """Calls its layers in the other order than it defines them, the last one only where asked."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.second, self.first, self.maybe = (nn.Linear(5, 5, bias=False).double() for _ in range(3))

    def forward(self, x: Tensor, more: bool = False) -> Tensor:
        x = self.second(self.first(input=x))
        return self.maybe(x) if more else x


def test_layers_are_in_the_order_of_their_first_call() -> None:
    model, x = Backwards(), torch.randn(3, 5).double()
    hebb = fasthebb.attach(model, fasthebb.Oja())
    assert hebb.layers == ("second", "first", "maybe")
    model(x)
    with pytest.raises(ValueError, match=r"^maybe took no part"):
        hebb.write_grad()
    model(x, more=True)
    hebb.write_grad()
    assert hebb.layers == ("first", "second", "maybe")
    assert [row.name for row in hebb.summary().rows] == ["first", "second", "maybe"]


def test_detach_restores() -> None:
    model, x = net(), images()
    modules, keys, want = list(model.modules()), list(model.state_dict()), model(x)
    contents = [dict(vars(module)) for module in modules]
    hebb = fasthebb.attach(model, RULES)
    assert list(model.state_dict()) == keys
    assert torch.equal(model(x), want)
    hebb.write_grad()
    model(x)
    hebb.detach()
    model.zero_grad()
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
    assert [dict(vars(module)) for module in modules] == contents
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    assert not any(module._forward_hooks_with_kwargs for module in modules)
    assert list(model.state_dict()) == keys
    assert torch.equal(model(x), want)
    with pytest.raises(ValueError, match="handle is detached"):
        hebb.write_grad()
    assert all(p.grad is None for p in model.parameters())


def test_attaching_twice_is_refused_until_detached() -> None:
    model = net()
    first = fasthebb.attach(model, {"fc": fasthebb.Oja(), "*": None})
    with pytest.raises(ValueError, match=r"'fc' is attached already; call detach\(\)"):
        fasthebb.attach(model, RULES)
    assert not model.conv._forward_hooks  # nothing is left of the refused attempt
    other = fasthebb.attach(model, {"conv": fasthebb.Oja(), "*": None})  # another part of the model is free
    first.detach()
    other.detach()
    again = fasthebb.attach(model, RULES)
    first.detach()  # twice does no harm, nor does it free what another handle holds
    with pytest.raises(ValueError, match="attached already"):
        fasthebb.attach(model, RULES)
    again.detach()


def test_a_copy_of_an_attached_model_is_plain() -> None:
    model, x = net(), images()
    want = grads(copy.deepcopy(model), x)
    hebb = fasthebb.attach(model, RULES)
    twin = copy.deepcopy(model)
    twin(images(seed=2))  # does not add to the original's sums
    model(x)
    hebb.write_grad()
    assert all(p.grad is None for p in twin.parameters())
    assert same(written(model), want)
    assert same(grads(twin, x), want)  # and can be attached itself


def test_a_pickled_model_is_plain_and_a_handle_is_not_copied() -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False))
    hebb = fasthebb.attach(model, fasthebb.HPCA())
    again = pickle.loads(pickle.dumps(model)).train()
    again(torch.randn(2, 4))
    with pytest.raises(ValueError, match="without a forward"):
        hebb.write_grad()
    torch.testing.assert_close(again[0].weight, model[0].weight)
    other = fasthebb.attach(again, fasthebb.HPCA())  # it is attached to nothing
    again(torch.randn(2, 4))
    other.write_grad()
    for copies in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="copy or pickle the model alone, attach"):
            copies((model, hebb))  # type: ignore[operator]


def test_what_a_failed_forward_said_does_not_count() -> None:
    model, x = net(), images()
    want = grads(model, x)
    hebb = fasthebb.attach(model, RULES)
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 3, 7, 7).double())  # conv hears it, fc cannot take it
    hebb.discard()
    model(x)
    hebb.write_grad()
    assert same(written(model), want)


def test_a_rule_that_refuses_a_forward_leaves_nothing_of_it() -> None:
    model, x, labels = net(), images(), torch.tensor([0, 3, 1, 2])
    hebb = fasthebb.attach(model, {"conv": fasthebb.Oja(), "fc": fasthebb.Prototypes()})
    hebb.signal = labels
    assert torch.equal(hebb.signal, labels)
    model(x)
    hebb.write_grad()
    want = written(model)
    hebb.signal = None
    with pytest.raises(ValueError, match="signal"):
        model(x)
    hebb.signal = labels.tolist()  # whatever torch takes for a tensor
    model(x)
    hebb.write_grad()
    assert same(written(model), want)


def test_weights_by_name() -> None:
    model = net()
    hebb = fasthebb.attach(model, RULES)
    assert [name for name, _ in hebb.named_parameters()] == ["conv.weight", "fc.weight"]
    assert all(weight is model.get_parameter(name) for name, weight in hebb.named_parameters())
    alone = fasthebb.attach(nn.Linear(3, 2, bias=False), fasthebb.Oja())
    assert [name for name, _ in alone.named_parameters()] == ["weight"]


def test_a_trace_with_fake_tensors_is_not_heard() -> None:
    model, x = net(), images()
    want = grads(model, x)
    hebb = fasthebb.attach(model, RULES)
    torch.export.export(model, (x,))
    model(x)
    hebb.write_grad()
    assert same(written(model), want)


@pytest.mark.parametrize("change", [lambda m: prune.l1_unstructured(m, "weight", 0.5), parametrizations.weight_norm])
def test_a_weight_that_is_computed_by_now_is_refused(change: Callable[[nn.Module], object]) -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False))
    hebb = fasthebb.attach(model, fasthebb.Oja())
    change(model[0])
    model(torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"^The weight of '0' became computed from other tensors"):
        hebb.write_grad()
