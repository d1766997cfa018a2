"""Batch norm over the images of all ranks: N ranks normalise as one with N times the batch.

torch.nn.SyncBatchNorm does so on accelerators alone; this one also runs over gloo, without gradients and with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fasthebb.distributed import rank, summed, world_size
from fasthebb.models import VariancePreservingBatchNorm1d, VariancePreservingBatchNorm2d
from fasthebb.training.norms import batch_norms


@contextlib.contextmanager
def synchronised(model: nn.Module, *, on: bool = True) -> Iterator[None]:
    """While the block runs, batch norms in training mode take the statistics of all ranks' images; `on` says whether.

    Modules, keys and buffers stay. Every rank must call the model equally often; it may do so on no images.
    """
    norms = batch_norms(model) if on and world_size() > 1 else []
    kinds = [type(norm) for norm in norms]
    for norm, kind in zip(norms, kinds):
        norm.__class__ = type(f"Synchronised{kind.__name__}", (_Synchronised, kind), {})
    try:
        yield
    finally:
        for norm, kind in zip(norms, kinds):
            norm.__class__ = kind


def own_statistics(model: nn.Module) -> list[Tensor]:
    """Running statistics that a training forward reads, where every rank keeps its own: none if synchronised."""
    kinds = VariancePreservingBatchNorm1d | VariancePreservingBatchNorm2d
    own = [norm for norm in batch_norms(model) if isinstance(norm, kinds) and not isinstance(norm, _Synchronised)]
    return [buffer for norm in own for buffer in norm.buffers()]


class _Synchronised(_BatchNorm):
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        mean, var, count = _moments(input)
        self._remember(mean.detach(), var.detach(), count)
        weight: Tensor | None = self.weight
        bias: Tensor | None = self.bias
        if isinstance(self, VariancePreservingBatchNorm1d | VariancePreservingBatchNorm2d):
            weight, bias = self.folded()
        if not torch.is_grad_enabled():
            return F.batch_norm(input, mean, var, weight, bias, eps=self.eps)
        shape = (1, -1, *(1,) * (input.ndim - 2))
        scale = (var + self.eps).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        return torch.addcmul(shift.view(shape), input, scale.view(shape)).to(input.dtype)

    def _remember(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        # Running statistics, as torch keeps them: the variance is the unbiased one.
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            share: float | Tensor = 0.0 if self.momentum is None else self.momentum
            if self.momentum is None:  # all batches so far count alike
                share = self.num_batches_tracked.to(self.running_mean).reciprocal()
            self.running_mean.lerp_(mean.to(self.running_mean), share)
            self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var), share)


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # Mean [C] and variance [C] over all but the channels of all ranks' x, and over how many values each, [].
    others = [dim for dim in range(x.ndim) if dim != 1]
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    values = x.numel() // x.shape[1]
    var, mean = torch.var_mean(wide, others, correction=0) if values else (wide.sum(others), wide.sum(others))
    own = torch.cat([mean, var, mean.new_tensor([values])])
    every = summed(F.pad(own[None], (0, 0, rank(), world_size() - 1 - rank())))  # a row for each rank
    counts = every[:, -1:]
    means, variances = every[:, :-1].chunk(2, 1)
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    return mean, (counts * (variances + (means - mean).square())).sum(0) / count, count
