"""The published FastHebb scheme, written anew from its description: what our speed is measured against.

A layer runs twice, once as itself and once over unfolded patches inside the update; patches are copied out (im2col);
updates are matrix products over the whole batch, made for 128 rows of W at a time; HPCA masks a full Gram matrix.
Source: Lagani, Gennaro, Fassold, Amato 2022 (arXiv 2207.03172).

Shapes: x [B, Cin, H, W] or [B, K], w [C, Cin, k, k] or [C, K], patches X [N, K] with N = batch times locations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

ROWS = 128

Update = Callable[[Tensor, Tensor], Tensor]


def hpca(x: Tensor, w: Tensor, activation: Callable[[Tensor], Tensor] = torch.relu) -> Tensor:
    """ΔW = (YᵀX − lower(YᵀY) W) / N of a convolution without padding, or a Linear; shaped like `w`."""
    patches, rows = unfolded(x, w), w.flatten(1)
    y = activation(patches @ rows.T)  # [N, C]
    units = torch.arange(len(rows), device=w.device)
    delta = torch.empty_like(rows)
    for start in range(0, len(rows), ROWS):
        group = slice(start, start + ROWS)
        lower = (units <= units[group, None]).to(y.dtype)
        post = y[:, group].T
        delta[group] = post @ patches - (post @ y * lower) @ rows
    return (delta / len(patches)).view_as(w)


def swta(x: Tensor, w: Tensor, temperature: float = 0.02) -> Tensor:
    """ΔW_i = Σ_n r²(x_n − w_i) / Σ_n r, r = softmax(((cos + 1)/2)² / temperature); shaped like `w`."""
    patches, rows = unfolded(x, w), w.flatten(1)
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


def unfolded(x: Tensor, w: Tensor) -> Tensor:
    """Patches of stride 1 without padding, contiguous [N, K]."""
    if w.dim() == 2:
        return x
    windows = x.unfold(2, w.shape[2], 1).unfold(3, w.shape[3], 1)  # [B, Cin, H', W', k, k], a view
    return windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, w[0].numel())


def step(model: nn.Sequential, images: Tensor, update: Update, optimizer: torch.optim.Optimizer) -> None:
    """One training step of all layers but the last Linear, as published: forward, ΔW in each layer, plain SGD."""
    head = [module for module in model if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        x = images
        for module in model:
            y = module(x)
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module is not head:
                module.weight.grad = -update(x, module.weight)
            x = y
    optimizer.step()
