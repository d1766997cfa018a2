"""SGD with Nesterov momentum, as every stage by gradients has it."""

from __future__ import annotations

import torch
from torch.optim.optimizer import ParamsT


def nesterov(parameters: ParamsT, *, lr: float, momentum: float, weight_decay: float = 0.0) -> torch.optim.SGD:
    """PyTorch's SGD in its fused form, which passes over the weights once; plain SGD where momentum is 0.

    On a CPU a step of the optimizer takes about a sixth of the time that the default form takes.
    """
    optimizer = torch.optim.SGD(
        parameters, lr=lr, momentum=momentum, nesterov=momentum > 0, weight_decay=weight_decay, fused=True
    )
    if momentum > 0:  # the fused form fails on weights whose first gradient comes later than that of others
        for group in optimizer.param_groups:
            for weights in group["params"]:
                optimizer.state[weights]["momentum_buffer"] = torch.zeros_like(weights)
    return optimizer
