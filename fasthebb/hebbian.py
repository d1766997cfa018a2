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

from fasthebb.attached import Layer, sum_dtype
from fasthebb.buffer import Buffer
from fasthebb.matching import match
from fasthebb.rules.base import Rule
from fasthebb.summary import Summary
from fasthebb.update import Sums

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
        signal: what supervised and three-factor rules need of the next forward, one entry a sample; None for the rest.
        steps: how many times `write_grad` was called.
    """

    def __init__(self, model: nn.Module, rules: Mapping[str, Rule | None]) -> None:
        self.signal: Tensor | None = None
        self.steps = 0
        self._layers = [Layer(*chosen) for chosen in match(model, rules)]
        taken = [layer.name for layer in self._layers if layer.module in _attached]
        if taken:
            raise ValueError(
                f"{taken[0]!r} is attached already; call detach() on the first handle before attaching again"
            )
        self._order: list[Layer] = []
        self._groups: list[tuple[Buffer, list[Layer]]] = []
        self._sums: dict[Layer, Sums] = {}
        self._unchecked: list[Tensor] = []
        self._hooks = [
            layer.module.register_forward_hook(self._listener(layer), with_kwargs=True) for layer in self._layers
        ]
        _attached.update(layer.module for layer in self._layers)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the attached layers, in the order a forward first called them (until then in the model's)."""
        return tuple(layer.name for layer in self._ordered())

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights that rules train, each once."""
        yield from dict.fromkeys(layer.weight for layer in self._layers)

    def write_grad(self, *, local: float = 1.0, gradient: float = 0.0) -> None:
        """grad ← −local·ΔW + gradient·(the gradient already there).

        ΔW is of all forwards in training mode since the last call, on all ranks.

        Raises:
            ValueError: no layer, or not every layer, was called in training mode since the last call.
            FloatingPointError: a layer's update is not finite; all updates of this step are 0 then.
        """
        self._require_calls()
        with torch.no_grad():
            for buffer, _ in self._groups:
                buffer.reduce()
            broken = self._write(local, gradient)
            self._guard(broken)
            for layer in self._layers:
                layer.remember(self._sums[layer], broken.any())
        self._begin()
        self.steps += 1

    def detach(self) -> None:
        """Take the hooks off: the model is plain again, with its weights as trained."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._groups, self._sums = [], [], {}
        _attached.difference_update(layer.module for layer in self._layers)

    def summary(self) -> Summary:
        """A table of the attached layers: rule, units, fan-in, dead units, norms of weight and last update."""
        self.check()
        return Summary([layer.row() for layer in self._ordered()])

    def state_dict(self) -> dict[str, Any]:
        """What rules remember, for checkpoints between steps; weights are the model's."""
        self.check()
        return {"steps": self.steps, "layers": {layer.name: dict(layer.state) for layer in self._layers}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: it belongs to other layers or other rules.
        """
        mine = {layer.name: sorted(layer.state) for layer in self._layers}
        theirs = {name: sorted(memory) for name, memory in state["layers"].items()}
        if mine != theirs:
            raise ValueError(f"The state is of layers {theirs}, this handle has {mine}; attach the same rules first")
        for layer in self._layers:
            memory = state["layers"][layer.name]
            layer.state = {name: memory[name].to(value.device, value.dtype) for name, value in layer.state.items()}
        self.steps = int(state["steps"])
        self._forget()

    def check(self) -> None:
        """Wait for the device, and raise if a step so far was not finite.

        Raises:
            FloatingPointError: naming rank, layer and likely cause.
        """
        pending, self._unchecked = self._unchecked, []
        for broken in pending:
            self._raise_if(broken)

    def _listener(self, layer: Layer) -> Any:
        def listen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
            if not module.training:
                return
            x = args[0] if args else kwargs["input"]
            with torch.no_grad(), torch.autocast(out.device.type, enabled=False):
                layer.listen(self._sums_of(layer), x.detach(), out.detach(), self.signal)
            if layer not in self._order:
                self._order.append(layer)

        return listen

    def _ordered(self) -> list[Layer]:
        return self._order + [layer for layer in self._layers if layer not in self._order]

    def _require_calls(self) -> None:
        silent = [layer.name for layer in self._layers if not layer.calls]
        if len(silent) == len(self._layers):
            raise ValueError(
                "write_grad() without a forward in training mode since the last one: call model.train() and run a batch"
            )
        if silent:
            raise ValueError(
                f"{', '.join(silent)} took no part in the forward (it may be bypassed, as in nn.MultiheadAttention, "
                "or in eval mode): map it to None in attach()"
            )

    def _write(self, local: float, gradient: float) -> Tensor:
        # Returns which [ranks, layers] were not finite, in the order of self._layers.
        written: set[nn.Parameter] = set()
        for layer in self._layers:
            sums, weight = self._sums[layer], layer.weight
            keep = 1.0 if weight in written else gradient  # tied weights add up
            layer.write(sums, -local, keep)
            written.add(weight)
        device = self._layers[0].module.weight.device
        late = torch.stack([cast("Tensor", layer.update).to(device) for layer in self._layers]).isfinite().logical_not()
        column = {layer: buffer.broken[:, i] for buffer, layers in self._groups for i, layer in enumerate(layers)}
        early = torch.stack([column[layer].to(device) for layer in self._layers], dim=1) != 0
        return early | (late & ~early.any(dim=0))

    def _guard(self, broken: Tensor) -> None:
        if broken.device.type == "cpu":
            if broken.any():
                for parameter in self.parameters():
                    cast("Tensor", parameter.grad).zero_()
                self._begin()
                self._raise_if(broken)
            return
        for parameter in self.parameters():
            grad = cast("Tensor", parameter.grad)
            grad.masked_fill_(broken.any().to(grad.device), 0)
        self._unchecked = [self._unchecked[0] | broken if self._unchecked else broken]

    def _raise_if(self, broken: Tensor) -> None:
        if not broken.any():
            return
        first = next(layer for layer in self._ordered() if broken[:, self._layers.index(layer)].any())
        ranks = broken[:, self._layers.index(first)].nonzero().flatten().tolist()
        where = f"on rank {ranks[0]}, " if len(broken) > 1 and len(ranks) < len(broken) else ""
        if first.module.weight.isfinite().all():
            cause = "its input holds NaN or Inf, or its update overflows: check the images, or lower the learning rate"
        else:
            cause = "its weights are not finite: lower the learning rate and start from the last good checkpoint"
        raise FloatingPointError(f"The update is not finite {where}in layer {first.name!r}: {cause}")

    def _begin(self) -> None:
        for buffer, _ in self._groups:
            buffer.reset()
        for layer in self._layers:
            layer.calls = 0

    def _forget(self) -> None:
        self._groups, self._sums = [], {}
        for layer in self._layers:
            layer.calls = 0

    def _sums_of(self, layer: Layer) -> Sums:
        sums, weight = self._sums.get(layer), layer.weight
        if sums is None or sums.numerator.device != weight.device or sums.numerator.dtype != sum_dtype(weight):
            self._allocate()
        return self._sums[layer]

    def _allocate(self) -> None:
        self._forget()
        kinds: dict[tuple[torch.device, torch.dtype], list[Layer]] = {}
        for layer in self._layers:
            weight = layer.weight
            kinds.setdefault((weight.device, sum_dtype(weight)), []).append(layer)
        with torch.inference_mode(False):
            for (device, dtype), layers in kinds.items():
                for layer in layers:
                    layer.state = {name: value.to(device, dtype) for name, value in layer.state.items()}
                buffer = Buffer([a.units.shape for a in layers], [a.state for a in layers], device, dtype)
                self._groups.append((buffer, layers))
                self._sums.update(zip(layers, buffer.sums))
