"""One attached layer: what it is, its rule and memory, and what the last step did to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from fasthebb.diagnostics import duplicates
from fasthebb.kernels import quick
from fasthebb.layers import Attachable, Units
from fasthebb.ops import reciprocal
from fasthebb.rules.base import Rule
from fasthebb.rules.checks import check_memory, check_parts
from fasthebb.summary import Row, describe
from fasthebb.update import Call, Say, Sums, accumulate, delta

NO_BACKWARD = -1  # the number of the backward under way, where there is none


@dataclass(eq=False)
class Layer:
    """A layer with a rule.

    Attributes:
        state: what the rule remembers.
        calls: forwards in training mode since the last step.
        dead: number of units of norm 0 in the last step, []; None before it.
        update: ‖ΔW‖ of the last step, []; None before it.
        broken: on which ranks an update since the last check was not finite, [ranks].
        active: whether the layer listens and learns.
        say: what asks the rule, perhaps compiled.
        lent: the numerator that `.grad` is a view of, from a step to the next forward.
    """

    name: str
    module: Attachable
    units: Units
    rule: Rule
    state: dict[str, Tensor] = field(init=False)
    calls: int = 0
    dead: Tensor | None = None
    update: Tensor | None = None
    broken: Tensor | None = None
    active: bool = True
    say: Say = quick
    lent: Tensor | None = None

    def __post_init__(self) -> None:
        try:
            check_parts(self.rule)
            with torch.inference_mode(False):
                memory = self.rule.init_state(self.units.shape[:2])
                check_memory(self.rule, "init_state", memory)
                self.state = {name: value.clone() for name, value in memory.items()}
        except ValueError as error:
            raise ValueError(f"{self.name!r} cannot learn by this rule: {error}") from None

    @property
    def weight(self) -> nn.Parameter:
        """The weight that the rule trains."""
        return cast("nn.Parameter", self.module.weight)

    def listen(self, sums: Sums, x: Tensor, out: Tensor, signal: Tensor | None) -> None:
        """Add one call with input x and output out, as the layer saw them, to its sums; takes a lent `.grad` back."""
        self._take_back()
        x, out = self.units.batched(x), self.units.batched(out)
        call = Call(self.units, x, out, self.weight.detach(), self.module.bias, signal, _products(out))
        with torch.no_grad(), _plain(out.device.type):
            accumulate(sums, self.rule, call, self.state, self.say)
        self.calls += 1

    def write(self, sums: Sums, scale: float, keep: float) -> Tensor:
        """grad ← scale·ΔW + keep·grad; returns on which ranks ΔW is not finite, [ranks].

        In place where it can be, and where there is no gradient yet, in the place of the numerator.
        """
        sums.settle()
        weight = self.weight
        if weight is not self.module._parameters.get("weight"):
            raise ValueError(
                f"The weight of {self.name!r} became computed from other tensors after attach(), as pruning and "
                "parametrizations make it, so that no step reaches it: attach without that"
            )
        if weight.grad is None:
            weight.grad, keep = self._lend(sums.numerator), 0.0
        w = self.units.weight(weight.detach().to(sums.numerator.dtype))
        view = self.units.weight(weight.grad)
        direct = not keep and view.data_ptr() == weight.grad.data_ptr() and view.dtype == w.dtype
        dw = view if direct else torch.empty_like(w)
        norm = delta(sums, w, self.rule.finish, dw, scale)
        if not direct:
            folded = self.units.fold(dw)
            weight.grad.mul_(keep).add_(folded) if keep else weight.grad.copy_(folded)
        self.update = norm / abs(scale) if scale else norm
        broken, finite = sums.broken != 0, norm.isfinite()
        if weight.dtype != w.dtype:
            finite &= dw.to(weight.dtype).isfinite().all()  # narrower numbers overflow earlier
        broken |= ~finite & ~broken.any()  # finite on every rank, but not their sum: all of them
        if self.broken is None or self.broken.device != broken.device:
            self.broken = torch.zeros_like(broken)
        self.broken |= broken
        self.dead = (reciprocal(sums.norm) == 0).sum()
        return broken

    def _lend(self, numerator: Tensor) -> Tensor:
        # Room for a gradient: the numerator itself, if it lies in memory as the weight does.
        weight, view = self.weight, self.units.fold(numerator)
        if view.data_ptr() == numerator.data_ptr() and view.dtype == weight.dtype and _steps(view) == _steps(weight):
            self.lent = numerator
            return view
        return torch.empty_like(weight)

    def _take_back(self) -> None:
        if self.lent is None:
            return
        grad = self.weight.grad
        if grad is not None and grad.data_ptr() == self.lent.data_ptr():
            self.weight.grad = None  # before the next sums overwrite it
        self.lent = None

    def complaint(self) -> str | None:
        """What to tell the user if an update was not finite; waits for the device."""
        if self.broken is None or not self.broken.any():
            return None
        ranks = self.broken.nonzero().flatten().tolist()
        where = f"on rank {ranks[0]}, " if len(ranks) < len(self.broken) else ""
        if self.weight.isfinite().all():
            cause = "its input holds NaN or Inf, or its update overflows: check the images, or lower the learning rate"
        else:
            cause = "its weights are not finite: lower the learning rate and start from the last good checkpoint"
        return f"The update is not finite {where}in layer {self.name!r}: {cause}"

    def remember(self, sums: Sums, broken: Tensor) -> None:
        """Move the rule's memory on by one step, unless the step was broken [] or an entry would not be finite.

        In place, so that a step captured in a CUDA graph begins where the last one ended.
        """
        if not self.state:
            return
        stats = {name: value.clone() for name, value in sums.stats.items()}
        memory = self.rule.next_state(self.state, stats, sums.count.clone())
        check_memory(self.rule, "next_state", memory, self.state)
        for name, value in memory.items():
            held = self.state[name]
            held.copy_(torch.where(broken.to(value.device) | ~value.isfinite(), held, value))

    def memory(self) -> dict[str, Tensor]:
        """A copy of what the rule remembers."""
        return {name: value.clone() for name, value in self.state.items()}

    def row(self, *, compare: bool = False) -> Row:
        """The layer's row of the summary; its units are compared with each other only if asked."""
        w = self.units.weight(self.weight.detach())
        norms = w.norm(dim=-1)
        return Row(
            name=self.name,
            kind=type(self.module).__name__,
            rule=describe(self.rule),
            units=self.units.shape[0] * self.units.shape[1],
            fan_in=self.units.shape[2],
            dead=None if self.dead is None else int(self.dead),
            unit_norms=(float(norms.min()), float(norms.max())),
            weight_norm=float(norms.norm()),
            update_norm=None if self.update is None else float(self.update),
            twins=int(duplicates(w).sum()) if compare else None,
        )


class Listener:
    """The forward hook of a layer: in training mode `hear` gets the layer, its input and its output.

    It hears that layer alone: a copy of the model keeps it without effect, and a pickled model has `Deaf` in its place.
    Forwards that a backward repeats, as activation checkpointing does, were heard already; those of fake tensors, with
    which torch.export and the like trace, say nothing.
    """

    def __init__(self, layer: Layer, hear: Callable[[Layer, Tensor, Tensor], None]) -> None:
        self._layer, self._hear = layer, hear

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
        if not module.training or module is not self._layer.module:
            return
        if torch._C._current_graph_task_id() == NO_BACKWARD and not isinstance(out, FakeTensor):
            self._hear(self._layer, args[0] if args else kwargs["input"], out)

    def __deepcopy__(self, memo: dict[int, Any]) -> Listener:
        return self

    def __reduce__(self) -> tuple[type[Deaf], tuple[()]]:
        return Deaf, ()


class Deaf:
    """A forward hook that does nothing."""

    def __call__(self, *_: object) -> None:
        """Hear nothing."""


def restore(layers: Sequence[Layer], memories: Mapping[str, Mapping[str, Tensor]], rules: Mapping[str, str]) -> None:
    """Give layers back what they remembered, by name; rules: the classes of the rules that did, where it is known.

    Raises:
        ValueError: the memories are of other layers or other rules; no layer is changed then.
    """
    mine = {layer.name: _shapes(layer.state) for layer in layers}
    theirs = {name: _shapes(memory) for name, memory in memories.items()}
    for name in [*mine, *theirs]:
        here, there = mine.get(name, "no such layer"), theirs.get(name, "no such layer")
        if here != there:
            raise ValueError(
                f"The state is of other rules: {name!r} is {there} there and {here} here; attach the same ones"
            )
    for layer in layers:
        own, other = type(layer.rule).__name__, rules.get(layer.name)
        if other not in (None, own):
            raise ValueError(
                f"The state is of other rules: {layer.name!r} learnt by {other} there, {own} here; attach the same ones"
            )
    for layer in layers:
        memory = memories[layer.name]
        layer.state = {name: memory[name].to(value.device, copy=True) for name, value in layer.state.items()}


def _plain(device: str) -> contextlib.AbstractContextManager[Any]:
    # Without autocast, where there is any.
    available = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if available else contextlib.nullcontext()


def _products(out: Tensor) -> torch.dtype | None:
    # bfloat16 where autocast made a layer's output so; sums of float16 would overflow.
    device = out.device.type
    automatic = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return out.dtype if automatic and out.dtype == torch.bfloat16 else None


def _steps(t: Tensor) -> list[int]:
    return [step for step, size in zip(t.stride(), t.shape) if size > 1]


def _shapes(memory: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(memory[name].shape) for name in sorted(memory)}
