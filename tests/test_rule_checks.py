"""What a new rule may get wrong is told in a line that names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

import fasthebb
from fasthebb import Oja, Rule, Terms
from fasthebb.decay import Diagonal, Gram
from fasthebb.finish import NormRate
from fasthebb.ops import count, total
from fasthebb.response import Cosine


@dataclass(frozen=True)
class Mine(Rule):
    """Says what it is told to, and remembers a mean."""

    say: Callable[[Tensor], object] = field(default=lambda y: None)

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:
        return self.say(y)  # type: ignore[return-value]

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return {"mean": torch.zeros(shape)}


def right(y: Tensor) -> Terms:
    return Terms(y, Diagonal(total(y)) + Gram(y, y), count(y), {"mean": total(y)})


def step(rule: Rule, groups: int = 2) -> None:
    model = nn.Conv2d(4, 6, 3, groups=groups, bias=False)
    hebb = fasthebb.attach(model, rule)
    model(torch.randn(5, 4, 8, 8))
    hebb.write_grad()


def test_what_is_right_is_taken() -> None:
    step(Mine(right))
    step(Mine(lambda y: Terms(None, None, total(y), {"mean": total(y)})))


@pytest.mark.parametrize(
    ("say", "said"),
    [
        (lambda y: None, r"returned NoneType: return fasthebb.Terms\(post, decay, norm\)"),
        (lambda y: (y, None, 1.0), "returned tuple"),
        (lambda y: right(y)._replace(post=y > 0), r"post is bool \[5, 2, 3, 36\]: give float32 \[5, 2, 3, 36\]"),
        (lambda y: right(y)._replace(post=y.double()), "post is float64"),
        (lambda y: right(y)._replace(post=y.flatten(2)), r"post is float32 \[5, 2, 108\]"),
        (lambda y: right(y)._replace(decay=total(y)), r"decay is float32 \[2, 3\]: give a fasthebb.decay.Diagonal"),
        (lambda y: right(y)._replace(decay=Diagonal(y)), r"Diagonal is float32 \[5, 2, 3, 36\]: give a num"),
        (lambda y: right(y)._replace(decay=Gram(y, y.mean(-1))), r"Gram is float32 \[5, 2, 3\]"),
        (lambda y: right(y)._replace(norm=torch.ones(4)), r"norm is float32 \[4\]: give .* unit, \[2, 3\]"),
        (lambda y: right(y)._replace(norm=None), "norm is NoneType"),
        (lambda y: right(y)._replace(stats={"men": total(y)}), r"stats\['men'\] is not in the state \(mean\)"),
        (lambda y: right(y)._replace(stats={"mean": y}), r"stats\['mean'\] is float32 .* give \[2, 3\], as the state"),
        (lambda y: right(y.relu_()), "changed y in place"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(say: Callable[[Tensor], object], said: str) -> None:
    with pytest.raises(ValueError, match=rf"Mine\.terms.*{said}"):
        step(Mine(say))


def test_a_rule_without_terms() -> None:
    with pytest.raises(NotImplementedError, match="Rule has no method terms: write what it learns there"):
        step(Rule())


@dataclass(frozen=True)
class Remembers(Mine):
    """Begins and goes on with what it is told to."""

    begin: object = None
    then: object = None

    def init_state(self, shape: tuple[int, int]) -> dict[str, Tensor]:
        return {"mean": torch.zeros(shape)} if self.begin is None else self.begin  # type: ignore[return-value]

    def next_state(self, state: dict[str, Tensor], stats: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        return self.then  # type: ignore[return-value]


class Impure(Mine):
    """Changes its memory in place."""

    def terms(self, y: Tensor, state: Mapping[str, Tensor], signal: Tensor | None = None) -> Terms:
        state["mean"].add_(1)
        return right(y)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Remembers(right, begin={"mean": 0.0}), "Remembers.init_state: 'mean' is float: give a tensor"),
        (Remembers(right, begin=[1]), "Remembers.init_state returned list: return tensors by name"),
        (Remembers(right), "Remembers.next_state returned NoneType: return tensors by name"),
        (Remembers(right, then={"men": torch.zeros(2, 3)}), "returned men: return what init_state names, mean"),
        (Remembers(right, then={"mean": torch.zeros(3)}), r"'mean' is float32 \[3\]: give \[2, 3\], as the memory"),
        (Impure(), r"Impure.terms changed state\['mean'\] in place"),
        (Oja(finish=lambda dw, w: dw.mean(-1, keepdim=True)), r"<lambda> returned float32 \[2, 3, 1\]: return the up"),
        (Oja(finish=lambda dw, w: None), "returned NoneType"),
        (Oja(finish=NormRate), r"Oja: finish is the class NormRate; did you mean NormRate\(\)\?"),
        (Oja(finish="fan_in"), "Oja: finish is 'fan_in': give one of fasthebb.finish, or a function"),
        (Oja(response=Cosine), r"Oja: response is the class Cosine; did you mean Cosine\(\)\?"),
        (Oja(response=3), "Oja: response is 3: give one of fasthebb.response"),
    ],
)
def test_parts_and_memories_that_are_wrong_are_told(rule: Rule, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        step(rule)
