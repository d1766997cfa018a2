"""The published FastHebb scheme, written anew from its description: what our speed is measured against.

A layer runs twice, once as itself and once over unfolded patches inside the update; patches are copied out (im2col);
updates are matrix products over the whole batch, made for 128 rows of W at a time; HPCA masks a full Gram matrix.
Source: Lagani, Gennaro, Fassold, Amato 2022 (arXiv 2207.03172).

Shapes: x [B, Cin, H, W] or [B, K], w [C, Cin, k, k] or [C, K], patches X [N, K] with N = batch times locations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 128

Update = Callable[..., Tensor]  # of x, w and, of a convolution, its stride


def hpca(
    x: Tensor, w: Tensor, stride: tuple[int, int] = (1, 1), activation: Callable[[Tensor], Tensor] = torch.relu
) -> Tensor:
    """ΔW = (YᵀX − lower(YᵀY) W) / N of a convolution without padding, or a Linear; shaped like `w`."""
    patches, rows = unfolded(x, w, stride), w.flatten(1)
    y = activation(patches @ rows.T)  # [N, C]
    units = torch.arange(len(rows), device=w.device)
    delta = torch.empty_like(rows)
    for start in range(0, len(rows), ROWS):
        group = slice(start, start + ROWS)
        lower = (units <= units[group, None]).to(y.dtype)
        post = y[:, group].T
        delta[group] = post @ patches - (post @ y * lower) @ rows
    return (delta / len(patches)).view_as(w)


def swta(x: Tensor, w: Tensor, stride: tuple[int, int] = (1, 1), temperature: float = 0.02) -> Tensor:
    """ΔW_i = Σ_n r²(x_n − w_i) / Σ_n r, r = softmax(((cos + 1)/2)² / temperature); shaped like `w`."""
    patches, rows = unfolded(x, w, stride), w.flatten(1)
    r = soft_winners(patches, rows, temperature)  # [N, C]
    total = r.sum(0)
    coefficient = r * (r / total.where(total > 0, 1))
    delta = torch.empty_like(rows)
    for start in range(0, len(rows), ROWS):
        group = slice(start, start + ROWS)
        g = coefficient[:, group]
        delta[group] = g.T @ patches - g.sum(0)[:, None] * rows[group]
    return delta.view_as(w)


UPDATES: Mapping[str, Update] = {"hpca": hpca, "swta": swta}


def soft_winners(patches: Tensor, rows: Tensor, temperature: float) -> Tensor:
    """Soft competition across units by raised cosine, [N, C]; the cosine of a zero vector is 0."""
    lengths = patches.norm(dim=1)[:, None] * rows.norm(dim=1)
    cosine = patches @ rows.T / lengths.where(lengths > 0, 1)
    return torch.softmax(((cosine + 1) / 2).square() / temperature, dim=1)


def unfolded(x: Tensor, w: Tensor, stride: tuple[int, int] = (1, 1)) -> Tensor:
    """Patches without padding, contiguous [N, K]."""
    if w.dim() == 2:
        return x
    windows = x.unfold(2, w.shape[2], stride[0]).unfold(3, w.shape[3], stride[1])  # [B, Cin, H', W', k, k], a view
    return windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, w[0].numel())


def call_of(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """What an update is given of a layer that sees x: x with zeros around it where it pads, its weight, its stride.

    Raises ValueError for a convolution that these schemes do not know.
    """
    if isinstance(layer, nn.Linear):
        return x, layer.weight, (1, 1)
    assert isinstance(layer, nn.Conv2d)
    if layer.groups > 1 or max(layer.dilation) > 1 or isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise ValueError(f"{layer}: only plain convolutions are unfolded here")
    rows, columns = layer.padding
    padded = F.pad(x, (columns, columns, rows, rows)) if rows or columns else x
    return padded, layer.weight, (layer.stride[0], layer.stride[1])


def listening(layers: Mapping[str, nn.Module], update: Update) -> None:
    """Let each layer write −ΔW into its weight's gradient whenever it is called, as published."""

    def learn(layer: nn.Module, args: tuple[Tensor, ...], _: Tensor) -> None:
        x, w, stride = call_of(layer, args[0])
        layer.weight.grad = -update(x, w, stride)

    for layer in layers.values():
        layer.register_forward_hook(learn)
