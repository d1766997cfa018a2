"""SoftHebb's rules for its net, by layer.

Source: rates and temperatures of Journé, Garcia Rodriguez, Guo, Moraitis 2023 (arXiv 2209.11883), for deephebb, batches
of 10, a learning rate of 1 and one pass over CIFAR-10.
"""

from __future__ import annotations

from fasthebb.finish import Chain, NormRate, max_abs
from fasthebb.rules import Rule, SoftHebb

# By layer: the rate of a unit of length 0 or 2, and 1/temperature.
SOFTHEBB = {"conv1": (0.08, 1.0), "conv2": (0.005, 0.65), "conv3": (0.01, 0.25)}


def softhebb() -> dict[str, Rule]:
    """The rule of each layer of deephebb."""
    return {
        layer: SoftHebb(1 / inverse, finish=Chain((max_abs, NormRate(rate, 0.5))))
        for layer, (rate, inverse) in SOFTHEBB.items()
    }
