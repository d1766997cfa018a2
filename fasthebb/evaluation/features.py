"""Features of a trained net: what enters a named module, with everything after it left out."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from fasthebb.models.order import eval_mode


def extract(
    model: nn.Module, layer: str, loader: Iterable[tuple[Tensor, Tensor]], *, pool: int | None = None
) -> tuple[Tensor, Tensor]:
    """Collect the input of the module named `layer` over all (x, labels) batches of `loader`.

    Features at depth l are what enters attached layer l + 1. Runs in eval mode (each module's mode is restored) without
    gradients, and stops each forward once it has what it wants. `pool` averages maps [N, C, H, W] to at most pool x
    pool. Returns features float32 [M, F], flattened, and labels int64 [M], both on the model's device.

    Raises ValueError, naming what there is, for an unknown layer or one that the forward does not call, and for an
    empty loader.
    """
    return extract_many(model, [layer], loader, pool=pool)[layer]


def extract_many(
    model: nn.Module,
    layers: Sequence[str],
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    pool: int | Mapping[str, int | None] | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Collect the inputs of several modules in one pass: {layer: what `extract` returns for it}.

    Of a module that a forward calls several times, the first input counts. `pool` may differ by layer. Features are
    held once where the loader has a length. Raises as `extract` does.
    """
    modules = _find(model, layers)
    pools = pool if isinstance(pool, Mapping) else dict.fromkeys(modules, pool)
    for cells in pools.values():
        if cells is not None and cells < 1:
            raise ValueError(f"pool {cells} must be at least 1")
    device = next((t.device for group in (model.parameters(), model.buffers()) for t in group), None)
    batches = len(loader) if isinstance(loader, Sized) else 1
    features = {layer: _Rows(batches) for layer in modules}
    labels: list[Tensor] = []
    capture = _Capture(modules, pools)
    with torch.no_grad(), eval_mode(model), capture:
        for x, y in loader:
            for layer, rows in capture.run(model, x.to(device)).items():
                features[layer].add(rows)
            labels.append(y.to(device))
    if not labels:
        raise ValueError("the loader gave no batch: no features to extract")
    every_label = torch.cat(labels)
    return {layer: (rows.all(), every_label) for layer, rows in features.items()}


class _Rows:
    """Rows [m, F] put together to one tensor; where the number of batches is known, without a second copy."""

    def __init__(self, batches: int) -> None:
        self._batches = batches
        self._table = torch.empty(0, 0)
        self._filled = 0

    def add(self, rows: Tensor) -> None:
        end = self._filled + len(rows)
        if end > len(self._table):  # one row more: the last batch may be larger; memory not filled costs nothing
            grown = rows.new_empty(max(self._batches * len(rows) + 1, 2 * self._filled, end), rows.shape[1])
            if self._filled:
                grown[: self._filled] = self.all()
            self._table = grown
        self._table[self._filled : end] = rows
        self._filled = end

    def all(self) -> Tensor:
        return self._table[: self._filled]


class _Captured(Exception):  # noqa: N818 - it ends a forward that has done its work
    """Every input of a forward is there."""


class _Capture(contextlib.ExitStack):
    """Hooks on modules, while the context lasts, that keep the first input of each."""

    def __init__(self, modules: dict[str, nn.Module], pools: Mapping[str, int | None]) -> None:
        super().__init__()
        self._rows: dict[str, Tensor] = {}
        self._wanted = set(modules)
        self._pools = pools
        for layer, module in modules.items():
            self.callback(module.register_forward_pre_hook(self._hook(layer), with_kwargs=True).remove)

    def run(self, model: nn.Module, x: Tensor) -> dict[str, Tensor]:
        """Forward as far as is needed; float32 [N, F] for each layer."""
        self._rows = {}
        with contextlib.suppress(_Captured):
            model(x)
        if absent := sorted(self._wanted - set(self._rows)):
            raise ValueError(f"the forward does not call {', '.join(absent)}: choose from {_names(model)}")
        return self._rows

    def _hook(self, layer: str) -> Any:
        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if layer not in self._rows:
                self._rows[layer] = _flatten([*args, *kwargs.values()][0], self._pools[layer])
            if len(self._rows) == len(self._wanted):
                raise _Captured

        return keep


def _flatten(x: Tensor, pool: int | None) -> Tensor:
    """[N, ...] -> float32 [N, F], a copy, since a later module may work in place."""
    if pool is not None and x.ndim == 4:
        x = adaptive_avg_pool2d(x, (min(pool, x.shape[2]), min(pool, x.shape[3])))
    return x.flatten(1).to(torch.float32, copy=True)


def _find(model: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    known = dict(model.named_modules(remove_duplicate=False))
    for layer in layers:
        if layer not in known:
            close = difflib.get_close_matches(layer, known, n=1)
            guess = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"the model has no layer {layer!r}: there is {_names(model)}{guess}")
    if not layers:
        raise ValueError(f"no layer given: choose from {_names(model)}")
    return {layer: known[layer] for layer in layers}


def _names(model: nn.Module) -> str:
    return ", ".join(name for name, module in model.named_modules() if not any(module.children()))
