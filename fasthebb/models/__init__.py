"""Nets of the published experiments, each as a Hebbian and a backprop twin sharing state-dict keys."""

from fasthebb.models.blocks import (
    FORWARDS,
    TWINS,
    Triangle,
    UnitNorm,
    VariancePreservingBatchNorm1d,
    VariancePreservingBatchNorm2d,
    activation,
)
from fasthebb.models.deephebb import DeepHebb, deephebb
from fasthebb.models.order import call_order, trainable_layers
from fasthebb.models.ready import Program, load
from fasthebb.models.registry import NETS, build, head_name
from fasthebb.models.sixlayer import SixLayer, sixlayer
from fasthebb.models.tenlayer import TenLayer, tenlayer
from fasthebb.models.vae import VAE, vae, vae_loss
from fasthebb.models.vgg import VGG, vgg

__all__ = [
    "FORWARDS",
    "NETS",
    "TWINS",
    "VAE",
    "VGG",
    "DeepHebb",
    "Program",
    "SixLayer",
    "TenLayer",
    "Triangle",
    "UnitNorm",
    "VariancePreservingBatchNorm1d",
    "VariancePreservingBatchNorm2d",
    "activation",
    "build",
    "call_order",
    "deephebb",
    "head_name",
    "load",
    "sixlayer",
    "tenlayer",
    "trainable_layers",
    "vae",
    "vae_loss",
    "vgg",
]
