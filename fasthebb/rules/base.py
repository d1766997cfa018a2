"""What a rule is, and what it says of one batch.

Every update of the field is one equation,

    ΔW = (postᵀ·X − decay·W) / norm,

whose three terms are sums over samples and locations. A rule is a small frozen object that returns them; it never
learns what a convolution is, and never divides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from fasthebb.decay import Decay
from fasthebb.finish import Finish
from fasthebb.response import Dot, Response


class Terms(NamedTuple):
    """What one batch says; every field is a sum over samples, or is summed by the engine.

    Attributes:
        post: what correlates with the input, [N, G, C, L]; None where the input is not used.
        decay: the linear operator taken from W; None for no decay.
        norm: what the sum is divided by, [G, C] or a number; a unit of norm 0 is dead and does not move.
        stats: what an adaptive rule wants to remember: named tensors shaped like its state, summed over ranks.
    """

    post: Tensor | None
    decay: Decay | None
    norm: Tensor | float
    stats: dict[str, Tensor] | None = None

    def remembering(self, stats: dict[str, Tensor] | None) -> Terms:
        """The same terms with other stats; unlike `_replace`, every version's torch.compile takes it."""
        return Terms(self.post, self.decay, self.norm, stats)


@dataclass(frozen=True)
class Rule:
    """A learning rule: what a unit makes of its response.

    Subclass it as a frozen dataclass and write `terms`; a rule with memory also writes `init_state` and `next_state`.

    Args:
        response: what y is; the plain dot product unless a rule says otherwise.
        finish: applied to the summed update, `(dw, w) -> dw` on [G, C, K].
    """

    response: Response = field(default=Dot(), kw_only=True)
    finish: Finish | None = field(default=None, kw_only=True)

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:
        """The three terms of one batch for responses y [N, G, C, L].

        Pure: reads the state of the previous step and changes neither it nor y. `signal` is what a supervised or
        three-factor rule needs, one entry a sample [N, ...]; unsupervised rules ignore it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method terms: write what it learns there")

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:  # noqa: ARG002
        """The memory of a layer of shape (G, C) before its first step, named as `terms` names its stats."""
        return {}

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """The memory after a step, once per `write_grad`: stats and count are summed over micro-batches and ranks."""
        return state


@dataclass(frozen=True)
class Local(Rule):
    """A rule of three steps: what a unit does (activity), what of it meets the input (post), what is learnt of both.

    Rules that are written this way can be taught (`Taught`) and weighed by a third factor (`Modulated`).
    """

    def activity(self, y: Tensor, state: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        """What the units do, [N, G, C, L]: their response, or their share of a competition."""
        return y

    def post(self, a: Tensor) -> Tensor:
        """What of the activity correlates with the input: all of it unless a rule says otherwise."""
        return a

    def learn(self, post: Tensor, a: Tensor) -> Terms:
        """The terms of a batch with activity a, as `activity` returned it or less, and its post, both [N, G, C, L]."""
        raise NotImplementedError  # pragma: no cover - abstract

    def weigh(self, post: Tensor, a: Tensor, factor: Tensor) -> Terms:
        """The terms with a third factor [N, 1, 1, 1] of either sign: what is learnt of a sample counts so much."""
        return self.learn(post * factor, a)

    def stats(self, y: Tensor, a: Tensor) -> dict[str, Tensor] | None:  # noqa: ARG002
        """What the rule wants to remember of a batch."""
        return None

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:  # noqa: ARG002
        a = self.activity(y, state)
        return self.learn(self.post(a), a).remembering(self.stats(y, a))
