"""The case list: layers × rules. A new rule or layer is one line here, and every engine test sees it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import fasthebb
import reference.finishes
from fasthebb import activation, competition, conscience, finish
from fasthebb.response import RBF, Angular, Cosine, Dot, Euclidean, Lebesgue, Projection, RaisedCosine
from reference import (
    adaptive,
    bcm,
    covariance,
    hebb,
    ica,
    instar,
    krotov,
    pca,
    responses,
    softhebb,
    som,
    supervised,
    trace,
    update,
)
from reference import competition as competitions
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
    loop: hebb.Rule | Callable[[int], hebb.Rule]
    response: responses.Response = responses.dot
    finish: reference.finishes.Finish | None = None
    by_sample: bool = False  # the loop is made of how many locations a sample has, and sees them in order


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


def som_case(kernel: str) -> MemoryCase:
    """A map whose radius shrinks from 2 to 1/2 in three steps, on the most nearly square grid."""
    return MemoryCase(
        f"som-{kernel}",
        fasthebb.SOM(kernel=kernel, radius=2.0, steps=3),
        lambda units: {"steps": torch.tensor(0.0)},
        lambda memory: som.som(None, getattr(som, kernel), som.shrunk(2.0, 0.5, float(memory["steps"]), 3)),
        lambda memory, y: {"steps": memory["steps"] + 1},
        RAISED,
    )


def adaptive_case(name: str, rule: fasthebb.Rule, loop: Callable[[adaptive.Function], hebb.Rule]) -> MemoryCase:
    """A rule with the activation Adaptive("tanh", 0.3)."""
    return MemoryCase(
        name,
        rule,
        lambda units: {"variance": torch.ones(units, dtype=torch.float64)},
        lambda memory: loop(adaptive.adaptive(math.tanh, memory["variance"])),
        lambda memory, y: {"variance": adaptive.next_moment(memory["variance"], y, 2, 0.3)},
    )


def switching_case(name: str, rule: fasthebb.Rule, loop: Callable[[adaptive.Function], hebb.Rule]) -> MemoryCase:
    """A rule with the activation Switching(0.3)."""
    return MemoryCase(
        name,
        rule,
        lambda units: {moment: torch.zeros(units, dtype=torch.float64) for moment in ("second", "fourth")},
        lambda memory: loop(adaptive.switching(memory["second"], memory["fourth"])),
        lambda memory, y: {
            "second": adaptive.next_moment(memory["second"], y, 2, 0.3),
            "fourth": adaptive.next_moment(memory["fourth"], y, 4, 0.3),
        },
    )


def conscience_case(name: str, inner: competition.Competition, loop: instar.Competition) -> MemoryCase:
    """Competitive learning in which units that win too much stand back."""

    def compete(memory: Memory) -> instar.Competition:
        return competitions.conscientious(loop, memory["share"], 0.5)

    return MemoryCase(
        name,
        fasthebb.Instar(conscience.Conscience(inner, 0.5, 0.3)),
        lambda units: {"share": torch.full((units,), 1 / units, dtype=torch.float64)},
        lambda memory: instar.instar(compete(memory), "plain"),
        lambda memory, y: {"share": competitions.next_share(memory["share"], compete(memory), y, 0.3)},
        RAISED,
    )


def homeostasis_case(name: str, inner: competition.Competition, loop: instar.Competition) -> MemoryCase:
    """Competitive learning with thresholds that rise where a unit wins too much."""

    def compete(memory: Memory) -> instar.Competition:
        return competitions.shifted(loop, -memory["threshold"])

    return MemoryCase(
        name,
        fasthebb.Instar(conscience.Homeostasis(inner, 0.4)),
        lambda units: {"threshold": torch.zeros(units, dtype=torch.float64)},
        lambda memory: instar.instar(compete(memory), "plain"),
        lambda memory, y: {"threshold": competitions.next_threshold(memory["threshold"], compete(memory), y, 0.4)},
        RAISED,
    )


def abstaining_case(name: str, inner: competition.Competition, loop: instar.Competition, p: float) -> MemoryCase:
    """Competitive learning in which units sit out a step."""

    def rule(x: Tensor, w: Tensor, y: Tensor, step: int) -> Tensor:
        out = competitions.sits_out(len(w), p, 3, step)
        return instar.instar(competitions.abstaining(loop, out), "plain")(x, w, y)

    return MemoryCase(
        name,
        fasthebb.Instar(conscience.Abstaining(inner, p, 3)),
        lambda units: {"steps": torch.tensor(0.0)},
        lambda memory: lambda x, w, y: rule(x, w, y, int(memory["steps"])),
        lambda memory, y: {"steps": memory["steps"] + 1},
        RAISED,
    )


def labels(n: int) -> Tensor:
    """Labels of five classes, and some that are not known."""
    return torch.tensor([1, -1, 3, 0, 4, 2, 1, 1]).repeat(1 + n // 8)[:n]


def factors(n: int) -> Tensor:
    """Factors of both signs."""
    return torch.tensor([0.5, -1.0, 2.0, 0.0, -0.25, 1.5]).repeat(1 + n // 6)[:n]


def of(loop: hebb.Rule) -> Callable[[adaptive.Function], hebb.Rule]:
    """A loop that sees f of the responses, made of f."""
    return lambda f: lambda x, w, y: loop(x, w, f(y))


MEMORIES: list[MemoryCase] = [
    MemoryCase(
        "softhebb-prior",
        fasthebb.SoftHebb(0.5, prior_rate=0.2),
        lambda units: {"prior": torch.full((units,), 1 / units, dtype=torch.float64)},
        lambda memory: softhebb.softhebb(0.5, memory["prior"]),
        lambda memory, y: {"prior": softhebb.next_prior(memory["prior"], y, 0.5, 0.2)},
    ),
    MemoryCase(
        "bcm",
        fasthebb.BCM(0.3),
        lambda units: {"threshold": torch.ones(units, dtype=torch.float64)},
        lambda memory: bcm.bcm(memory["threshold"]),
        lambda memory, y: {"threshold": bcm.next_threshold(memory["threshold"], y, 0.3)},
    ),
    MemoryCase(
        "covariance",
        fasthebb.Covariance(0.3),
        lambda units: {"mean": torch.zeros(units, dtype=torch.float64)},
        lambda memory: covariance.covariance(memory["mean"]),
        lambda memory, y: {"mean": covariance.next_mean(memory["mean"], y, 0.3)},
    ),
    *(som_case(kernel) for kernel in ("gaussian", "difference", "exponential")),
    adaptive_case("hpca-adaptive", fasthebb.HPCA(activation.Adaptive("tanh", 0.3)), of(pca.hpca(lambda y: y))),
    switching_case("subspace-switching", fasthebb.Subspace(activation.Switching(0.3)), of(pca.subspace)),
    switching_case("ica-switching", fasthebb.ICA(activation.Switching(0.3)), ica.ica_of),
    adaptive_case("hica-adaptive", fasthebb.HICA(activation.Adaptive("tanh", 0.3)), ica.hica_of),
    conscience_case("conscience", competition.Hard(), instar.k_winners(1)),
    conscience_case("conscience-soft", competition.Softmax(0.1), instar.softmax(0.1)),
    conscience_case(
        "conscience-threshold",
        competition.Threshold(competition.KWinners(2), 0.6),
        competitions.threshold(instar.k_winners(2), 0.6),
    ),
    homeostasis_case("homeostasis", competition.Hard(), instar.k_winners(1)),
    homeostasis_case("homeostasis-soft", competition.Softmax(0.1), instar.softmax(0.1)),
    abstaining_case("abstaining", competition.Hard(), instar.k_winners(1), 0.5),
    abstaining_case("abstaining-soft", competition.Softmax(0.1), instar.softmax(0.1), 0.8),
    abstaining_case("abstaining-every", competition.Every(), competitions.every, 0.3),
]

SIGNALS = [
    SignalCase("prototypes", fasthebb.Prototypes(), supervised.prototypes, labels),
    SignalCase("taught-oja", fasthebb.Taught(fasthebb.Oja(), 5), lambda s: supervised.taught(hebb.oja, s, 5), labels),
    SignalCase(
        "taught-hpca",
        fasthebb.Taught(fasthebb.HPCA(), 5),
        lambda s: supervised.taught(pca.hpca(torch.relu), s, 5),
        labels,
    ),
    SignalCase(
        "taught-hard",
        fasthebb.Taught(fasthebb.HardWTA(), 5),
        lambda s: supervised.taught_instar(instar.k_winners(1), "plain", s, 5),
        labels,
        RAISED,
    ),
    SignalCase(
        "taught-soft",
        fasthebb.Taught(fasthebb.SoftWTA(0.1), 5),
        lambda s: supervised.taught_instar(instar.softmax(0.1), "weighted", s, 5),
        labels,
        RAISED,
    ),
    SignalCase(
        "modulated-oja", fasthebb.Modulated(fasthebb.Oja()), lambda s: supervised.modulated(hebb.oja, s), factors
    ),
    SignalCase(
        "modulated-hpca",
        fasthebb.Modulated(fasthebb.HPCA("tanh")),
        lambda s: supervised.modulated(pca.hpca(torch.tanh), s),
        factors,
    ),
    SignalCase(
        "modulated-hard",
        fasthebb.Modulated(fasthebb.HardWTA()),
        lambda s: supervised.modulated_instar(instar.k_winners(1), "plain", s),
        factors,
        RAISED,
    ),
    SignalCase(
        "modulated-soft",
        fasthebb.Modulated(fasthebb.SoftWTA(0.1)),
        lambda s: supervised.modulated_instar(instar.softmax(0.1), "weighted", s),
        factors,
        RAISED,
    ),
    SignalCase(
        "modulated-instar",
        fasthebb.Modulated(fasthebb.Instar(response=Dot())),
        lambda s: supervised.modulated_instar(lambda y: y, "plain", s),
        factors,
    ),
]  # fmt: skip

RULES = [
    *(case.first() for case in MEMORIES),
    RuleCase("hebb", fasthebb.Hebb(), hebb.hebb),
    RuleCase("oja", fasthebb.Oja(), hebb.oja),
    RuleCase("subspace", fasthebb.Subspace(), pca.subspace),
    RuleCase("subspace-tanh", fasthebb.Subspace("tanh"), of(pca.subspace)(torch.tanh)),
    RuleCase(
        "weighted-subspace",
        fasthebb.WeightedSubspace(3.0),
        lambda x, w, y: pca.weighted_subspace([1 + 2 * i / max(len(w) - 1, 1) for i in range(len(w))])(x, w, y),
    ),
    RuleCase("hpca", fasthebb.HPCA(), pca.hpca(torch.relu)),
    RuleCase("hpca-tanh", fasthebb.HPCA("tanh"), pca.hpca(torch.tanh)),
    RuleCase("hpca-identity", fasthebb.HPCA("identity"), pca.hpca(lambda y: y)),
    RuleCase("hpca-function", fasthebb.HPCA(torch.sigmoid), pca.hpca(torch.sigmoid)),
    RuleCase("ica", fasthebb.ICA(), ica.ica),
    RuleCase("ica-relu", fasthebb.ICA("relu"), ica.ica_of(torch.relu)),
    RuleCase("ica-tangent", fasthebb.ICA(finish=finish.tangent), ica.ica, finish=reference.finishes.tangent),
    RuleCase("hica", fasthebb.HICA(), ica.hica),
    RuleCase("hard", fasthebb.HardWTA(), instar.hard_wta, RAISED),
    RuleCase("kwta3", fasthebb.KWTA(3), instar.k_wta(3), RAISED),
    RuleCase("soft", fasthebb.SoftWTA(0.02), instar.soft_wta(0.02), RAISED),
    RuleCase("soft-plain", fasthebb.SoftWTA(0.3, average="plain"), instar.soft_wta(0.3, average="plain"), RAISED),
    RuleCase("power", fasthebb.SoftWTA(0.05, "power"), instar.soft_wta(0.05, "power"), RAISED),
    RuleCase("instar", fasthebb.Instar(response=Dot()), instar.instar(lambda y: y, "plain")),
    RuleCase("instar-hard", fasthebb.Instar(competition.Hard(), response=Dot()), instar.k_wta(1)),
    RuleCase("instar-k", fasthebb.Instar(competition.KWinners(2)), instar.k_wta(2), RAISED),
    RuleCase("instar-soft", fasthebb.Instar(competition.Softmax(0.1)), instar.soft_wta(0.1, average="plain"), RAISED),
    RuleCase("instar-every", fasthebb.Instar(competition.Every()), instar.instar(competitions.every, "plain"), RAISED),
    RuleCase(
        "threshold",
        fasthebb.Instar(competition.Threshold(level=0.4)),
        instar.instar(competitions.threshold(competitions.every, 0.4), "plain"),
        RAISED,
    ),
    RuleCase("trace", fasthebb.Trace(), lambda n: trace.trace(instar.k_winners(1), 0.2, n), RAISED, by_sample=True),
    RuleCase(
        "trace-signed",
        fasthebb.Trace(None, 0.7, response=Dot()),
        lambda n: trace.trace(lambda y: y, 0.7, n),
        by_sample=True,
    ),
    RuleCase("softhebb", fasthebb.SoftHebb(), softhebb.softhebb()),
    RuleCase(
        "softhebb-length", fasthebb.SoftHebb(0.1, response=Projection()), softhebb.softhebb(0.1), responses.projection
    ),
    RuleCase("krotov", fasthebb.Krotov(), krotov.krotov()),
    RuleCase("krotov-lebesgue", fasthebb.Krotov(0.3, response=Lebesgue(3)), krotov.krotov(0.3), responses.lebesgue(3)),
    RuleCase("krotov-4", fasthebb.Krotov(0.2, 4), krotov.krotov(0.2, 4)),
    RuleCase("krotov-no-rival", fasthebb.Krotov(0.2, 6), krotov.krotov(0.2, 6)),
    RuleCase("dot", fasthebb.SoftWTA(1.0, response=Dot()), instar.soft_wta(1.0), responses.dot),
    RuleCase("projection", fasthebb.SoftWTA(1.0, response=Projection()), instar.soft_wta(1.0), responses.projection),
    RuleCase("cosine", fasthebb.SoftWTA(0.2, response=Cosine()), instar.soft_wta(0.2), responses.cosine),
    RuleCase("cosine-3", fasthebb.SoftWTA(1, response=RaisedCosine(3)), instar.soft_wta(1), responses.raised_cosine(3)),
    RuleCase("angular", fasthebb.SoftWTA(0.2, response=Angular()), instar.soft_wta(0.2), responses.angular),
    RuleCase("lebesgue", fasthebb.Oja(response=Lebesgue(2.5)), hebb.oja, responses.lebesgue(2.5)),
    RuleCase("rbf", fasthebb.Oja(response=RBF(2.0)), hebb.oja, responses.rbf(2.0)),
    RuleCase("euclidean", fasthebb.HardWTA(response=Euclidean()), instar.hard_wta, responses.euclidean),
    RuleCase("instar-rbf", fasthebb.Instar(competition.Hard(), response=RBF(3)), instar.k_wta(1), responses.rbf(3)),
    RuleCase("oja-projection", fasthebb.Oja(response=Projection()), hebb.oja, responses.projection),
    RuleCase("fan-in", fasthebb.HPCA(finish=finish.fan_in), pca.hpca(torch.relu), finish=reference.finishes.fan_in),
    RuleCase("unit-norm", fasthebb.Oja(finish=finish.unit_norm), hebb.oja, finish=reference.finishes.unit_norm),
    RuleCase("tangent", fasthebb.HardWTA(finish=finish.tangent), instar.hard_wta, RAISED, reference.finishes.tangent),
    RuleCase("max-abs", fasthebb.Hebb(finish=finish.max_abs), hebb.hebb, finish=reference.finishes.max_abs),
    RuleCase(
        "norm-rate",
        fasthebb.Oja(finish=finish.NormRate(0.5, 0.7)),
        hebb.oja,
        finish=reference.finishes.norm_rate(0.5, 0.7),
    ),
    RuleCase(
        "chain",
        fasthebb.SoftHebb(finish=finish.Chain((finish.max_abs, finish.NormRate(0.08)))),
        softhebb.softhebb(),
        finish=reference.finishes.chain(reference.finishes.max_abs, reference.finishes.norm_rate(0.08)),
    ),
]  # fmt: skip


def make(case: LayerCase, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """The layer and its input, in float64; some inputs are zero, so that zero patches occur."""
    torch.manual_seed(seed)
    layer = case.make().double()
    x = torch.randn(case.input, dtype=torch.float64)
    return layer, x.masked_fill_(torch.rand(case.input) < 0.2, 0)


def expected(case: RuleCase, layer: nn.Module, x: Tensor) -> Tensor:
    """ΔW by the literal loop."""
    loop = case.loop(locations(layer, x)) if case.by_sample else case.loop
    return update(layer, x, loop, response=case.response, finish=case.finish)


def expected_of_signal(case: SignalCase, layer: nn.Module, x: Tensor) -> Tensor:
    """ΔW by the literal loop for the case's signal, which every location of a sample shares."""
    signal = case.signal(len(samples(layer, x))).repeat_interleave(locations(layer, x), dim=0)
    return update(layer, x, case.loop(signal), response=case.response)


def samples(layer: nn.Module, x: Tensor) -> Tensor:
    """An input with its batch dimension."""
    return x if x.dim() > (1 if isinstance(layer, nn.Linear) else len(layer.kernel_size) + 1) else x.unsqueeze(0)


def locations(layer: nn.Module, x: Tensor) -> int:
    """How many patches the units of a layer see of one sample."""
    return len(patches(layer, x)[0]) // len(samples(layer, x))


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


def label(value: object) -> str:
    """The name of a test's parameter, without addresses, which no two processes share."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
