"""Rules that need a signal beside the responses: labels, or a third factor.

| rule | signal | post | decay | norm |
|---|---|---|---|---|
| Prototypes | label | 1 for the unit of the label | diag Σ post | Σ post |
| Taught(rule, classes) | label | t·post | the rule's, of t·post and t·activity | the rule's, of t·activity |
| Modulated(rule) | factor m | m·post | the rule's, of m·post | the rule's |

t is the teacher: 1 for the units of the sample's class and 0 for the others, 1 for all where there is no label. The
signal is `hebb.signal`, one entry a sample: all locations of a sample share it.

G. Lagani et al., arXiv 2207.03172: class prototypes and the teacher signal of deep layers.
W. Gerstner, M. Lehmann, V. Liakoni, D. Corneil, J. Brea, "Eligibility traces and plasticity on behavioral time scales:
experimental support of neoHebbian three-factor learning rules", Frontiers in Neural Circuits 12, 2018: a third factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fasthebb.decay import Diagonal
from fasthebb.finish import Finish
from fasthebb.ops import total
from fasthebb.response import Response
from fasthebb.rules.base import Local, Rule, Terms


@dataclass(frozen=True)
class Prototypes(Rule):
    """ΔW_c = E[x of class c] − w_c: unit c learns the mean of class c, at learning rate 1 in one step.

    The signal is an integer label for each sample [N], from 0 to below the units of a group, or −1 for none: such a
    sample is ignored. A unit without a sample does not move.

    Raises:
        ValueError: in a forward, where labels are missing, of another number, or out of range (not found out on an
            accelerator: such a sample is ignored there).
    """

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:  # noqa: ARG002
        labels = _labels("Prototypes", signal, y, y.shape[2])
        own = labels.view(-1, 1, 1, 1) == torch.arange(y.shape[2], device=y.device).unsqueeze(-1)  # [N, 1, C, 1]
        post = own.to(y.dtype).expand_as(y)
        norm = total(post)
        return Terms(post, Diagonal(norm), norm)


@dataclass(frozen=True)
class Signalled(Rule):
    """A local rule that a signal acts on: response, finish and memory are the rule's.

    Raises:
        ValueError: the rule is not made of activity, post and learning (`fasthebb.rules.Local`).
    """

    rule: Local
    response: Response = field(init=False, repr=False, compare=False)
    finish: Finish | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Local):
            raise ValueError(
                f"{type(self).__name__}({self.rule!r}): give a rule whose units have an activity of their own, such as "
                "HPCA, SoftWTA or Oja"
            )
        object.__setattr__(self, "response", self.rule.response)
        object.__setattr__(self, "finish", self.rule.finish)

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return self.rule.init_state(shape)

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        return self.rule.next_state(state, stats, count)


@dataclass(frozen=True)
class Taught(Signalled):
    """A rule in which only the units of a sample's class are active: unit i of a group belongs to class i mod classes.

    The signal is an integer label for each sample [N], from 0 to below `classes`, or −1 for none: there the rule is as
    without a teacher. What the rule remembers is of its activity without the teacher.

    Args:
        rule: HPCA, SoftWTA or another whose units have an activity.
        classes: number of classes.

    Raises:
        ValueError: the rule has no activity, or there are fewer classes than one, or fewer units than classes; in a
            forward, where labels are missing, of another number, or out of range (not found out on an accelerator:
            nothing is learnt of such a sample there).
    """

    classes: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes < 1:
            raise ValueError(f"Taught(classes={self.classes}): there must be at least one class")

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        if shape[1] < self.classes:
            raise ValueError(
                f"Taught(classes={self.classes}): the layer has {shape[1]} units a group, so that some classes have "
                "none; take no more classes than units"
            )
        return super().init_state(shape)

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:
        label = _labels("Taught", signal, y, self.classes).view(-1, 1, 1, 1)
        of = torch.arange(y.shape[2], device=y.device).unsqueeze(-1) % self.classes  # [C, 1]
        teacher = (label == of) | (label == -1)  # [N, 1, C, 1]
        a = self.rule.activity(y, state)
        post, taught = self.rule.post(a), a * teacher
        return self.rule.learn(taught if post is a else post * teacher, taught).remembering(self.rule.stats(y, a))


@dataclass(frozen=True)
class Modulated(Signalled):
    """A rule whose learning is weighed by a third factor m, such as reward, novelty or attention: ΔW = E[m·(...)].

    The signal is a number for each sample [N], of either sign: 0 learns nothing, a negative one unlearns; a rule that
    attracts its units moves them towards −x then. Activity, norm and memory are the rule's.

    Args:
        rule: HPCA, SoftWTA or another whose units have an activity.

    Raises:
        ValueError: the rule has no activity; in a forward, where the signal is missing or of another number.
    """

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:
        factor = _given("Modulated", signal, y, "a number").to(y.dtype).view(-1, 1, 1, 1)
        a = self.rule.activity(y, state)
        return self.rule.weigh(self.rule.post(a), a, factor).remembering(self.rule.stats(y, a))


def _given(who: str, signal: Tensor | None, y: Tensor, what: str) -> Tensor:
    if signal is None:
        raise ValueError(f"{who} has no signal: set hebb.signal to {what} for each sample before every forward")
    if signal.shape != y.shape[:1]:
        raise ValueError(
            f"{who}: hebb.signal of shape {list(signal.shape)} is not {what} for each sample that the layer sees, "
            f"[{y.shape[0]}]; set it before every forward"
        )
    return signal.to(y.device, non_blocking=True)


def _labels(who: str, signal: Tensor | None, y: Tensor, classes: int) -> Tensor:
    labels = _given(who, signal, y, "an integer label")
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"{who}: labels must be integers, and hebb.signal is {labels.dtype}; give labels.long()")
    labels = labels.long()
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere this would wait for the device
        wrong = labels[(labels < -1) | (labels >= classes)]
        if len(wrong):
            raise ValueError(
                f"{who}: there is a label {int(wrong[0])}; take labels from 0 to {classes - 1}, or -1 for none"
            )
    return labels
