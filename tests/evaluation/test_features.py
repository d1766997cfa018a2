"""Features are what enters the named layer, in eval mode, whatever comes after."""

import pytest
import torch
from torch import Tensor, nn

from fasthebb.evaluation import extract, extract_many


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.fc = nn.Linear(4 * 36, 8)
        self.head = nn.Linear(8, 3)
        self.spare = nn.Linear(1, 1)
        self.finished = 0

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc(self.body(x).flatten(1))
        out: Tensor = self.head(input=hidden)
        self.finished += 1
        return out


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().train()


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(n, 1, 8, 8, generator=generator), torch.arange(n)) for n in (4, 4, 3)]


def test_what_enters_a_layer(net: Net, batches: list[tuple[Tensor, Tensor]]) -> None:
    features, labels = extract(net, "head", batches)
    assert net.training
    assert net.body[1].training
    assert not net.finished
    net.eval()
    expected = torch.cat([net.fc(net.body(x).flatten(1)) for x, _ in batches])
    torch.testing.assert_close(features, expected.detach())
    assert labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]
    assert not features.requires_grad
    assert int(net.body[1].num_batches_tracked) == 0
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_modes_are_restored_one_by_one(net: Net, batches: list[tuple[Tensor, Tensor]]) -> None:
    net.body[1].eval()
    extract(net, "fc", batches)
    assert net.training
    assert net.body[0].training
    assert not net.body[1].training


def test_many_in_one_pass_despite_work_in_place(net: Net, batches: list[tuple[Tensor, Tensor]]) -> None:
    calls: list[int] = []
    net.body[0].register_forward_hook(lambda *_: calls.append(1))
    many = extract_many(net, ["fc", "body.2", "body.0"], batches)
    assert list(many) == ["fc", "body.2", "body.0"]
    assert len(calls) == len(batches)
    for layer, (features, labels) in many.items():
        alone, alone_labels = extract(net, layer, batches)
        assert torch.equal(features, alone)
        assert torch.equal(labels, alone_labels)
    assert many["body.2"][0].min() < 0
    assert torch.equal(many["body.0"][0], torch.cat([x for x, _ in batches]).flatten(1))


def test_pool(net: Net, batches: list[tuple[Tensor, Tensor]]) -> None:
    pooled = extract(net, "body.1", batches, pool=2)[0]
    whole = extract(net, "body.1", batches)[0]
    assert pooled.shape == (11, 16)
    torch.testing.assert_close(pooled, nn.functional.adaptive_avg_pool2d(whole.view(11, 4, 6, 6), 2).flatten(1))
    assert torch.equal(extract(net, "body.1", batches, pool=9)[0], whole)
    assert extract(net, "fc", batches, pool=2)[0].shape == (11, 144)
    with pytest.raises(ValueError, match="pool 0 must be at least 1"):
        extract(net, "fc", batches, pool=0)


def test_every_layer_may_be_pooled_as_it_needs(net: Net, batches: list[tuple[Tensor, Tensor]]) -> None:
    many = extract_many(net, ["body.1", "fc"], batches, pool={"body.1": 3, "fc": None})
    assert torch.equal(many["body.1"][0], extract(net, "body.1", batches, pool=3)[0])
    assert many["fc"][0].shape == (11, 144)


@pytest.mark.parametrize("sizes", [(4, 4, 3), (4, 4, 5), (1, 2, 9, 1), (5,)])
def test_batches_of_any_sizes(net: Net, sizes: tuple[int, ...]) -> None:
    batches = [(torch.randn(n, 1, 8, 8), torch.full((n,), n)) for n in sizes]
    features, labels = extract(net, "body.0", batches)
    assert torch.equal(features, torch.cat([x for x, _ in batches]).flatten(1))
    assert torch.equal(labels, torch.cat([y for _, y in batches]))
    assert torch.equal(extract(net, "body.0", iter(batches))[0], features), "a loader without a length"


def test_features_are_held_once(net: Net) -> None:
    batches = [(torch.randn(8, 1, 8, 8), torch.zeros(8)) for _ in range(40)]
    features, _ = extract(net, "body.0", batches)
    rows = features.untyped_storage().nbytes() // (4 * features.shape[1])
    assert len(features) <= rows <= len(features) + 1


def test_other_precisions_and_nets_without_parameters() -> None:
    loader = [(torch.randn(2, 3), torch.zeros(2, dtype=torch.int64))]
    half = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).to(torch.bfloat16)
    assert extract(half, "1", [(loader[0][0].bfloat16(), loader[0][1])])[0].dtype == torch.float32
    assert torch.equal(extract(nn.Sequential(nn.Identity(), nn.ReLU()), "1", loader)[0], loader[0][0])


def test_a_layer_called_twice_counts_once() -> None:
    shared = nn.Linear(3, 3)
    loader = [(torch.randn(2, 3), torch.zeros(2, dtype=torch.int64))]
    many = extract_many(nn.Sequential(shared, shared, nn.ReLU()), ["0", "2"], loader)
    assert torch.equal(many["0"][0], loader[0][0])


def test_unknown_layers(net: Net, batches: list[tuple[Tensor, Tensor]]) -> None:
    names = r"body.0, body.1, body.2, body.3, fc, head, spare"
    with pytest.raises(ValueError, match=rf"the model has no layer 'heat': there is {names}; did you mean head\?"):
        extract(net, "heat", batches)
    with pytest.raises(ValueError, match=rf"the forward does not call spare: choose from {names}"):
        extract_many(net, ["spare", "fc"], batches)
    assert net.training
    assert not any(module._forward_pre_hooks for module in net.modules())
    with pytest.raises(ValueError, match="no layer given: choose from"):
        extract_many(net, [], batches)
    with pytest.raises(ValueError, match="the loader gave no batch"):
        extract(net, "fc", [])


def test_an_error_in_the_forward_passes_through(net: Net) -> None:
    with pytest.raises(RuntimeError):
        extract(net, "head", [(torch.randn(2, 5, 8, 8), torch.zeros(2))])
    assert net.training
