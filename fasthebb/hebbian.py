"""attach and its handle: hooks that add up what rules say, and write it into `.grad`.

hebb = fasthebb.attach(model, {"fc": None, "*": HPCA()})
opt = torch.optim.SGD(hebb.parameters(), lr=1e-2)
for x, _ in loader:
    with torch.no_grad():
        model(x)            # hooks listen, in train mode only
    hebb.write_grad()       # grad = −ΔW; sums over ranks
    opt.step()
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from fasthebb.attached import Layer, Listener, restore
from fasthebb.matching import match
from fasthebb.rules.base import Rule
from fasthebb.step import Step
from fasthebb.summary import Summary
from fasthebb.update import said

_attached: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def attach(model: nn.Module, rules: Rule | Mapping[str, Rule | None]) -> Hebbian:
    """Put a learning rule on the layers of a model; the model itself stays as it is.

    Args:
        model: any module; Linear, Conv1d/2d/3d and ConvTranspose1d/2d/3d layers can be attached.
        rules: one rule for all, or name patterns (`fnmatch`, the first match wins) mapped to a rule, or to None for
            layers that keep to themselves.

    Returns:
        The handle that owns the hooks.

    Raises:
        ValueError: a pattern matches nothing or names another kind of module, a layer is attached already, or a layer's
            output does not follow from its weight; the message lists what there is.
    """
    return Hebbian(model, rules if isinstance(rules, Mapping) else {"*": rules})


class Hebbian:
    """The handle of an attached model: listens to its forwards, and writes −ΔW into the weights' `.grad`.

    Attributes:
        steps: how many times `write_grad` was called.
        focused: the one layer that learns now; None when all do.
    """

    def __init__(self, model: nn.Module, rules: Mapping[str, Rule | None]) -> None:
        self._signal: Tensor | None = None
        self.steps = 0
        self.focused: str | None = None
        self._layers = [Layer(*chosen) for chosen in match(model, rules)]
        taken = [layer.name for layer in self._layers if layer.module in _attached]
        if taken:
            raise ValueError(
                f"{taken[0]!r} is attached already; call detach() on the first handle before attaching again"
            )
        self._order: list[Layer] = []
        self._step = Step(self._layers)
        self._hooks = [  # before other hooks, which may change the output
            layer.module.register_forward_hook(Listener(layer, self._hear), with_kwargs=True, prepend=True)
            for layer in self._layers
        ]
        _attached.update(layer.module for layer in self._layers)

    @property
    def signal(self) -> Tensor | None:
        """What supervised and three-factor rules need of the next forward, one entry a sample [N, ...], or None.

        Set it to a tensor, or to what torch.as_tensor takes.
        """
        return self._signal

    @signal.setter
    def signal(self, value: Any) -> None:
        self._signal = None if value is None else torch.as_tensor(value)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the attached layers, in the order a forward first called them (until then in the model's)."""
        return tuple(layer.name for layer in self._ordered())

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights that rules train, each once."""
        yield from dict.fromkeys(layer.weight for layer in self._layers)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The weights that rules train, each once, by their names in the model."""
        named = {layer.weight: f"{layer.name}.weight".lstrip(".") for layer in reversed(self._layers)}
        yield from ((named[weight], weight) for weight in self.parameters())

    def write_grad(self, *, local: float = 1.0, gradient: float = 0.0) -> None:
        """grad ← −local·ΔW + gradient·(the gradient already there).

        ΔW is of all forwards in training mode since the last call, on all ranks. A gradient where there was none lies
        in the place of the sums: the next forward in training mode makes it None again, so clone what is to be kept.

        Raises:
            ValueError: no layer, or not every layer, was called in training mode since the last call.
            FloatingPointError: a layer's update is not finite; all updates of this step are 0 then.
        """
        self._require_calls()
        layers = [layer for layer in self._layers if layer.active]
        with torch.inference_mode(False), torch.no_grad():
            self._step.reduce()
            written: set[nn.Parameter] = set()
            flags = []
            for layer in layers:  # tied weights add up
                sums = self._step.sums_of(layer)
                flags.append(layer.write(sums, -local, 1.0 if layer.weight in written else gradient))
                written.add(layer.weight)
            broken = self._guard(layers, flags)
            for layer in layers:
                layer.remember(self._step.sums_of(layer), broken)
        self._step.begin()
        self.steps += 1

    def discard(self) -> None:
        """Forget what forwards since the last `write_grad` said, as of a forward that failed half-way."""
        self._step.begin()

    def compile(self, **options: Any) -> None:
        """Let torch.compile take what rules make of responses: elementwise work becomes one kernel, sums included.

        Products, the hooks and the model stay as they are; compile the model by itself if you like. The first steps are
        slow. `options` are those of torch.compile.
        """
        compiled = torch.compile(said, **{"dynamic": True, **options})
        for layer in self._layers:
            layer.say = compiled

    def focus(self, name: str | None) -> None:
        """Let one layer alone learn, or all of them again with None: the others neither listen nor are written.

        Raises:
            ValueError: no attached layer has that name.
        """
        if name is not None and name not in self.layers:
            raise ValueError(f"{name!r} is not attached; there are {', '.join(self.layers)}")
        self.focused = name
        for layer in self._layers:
            layer.active = name is None or layer.name == name
            if not layer.active:
                layer.weight.grad = None  # an optimizer leaves it alone

    def detach(self) -> None:
        """Take the hooks off: the model is plain again, with its weights as trained."""
        for hook in self._hooks:
            hook.remove()
        if self._hooks:
            _attached.difference_update(layer.module for layer in self._layers)
        self._hooks = []
        self._step.forget()

    def summary(self, *, compare: bool = False) -> Summary:
        """A table of the attached layers: units, dead ones, norms; `compare` counts twins, a second for 4096 units."""
        self.check()
        return Summary([layer.row(compare=compare) for layer in self._ordered()])

    def state_dict(self) -> dict[str, Any]:
        """What rules remember, for checkpoints between steps; weights are the model's."""
        self.check()
        rules = {layer.name: type(layer.rule).__name__ for layer in self._layers}
        return {"steps": self.steps, "layers": {layer.name: layer.memory() for layer in self._layers}, "rules": rules}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: it belongs to other layers or other rules.
        """
        if not {"layers", "steps"} <= state.keys():
            raise ValueError(f"This is not what state_dict() returned: it holds {', '.join(state) or 'nothing'}")
        restore(self._layers, state["layers"], state.get("rules", {}))
        self.steps = int(state["steps"])
        self._step.forget()

    def check(self) -> None:
        """Wait for the device, and raise if a step so far was not finite.

        Raises:
            FloatingPointError: naming rank, layer and likely cause.
        """
        complaints = [layer.complaint() for layer in self._ordered()]
        for layer in self._layers:
            if layer.broken is not None:
                layer.broken.zero_()  # in place: a captured step writes there
        for complaint in filter(None, complaints):
            raise FloatingPointError(complaint)

    def __reduce_ex__(self, protocol: Any) -> Any:  # of copies and pickles
        raise TypeError(
            "A handle is of one model: copy or pickle the model alone, attach() the copy, and load state_dict() there"
        )

    def _hear(self, layer: Layer, x: Tensor, out: Tensor) -> None:
        if layer not in self._order:
            self._order.append(layer)
        if not layer.active:
            return
        try:
            layer.listen(self._step.sums_of(layer), x.detach(), out.detach(), self.signal)
        except BaseException:
            self.discard()  # nothing is half said
            raise

    def _ordered(self) -> list[Layer]:
        return self._order + [layer for layer in self._layers if layer not in self._order]

    def _require_calls(self) -> None:
        if not self._hooks:
            raise ValueError("This handle is detached, its model no longer heard: attach() it again")
        silent = [layer.name for layer in self._layers if layer.active and not layer.calls]
        if not any(layer.calls for layer in self._layers):
            raise ValueError(
                "write_grad() without a forward in training mode since the last one: call model.train() and run a batch"
                " (a model that was compiled before attach() is not heard: compile it afterwards)"
            )
        if silent:
            raise ValueError(
                f"{', '.join(silent)} took no part in the forward (it may be bypassed, as in nn.MultiheadAttention, "
                "or in eval mode): map it to None in attach()"
            )

    def _guard(self, layers: list[Layer], flags: list[Tensor]) -> Tensor:
        # Whether any update of this step was not finite, []; then all of them are 0, and on a CPU this raises.
        device = layers[0].weight.device
        broken = torch.stack([flag.any().to(device) for flag in flags]).any()
        on_cpu = device.type == "cpu"
        if on_cpu and not broken:
            return broken
        for layer in layers:
            cast("Tensor", layer.weight.grad).masked_fill_(broken.to(layer.weight.device), 0)
        if on_cpu:
            self._step.begin()
            self.check()
        return broken
