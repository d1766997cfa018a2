"""One Hebbian update of one layer: look, respond, learn, finish.

    y_mi = response(x_m, w_i)        for every patch m and unit i of a group
    ΔW   = rule(x, w, y)             for every group
    ΔW   = finish(ΔW, w)             for the layer

The bias takes no part: a response is a matter of patch and weights alone. ΔW is the direction to add; an optimiser
that descends is given −ΔW as the gradient.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from reference.finishes import Finish
from reference.hebb import Rule
from reference.patches import Layer, fold, patches, unit_weights
from reference.responses import Response, dot


def update(
    layer: Layer, x: Tensor, rule: Rule | Sequence[Rule], *, response: Response = dot, finish: Finish | None = None
) -> Tensor:
    """Return ΔW of `layer` for the input `x`: float64, shaped like `layer.weight`, which is left as it is.

    `rule` is one rule for all groups, or one per group where they differ, as the thresholds of BCM do.
    """
    seen, w = patches(layer, x), unit_weights(layer)
    rules = rule if isinstance(rule, Sequence) else [rule] * len(w)
    dw = [learn(x_g, w_g, respond(x_g, w_g, response)) for learn, x_g, w_g in zip(rules, seen, w, strict=True)]
    return fold(layer, dw if finish is None else finish(dw, w))


def respond(patches: Tensor, w: Tensor, response: Response) -> Tensor:
    """Return the response of every unit to every patch: patches [M, K] and w [C, K] give y [M, C]."""
    y = torch.zeros(len(patches), len(w), dtype=torch.float64)
    for m, x in enumerate(patches):
        for i, w_i in enumerate(w):
            y[m, i] = response(x, w_i)
    return y
