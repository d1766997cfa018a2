"""Which layers a pattern means, and what attach says when it cannot be."""

from __future__ import annotations

import functools
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import fasthebb
from fasthebb import HPCA, Oja


def conv(*args: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(*args, bias=bias)


def tree() -> nn.Sequential:
    block = OrderedDict(conv=conv(4, 4, 3), bn=nn.BatchNorm2d(4))
    return nn.Sequential(
        OrderedDict(
            stem=conv(3, 4, 3),
            layer1=nn.Sequential(block),
            layer10=nn.Sequential(OrderedDict(up=nn.ConvTranspose2d(4, 4, 3, bias=False))),
            fc=nn.Linear(4, 2, bias=False),
        )
    )


NAMES = ["stem", "layer1.conv", "layer10.up", "fc"]


def chosen(rules: object, model: nn.Module | None = None) -> dict[str, str]:
    hebb = fasthebb.attach(model or tree(), rules)
    return {row.name: row.rule.split("(")[0] for row in hebb.summary().rows}


@pytest.mark.parametrize(
    ("rules", "want"),
    [
        (HPCA(), dict.fromkeys(NAMES, "HPCA")),
        ({"*": HPCA()}, dict.fromkeys(NAMES, "HPCA")),
        ({"fc": HPCA()}, {"fc": "HPCA"}),
        ({"fc": None, "*": HPCA()}, dict.fromkeys(NAMES[:3], "HPCA")),
        ({"fc": None, "layer1.*": HPCA(), "*": Oja()}, {"stem": "Oja", "layer1.conv": "HPCA", "layer10.up": "Oja"}),
        ({"layer1*": HPCA(), "layer10.up": Oja()}, {"layer1.conv": "HPCA", "layer10.up": "HPCA"}),
        ({"*": HPCA(), "fc": None}, dict.fromkeys(NAMES, "HPCA")),
        ({"s?em": HPCA(), "layer[!1]*": Oja(), "l*.conv": Oja()}, None),
        ({"[sf]*": HPCA()}, {"stem": "HPCA", "fc": "HPCA"}),
    ],
)
def test_the_first_match_wins(rules: object, want: dict[str, str] | None) -> None:
    if want is None:
        with pytest.raises(ValueError, match=re.escape("'layer[!1]*' matches no layer")):
            chosen(rules)
    else:
        assert chosen(rules) == want


def test_a_layer_alone_and_one_registered_twice() -> None:
    assert chosen(Oja(), nn.Linear(3, 2, bias=False)) == {"": "Oja"}
    layer = nn.Linear(3, 3, bias=False)
    assert chosen(Oja(), nn.Sequential(layer, nn.ReLU(), layer)) == {"0": "Oja"}


class Odd(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Plain(nn.Linear):
    """A subclass that computes as its base does."""


class OddConv(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight - weight.mean(), bias)


class Doubled(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return 2 * w


def patched() -> nn.Linear:
    layer = nn.Linear(4, 4, bias=False)
    layer.forward = functools.partial(Odd.forward, Odd(4, 4))
    return layer


def linear(change: Callable[[nn.Linear], object]) -> nn.Linear:
    layer = nn.Linear(4, 4, bias=False)
    change(layer)
    return layer


COMPUTED = "its weight is computed from other tensors"


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated", "ignore:Lazy modules")
@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: linear(lambda m: parametrize.register_parametrization(m, "weight", Doubled())), COMPUTED),
        (lambda: linear(parametrizations.weight_norm), COMPUTED),
        (lambda: linear(nn.utils.weight_norm), COMPUTED),
        (lambda: linear(parametrizations.spectral_norm), COMPUTED),
        (lambda: linear(nn.utils.spectral_norm), COMPUTED),
        (lambda: linear(lambda m: prune.l1_unstructured(m, "weight", 2)), COMPUTED),
        (lambda: nn.LazyLinear(4), "it is lazy and not yet initialised; run one forward first"),
        (lambda: nn.LazyConv2d(4, 3), "it is lazy and not yet initialised; run one forward first"),
        (lambda: Odd(4, 4), "Odd replaces the forward of Linear"),
        (lambda: OddConv(4, 4, 3), "OddConv replaces the forward of Conv2d"),
        (patched, "Linear replaces the forward of Linear"),
    ],
)
def test_a_layer_that_cannot_learn_is_refused_unless_left_out(layer: Callable[[], nn.Module], reason: str) -> None:
    model = nn.Sequential(OrderedDict(stem=conv(3, 4, 3), bad=layer()))
    with pytest.raises(ValueError) as caught:
        fasthebb.attach(model, Oja())
    message = str(caught.value)
    assert message.startswith(f"'bad' cannot learn by a rule: {reason}")
    assert message.endswith("map it to None to leave it out")
    assert "\n" not in message
    assert not model.stem._forward_hooks
    assert chosen({"bad": None, "*": Oja()}, model) == {"stem": "Oja"}


@pytest.mark.filterwarnings("ignore:No rule trains a bias")
def test_subclasses_and_parametrized_biases_work() -> None:
    layer = Plain(4, 4)
    parametrize.register_parametrization(layer, "bias", Doubled())
    x = torch.randn(5, 4)
    hebb = fasthebb.attach(layer, fasthebb.Hebb())
    y = layer(x) - layer.bias
    hebb.write_grad()
    assert torch.allclose(-layer.weight.grad, y.T @ x / 5, atol=1e-6)


@pytest.mark.parametrize(
    ("rules", "start"),
    [
        ({"head": HPCA()}, "'head' matches no layer; there are 'stem' (Conv2d), "),
        ({"head": None, "*": HPCA()}, "'head' matches no layer; there are 'stem' (Conv2d), "),
        ({"layer1.bn": HPCA()}, "'layer1.bn' is a BatchNorm2d, which has no rule; there are 'stem' (Conv2d), "),
        ({"layer1": HPCA()}, "'layer1' is a Sequential, which has no rule; there are 'stem' (Conv2d), "),
        (HPCA, "'*' maps to <class 'fasthebb.rules.pca.HPCA'>, which is neither a rule nor None; did you mean HPCA()?"),
        ({"fc": Oja}, "'fc' maps to <class 'fasthebb.rules.hebb.Oja'>, which is neither a rule nor None; did you mean"),
        ({"*": "HPCA"}, "'*' maps to 'HPCA', which is neither a rule nor None"),
        ({"*": None}, "No layer gets a rule from ['*']; there are 'stem' (Conv2d), "),
        ({}, "No layer gets a rule from []; there are 'stem' (Conv2d), "),
        (fasthebb.KWTA(3), "'fc' cannot learn by this rule: KWTA(k=3): the layer has 2 units a group; take k from"),
    ],
)  # fmt: skip
def test_errors_repeat_the_input_in_one_line_and_list_what_there_is(rules: Mapping[str, object], start: str) -> None:
    model = tree()
    with pytest.raises(ValueError) as caught:
        fasthebb.attach(model, rules)
    message = str(caught.value)
    assert message.startswith(start)
    assert "\n" not in message
    if "there are" in start:
        assert all(f"{name!r} ({type(model.get_submodule(name)).__name__})" in message for name in NAMES)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_layers() -> None:
    with pytest.raises(ValueError, match=r"^'\*' matches no layer; there is no Linear or Conv layer$"):
        fasthebb.attach(nn.Sequential(nn.ReLU()), HPCA())


def attach_and_listen(model: nn.Module, rules: object) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fasthebb.attach(model, rules)
    assert all(warning.filename == __file__ for warning in caught)  # points at the caller of attach
    return [str(warning.message) for warning in caught]


def test_biases_warn_once() -> None:
    model = nn.Sequential(conv(3, 4, 3, bias=True), nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 4))
    model[1].bias.requires_grad_(False)
    assert attach_and_listen(model, {"3": None, "*": Oja()}) == ["No rule trains a bias: those of 0 stay as they are"]
    said = attach_and_listen(nn.Linear(4, 4), Oja())
    assert said == ["No rule trains a bias: those of the model itself stay as they are"]
    assert attach_and_listen(tree(), Oja()) == []


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"*": Oja(), "fc": None}, ["'fc' says nothing, since '*' stands before it: put 'fc' first"]),
        ({"layer1.*": Oja(), "l*": Oja(), "layer1?*": HPCA()}, ["'layer1?*' says nothing, since 'layer1.*' stands"]),
        ({"fc": None, "f*": HPCA(), "*": Oja()}, []),
        ({"layer1*": HPCA(), "*": Oja()}, []),
    ],
)
def test_patterns_that_others_leave_nothing_to_warn(rules: object, said: list[str]) -> None:
    found = attach_and_listen(tree(), rules)
    assert len(found) == len(said)
    assert all(message.startswith(start) for message, start in zip(found, said))


def test_another_name_of_a_module() -> None:
    model = nn.Sequential(OrderedDict(a=nn.Linear(3, 3, bias=False)))
    model.b = model.a
    with pytest.raises(ValueError, match=r"^'b' is the same module as 'a': call it that$"):
        fasthebb.attach(model, {"b": Oja()})


@pytest.mark.parametrize("rules", [Oja(), {"2": None, "*": Oja()}])
def test_tied_weights_warn_once(rules: object) -> None:
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(3)))
    model[2].weight = model[0].weight
    (message,) = attach_and_listen(model, rules)
    assert message.startswith("0 and 2 share one weight")


def test_a_weight_tied_to_another_kind_of_module_warns() -> None:
    model = nn.Sequential(OrderedDict(embed=nn.Embedding(5, 4), out=nn.Linear(4, 5, bias=False)))
    model.out.weight = model.embed.weight
    (message,) = attach_and_listen(model, Oja())
    assert message.startswith("embed and out share one weight")
