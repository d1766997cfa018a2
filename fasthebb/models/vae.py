"""The variational auto-encoder to compare with: the same encoder, pre-trained without labels by backprop.

The encoder is the six-layer net without its head; two heads to the latent mean and log-variance; the decoder mirrors
the encoder, 256→4096→2304 and then transposed convolutions, undoing max-pools with the encoder's indices.
Source: Kingma & Welling 2014; the shape of the net as in Lagani et al. 2022 (arXiv 2207.03172).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fasthebb.models.sixlayer import SixLayer, sixlayer

LATENT = 256

Pools = list[tuple[Tensor, torch.Size]]  # of each max-pool, in the encoder's order: its indices, the size it was given


class VAE(nn.Module):
    """Images [N, channels, H, W] to (reconstruction of that shape, latent mean [N, 256], latent log-variance [N, 256]).

    `encoder` has the keys of `sixlayer` up to bn5, so that its state dict starts a fine-tuning of that net.
    """

    def __init__(self, encoder: SixLayer) -> None:
        super().__init__()
        (fc,) = (module for module in encoder if isinstance(module, nn.Linear))
        self.encoder = encoder
        self.mean = nn.Linear(fc.out_features, LATENT)
        self.log_variance = nn.Linear(fc.out_features, LATENT)
        self.decoder = nn.Sequential(
            *_dense(LATENT, fc.out_features), *_dense(fc.out_features, fc.in_features), *_mirrored(encoder, fc)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden, pools = self.encode(images)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        latent = torch.addcmul(mean, torch.randn_like(mean), (0.5 * log_variance).exp())
        return self.decode(latent, pools), mean, log_variance

    def encode(self, images: Tensor) -> tuple[Tensor, Pools]:
        """Return the 4096 features [N, 4096] of images, and what `decode` needs to undo the max-pools."""
        x = images
        pools: Pools = []
        for module in self.encoder:
            if isinstance(module, nn.MaxPool2d):
                size = x.shape[-2:]
                x, indices = F.max_pool2d(x, module.kernel_size, return_indices=True)
                pools.append((indices, size))
            else:
                x = module(x)
        return x, pools

    def decode(self, latent: Tensor, pools: Pools) -> Tensor:
        """Return the images [N, channels, H, W] of latent vectors [N, 256], with `pools` as `encode` returned them."""
        x = latent
        left = list(pools)
        for module in self.decoder:
            if isinstance(module, nn.MaxUnpool2d):
                indices, size = left.pop()
                x = module(x, indices, list(size))
            else:
                x = module(x)
        return x


def vae(*, channels: int = 3, image_size: int = 32, width: float = 1.0, forward: str = "relu") -> VAE:
    """Build the VAE around the backprop six-layer net; arguments, units and errors as in `sixlayer`."""
    net = sixlayer(channels=channels, image_size=image_size, width=width, forward=forward, twin="backprop")
    headless = list(net.named_children())[: -len(("dropout", "fc6"))]
    return VAE(SixLayer(OrderedDict(headless)))


def vae_loss(images: Tensor, reconstruction: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean squared error plus half the Kullback–Leibler divergence from N(0, 1): a scalar.

    The error is averaged over all pixels; the divergence is summed over the latent variables and averaged over images.
    """
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
    return F.mse_loss(reconstruction, images) + 0.5 * divergence


def _dense(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """A hidden Linear of the decoder with what follows it."""
    return nn.Linear(inputs, outputs, bias=False), nn.ReLU(), nn.BatchNorm1d(outputs)


def _mirrored(encoder: SixLayer, fc: nn.Linear) -> Iterator[nn.Module]:
    """The decoder's convolutional part: from the flat input of `fc` back to images."""
    stages: list[tuple[nn.Conv2d, nn.MaxPool2d | None]] = []  # each convolution, and the pool just before it
    pool: nn.MaxPool2d | None = None
    for module in encoder:
        if isinstance(module, nn.MaxPool2d):
            pool = module
        elif isinstance(module, nn.Conv2d):
            stages.append((module, pool))
            pool = None
    channels = stages[-1][0].out_channels
    side = round((fc.in_features // channels) ** 0.5)
    yield nn.Unflatten(1, (channels, side, side))
    for conv, pool in reversed(stages):
        kernel = (conv.kernel_size[0], conv.kernel_size[1])
        yield nn.ConvTranspose2d(conv.out_channels, conv.in_channels, kernel, bias=False)
        if conv is not stages[0][0]:
            yield nn.ReLU()
        if pool is not None:
            yield nn.MaxUnpool2d(pool.kernel_size)
        yield nn.BatchNorm2d(conv.in_channels)
