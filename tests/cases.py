"""The case list: layers × rules. A new rule or layer is one line here, and every engine test sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import fasthebb
import reference.finishes
from fasthebb import competition, finish
from fasthebb.response import Angular, Cosine, Dot, Projection, RaisedCosine
from reference import hebb, instar, pca, responses, update
from reference.patches import patches

RAISED = responses.raised_cosine(2.0)

Memory = dict[str, Tensor]


@dataclass(frozen=True)
class LayerCase:
    name: str
    make: Callable[[], nn.Module]
    input: tuple[int, ...]  # with the batch


@dataclass(frozen=True)
class RuleCase:
    name: str
    rule: fasthebb.Rule
    loop: hebb.Rule
    response: responses.Response = responses.dot
    finish: reference.finishes.Finish | None = None
    by_sample: bool = False  # the loop sees one sample at a time, its locations in order


@dataclass(frozen=True)
class SignalCase:
    """A rule that needs a signal, one entry a sample; the loop is made of one entry a patch."""

    name: str
    rule: fasthebb.Rule
    loop: Callable[[Tensor], hebb.Rule]
    signal: Callable[[int], Tensor]  # for so many samples
    response: responses.Response = responses.dot


@dataclass(frozen=True)
class MemoryCase:
    """A rule that remembers; the loop of a group is made of its memory, which moves on once a step.

    start: the memory of a group of so many units. after: the memory after a step with responses y [M, C] of the group,
    as the rule saw them, and the memory that step was made with.
    """

    name: str
    rule: fasthebb.Rule
    start: Callable[[int], Memory]
    loop: Callable[[Memory], hebb.Rule]
    after: Callable[[Memory, Tensor], Memory]
    response: responses.Response = responses.dot

    def first(self) -> RuleCase:
        """Its first step, as a case of a rule without memory."""
        return RuleCase(self.name, self.rule, lambda x, w, y: self.loop(self.start(len(w)))(x, w, y), self.response)


LAYERS = [
    LayerCase("linear", lambda: nn.Linear(7, 5, bias=False), (6, 7)),
    LayerCase("linear-bias", lambda: nn.Linear(7, 5), (6, 7)),
    LayerCase("linear-wide", lambda: nn.Linear(9, 150), (3, 9)),
    LayerCase("linear-sequence", lambda: nn.Linear(7, 5), (3, 4, 7)),
    LayerCase("linear-4d", lambda: nn.Linear(4, 5), (2, 2, 3, 4)),
    LayerCase("linear-vector", lambda: nn.Linear(7, 5), (7,)),
    LayerCase("conv1d", lambda: nn.Conv1d(3, 5, 3, stride=2, padding=1), (3, 3, 9)),
    LayerCase("conv2d", lambda: nn.Conv2d(3, 5, 3, bias=False), (3, 3, 6, 5)),
    LayerCase("conv2d-unbatched", lambda: nn.Conv2d(3, 5, 3), (3, 6, 5)),
    LayerCase("conv2d-stride", lambda: nn.Conv2d(3, 5, (3, 2), stride=(2, 3), padding=(1, 2)), (2, 3, 7, 6)),
    LayerCase("conv2d-dilation", lambda: nn.Conv2d(2, 5, 3, dilation=(1, 2), padding=2), (2, 2, 5, 6)),
    LayerCase("conv2d-groups", lambda: nn.Conv2d(6, 10, 3, groups=2, padding=1), (2, 6, 4, 4)),
    LayerCase("conv2d-depthwise", lambda: nn.Conv2d(3, 15, 3, groups=3), (2, 3, 5, 5)),
    LayerCase("conv2d-reflect", lambda: nn.Conv2d(2, 5, 3, padding=2, padding_mode="reflect"), (2, 2, 4, 5)),
    LayerCase("conv2d-replicate", lambda: nn.Conv2d(2, 5, 3, padding=(1, 2), padding_mode="replicate"), (2, 2, 4, 5)),
    LayerCase("conv2d-circular", lambda: nn.Conv2d(2, 5, 3, padding="same", padding_mode="circular"), (2, 2, 4, 5)),
    LayerCase("conv2d-same", lambda: nn.Conv2d(2, 5, 3, padding="same"), (2, 2, 4, 5)),
    LayerCase("conv2d-same-even", lambda: nn.Conv2d(2, 5, (2, 4), padding="same", dilation=(3, 1)), (2, 2, 5, 5)),
    LayerCase("conv2d-valid", lambda: nn.Conv2d(2, 5, 2, padding="valid"), (2, 2, 4, 5)),
    LayerCase("conv2d-1x1-map", lambda: nn.Conv2d(3, 7, 2), (4, 3, 2, 2)),
    LayerCase("conv3d", lambda: nn.Conv3d(2, 5, (2, 3, 2), padding=(1, 0, 1), stride=(1, 2, 2)), (2, 2, 3, 5, 4)),
    LayerCase("convT1d", lambda: nn.ConvTranspose1d(3, 5, 3, stride=2, padding=1, output_padding=1), (2, 3, 5)),
    LayerCase("convT2d", lambda: nn.ConvTranspose2d(3, 5, 3, stride=2), (2, 3, 3, 3)),
    LayerCase(
        "convT2d-groups",
        lambda: nn.ConvTranspose2d(
            4, 10, (3, 2), stride=(2, 3), padding=1, output_padding=(1, 2), groups=2, dilation=2
        ),
        (2, 4, 3, 3),
    ),
    LayerCase("convT3d", lambda: nn.ConvTranspose3d(2, 5, 2, stride=2, padding=1), (2, 2, 3, 2, 3)),
]

MEMORIES: list[MemoryCase] = []

SIGNALS: list[SignalCase] = []

RULES = [
    *(case.first() for case in MEMORIES),
    RuleCase("hebb", fasthebb.Hebb(), hebb.hebb),
    RuleCase("oja", fasthebb.Oja(), hebb.oja),
    RuleCase("subspace", fasthebb.Subspace(), pca.subspace),
    RuleCase("hpca", fasthebb.HPCA(), pca.hpca(torch.relu)),
    RuleCase("hpca-tanh", fasthebb.HPCA("tanh"), pca.hpca(torch.tanh)),
    RuleCase("hpca-identity", fasthebb.HPCA("identity"), pca.hpca(lambda y: y)),
    RuleCase("hpca-function", fasthebb.HPCA(torch.sigmoid), pca.hpca(torch.sigmoid)),
    RuleCase("hard", fasthebb.HardWTA(), instar.hard_wta, RAISED),
    RuleCase("kwta3", fasthebb.KWTA(3), instar.k_wta(3), RAISED),
    RuleCase("soft", fasthebb.SoftWTA(0.02), instar.soft_wta(0.02), RAISED),
    RuleCase("soft-plain", fasthebb.SoftWTA(0.3, average="plain"), instar.soft_wta(0.3, average="plain"), RAISED),
    RuleCase("power", fasthebb.SoftWTA(0.05, "power"), instar.soft_wta(0.05, "power"), RAISED),
    RuleCase("instar", fasthebb.Instar(response=Dot()), instar.instar(lambda y: y, "plain")),
    RuleCase("instar-hard", fasthebb.Instar(competition.Hard(), response=Dot()), instar.k_wta(1)),
    RuleCase("instar-k", fasthebb.Instar(competition.KWinners(2)), instar.k_wta(2), RAISED),
    RuleCase("instar-soft", fasthebb.Instar(competition.Softmax(0.1)), instar.soft_wta(0.1, average="plain"), RAISED),
    RuleCase("dot", fasthebb.SoftWTA(1.0, response=Dot()), instar.soft_wta(1.0), responses.dot),
    RuleCase("projection", fasthebb.SoftWTA(1.0, response=Projection()), instar.soft_wta(1.0), responses.projection),
    RuleCase("cosine", fasthebb.SoftWTA(0.2, response=Cosine()), instar.soft_wta(0.2), responses.cosine),
    RuleCase("cosine-3", fasthebb.SoftWTA(1, response=RaisedCosine(3)), instar.soft_wta(1), responses.raised_cosine(3)),
    RuleCase("angular", fasthebb.SoftWTA(0.2, response=Angular()), instar.soft_wta(0.2), responses.angular),
    RuleCase("oja-projection", fasthebb.Oja(response=Projection()), hebb.oja, responses.projection),
    RuleCase("fan-in", fasthebb.HPCA(finish=finish.fan_in), pca.hpca(torch.relu), finish=reference.finishes.fan_in),
    RuleCase("unit-norm", fasthebb.Oja(finish=finish.unit_norm), hebb.oja, finish=reference.finishes.unit_norm),
    RuleCase("tangent", fasthebb.HardWTA(finish=finish.tangent), instar.hard_wta, RAISED, reference.finishes.tangent),
    RuleCase("max-abs", fasthebb.Hebb(finish=finish.max_abs), hebb.hebb, finish=reference.finishes.max_abs),
]  # fmt: skip


def make(case: LayerCase, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """The layer and its input, in float64; some inputs are zero, so that zero patches occur."""
    torch.manual_seed(seed)
    layer = case.make().double()
    x = torch.randn(case.input, dtype=torch.float64)
    return layer, x.masked_fill_(torch.rand(case.input) < 0.2, 0)


def expected(case: RuleCase, layer: nn.Module, x: Tensor) -> Tensor:
    """ΔW by the literal loop."""
    if case.by_sample:
        parts = [update(layer, x_n, case.loop, response=case.response) for x_n in samples(layer, x).split(1)]
        return torch.stack(parts).mean(dim=0)
    return update(layer, x, case.loop, response=case.response, finish=case.finish)


def expected_of_signal(case: SignalCase, layer: nn.Module, x: Tensor) -> Tensor:
    """ΔW by the literal loop for the case's signal, which every location of a sample shares."""
    n = len(samples(layer, x))
    locations = len(patches(layer, x)[0]) // n
    return update(layer, x, case.loop(case.signal(n).repeat_interleave(locations, dim=0)), response=case.response)


def samples(layer: nn.Module, x: Tensor) -> Tensor:
    """An input with its batch dimension."""
    return x if x.dim() > (1 if isinstance(layer, nn.Linear) else len(layer.kernel_size) + 1) else x.unsqueeze(0)


def learned(rule: fasthebb.Rule, layer: nn.Module, *batches: Tensor, signals: Sequence[Tensor] = ()) -> Tensor:
    """ΔW by the engine: attach, forward the batches, each with its signal, write_grad, detach."""
    layer.weight.grad = None
    hebb = fasthebb.attach(layer, rule)
    for number, x in enumerate(batches):
        hebb.signal = signals[number] if signals else None
        layer(x)
    hebb.write_grad()
    hebb.detach()
    return -layer.weight.grad


def error(got: Tensor, want: Tensor) -> float:
    """‖got − want‖/‖want‖, and 0 where both are 0."""
    difference = float((got - want).norm())
    return difference / float(want.norm()) if difference else 0.0
