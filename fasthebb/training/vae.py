"""Pre-training by a variational auto-encoder: backpropagation without labels; a net then starts from its encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasthebb.diagnostics import broken_layer
from fasthebb.models.vae import VAE, vae_loss
from fasthebb.training.finetune import schedule
from fasthebb.training.loop import History, Plan, Stateful, Watcher, train
from fasthebb.training.passes import batches_of
from fasthebb.training.sgd import nesterov


def pretrain_vae(
    model: VAE,
    loader: Any,
    *,
    epochs: int,
    lr: float = 1e-3,
    momentum: float = 0.9,
    max_steps: int | None = None,
    watcher: Watcher | None = None,
) -> History:
    """Train an auto-encoder on images alone: SGD with Nesterov momentum, its rate halved ten times in the second half.

    The latent noise comes from torch's global generator, which checkpoints hold.

    Args:
        model: on the device to train on; left in training mode.
        loader: gives (x, labels); the labels are never read.
        max_steps: end after so many steps.
        watcher: what looks on and writes checkpoints.

    Returns:
        One record an epoch: epoch, step, seconds and loss, the squared error plus half the divergence of `vae_loss`.

    Raises:
        ValueError: nothing to train on.
        FloatingPointError: the loss is not finite.
    """
    device = next(model.parameters()).device
    plan = Plan(batches_of(loader), epochs, max_steps)
    optimizer = nesterov(model.parameters(), lr=lr, momentum=momentum)

    def step(number: int, x: Tensor, labels: Tensor) -> dict[str, float | Tensor]:  # noqa: ARG001
        for group in optimizer.param_groups:
            group["lr"] = lr * schedule(number, plan.total)
        x = x.to(device)
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = vae_loss(x, *model(x))
        if not torch.isfinite(loss):
            first = broken_layer(model.state_dict())
            where = "" if first is None else f", from layer {first!r} on"
            raise FloatingPointError(
                f"The loss is {loss.item()} in step {number + 1}{where}: lower the learning rate {lr}, "
                "or check the images"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return {"loss": loss.detach()}

    model.train()
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer}
    return train(loader, plan, step, parts=parts, watcher=watcher, description="pretrain vae").history


def encoder_state(model: VAE) -> dict[str, Tensor]:
    """Copies of the encoder's weights and statistics, by the names that `sixlayer` has for all but its head.

    Load them with `strict=False`.
    """
    return {name: value.clone() for name, value in model.encoder.state_dict().items()}
