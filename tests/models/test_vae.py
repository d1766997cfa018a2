"""The variational auto-encoder mirrors its encoder, learns, and hands its encoder on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fasthebb.models import sixlayer, vae, vae_loss


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("image_size", [24, 28, 32, 33])
def test_reconstruction_has_the_images_shape(image_size: int, channels: int) -> None:
    net = vae(channels=channels, image_size=image_size, width=0.05)
    images = torch.randn(3, channels, image_size, image_size)
    reconstruction, mean, log_variance = net(images)
    assert reconstruction.shape == images.shape
    assert mean.shape == log_variance.shape == (3, 256)


def test_published_decoder() -> None:
    with torch.device("meta"):
        net = vae()
    linear = [(m.in_features, m.out_features) for m in net.decoder if isinstance(m, nn.Linear)]
    deconvs = [tuple(m.weight.shape) for m in net.decoder if isinstance(m, nn.ConvTranspose2d)]
    assert linear == [(256, 4096), (4096, 2304)]
    assert deconvs == [(256, 192, 3, 3), (192, 128, 3, 3), (128, 96, 3, 3), (96, 3, 5, 5)]


def test_loss_of_known_values() -> None:
    images = torch.zeros(2, 1, 2, 2)
    zeros = torch.zeros(2, 3)
    assert vae_loss(images, images + 2, zeros, zeros).item() == 4
    assert vae_loss(images, images, zeros + 2, zeros).item() == pytest.approx(0.5 * 0.5 * 3 * 4)
    log_variance = torch.full((2, 3), 1.0)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(zeros, (0.5 * log_variance).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    assert vae_loss(images, images, zeros, log_variance).item() == pytest.approx(0.5 * expected.sum(1).mean().item())


def test_it_learns() -> None:
    torch.manual_seed(0)
    net = vae(width=0.1)
    images = torch.randn(16, 3, 32, 32)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = vae_loss(images, *net(images))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_encoder_starts_a_sixlayer_net() -> None:
    encoder = vae(width=0.05).encoder
    net = sixlayer(width=0.05, twin="backprop")
    missing, unexpected = net.load_state_dict(encoder.state_dict(), strict=False)
    assert missing == ["fc6.weight", "fc6.bias"]
    assert unexpected == []
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encoder.eval()(x), net.eval()[:-2](x))
