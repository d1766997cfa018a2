"""What attached layers have said since the last step: their sums, in the buffers that ranks reduce."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fasthebb.attached import Layer
from fasthebb.buffer import Buffer
from fasthebb.update import Sums


class Step:
    """The step under way, of all layers of a handle.

    Buffers are made when a step begins, one for each device and number format, and kept until these change.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        self._groups: list[tuple[Buffer, list[Layer]]] = []
        self._sums: dict[Layer, Sums] = {}

    def sums_of(self, layer: Layer) -> Sums:
        """What a layer has said; ValueError if it changed device or number format since another one spoke."""
        begins = not any(other.calls for other in self._layers)
        if not all(self._has(other) for other in (self._layers if begins else [layer])):
            if not begins:
                raise ValueError(f"{layer.name!r} changed device or number format in mid-step: call write_grad() first")
            self.forget()
            self._groups = _grouped(self._layers)
            self._sums = {other: sums for buffer, layers in self._groups for other, sums in zip(layers, buffer.sums)}
        return self._sums[layer]

    def reduce(self) -> None:
        """Sum over ranks what the layers that learn have said."""
        for buffer, layers in self._groups:
            buffer.reduce([layer.active for layer in layers])

    def begin(self) -> None:
        """Begin a new step: nobody has said anything."""
        for buffer, _ in self._groups:
            buffer.reset()
        for layer in self._layers:
            layer.calls = 0

    def forget(self) -> None:
        """Begin a new step, and give the buffers back."""
        self._groups, self._sums = [], {}
        self.begin()

    def _has(self, layer: Layer) -> bool:
        sums, weight = self._sums.get(layer), layer.weight
        if sums is None:
            return False
        return sums.numerator.device == weight.device and sums.numerator.dtype == _sum_dtype(weight)


def _grouped(layers: Sequence[Layer]) -> list[tuple[Buffer, list[Layer]]]:
    # A buffer for the layers of each device and number format; what they remember moves there too.
    kinds: dict[tuple[torch.device, torch.dtype], list[Layer]] = {}
    for layer in layers:
        kinds.setdefault((layer.weight.device, _sum_dtype(layer.weight)), []).append(layer)
    groups = []
    with torch.inference_mode(False):
        for (device, dtype), alike in kinds.items():
            for layer in alike:
                layer.state = {name: value.to(device, dtype) for name, value in layer.state.items()}
            buffer = Buffer([a.units.shape for a in alike], [a.state for a in alike], device, dtype)
            groups.append((buffer, alike))
    return groups


def _sum_dtype(weight: Tensor) -> torch.dtype:
    # What a layer's updates are summed in: at least float32.
    return torch.promote_types(weight.dtype, torch.float32)
