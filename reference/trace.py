"""Földiák's trace rule: competitive learning in which a unit stays active for a while after it won.

    r̄_t  = (1 − δ) r̄_{t−1} + δ r_t                    along the locations t of a sample, from 0
    ΔW_i = Σ_m r̄_mi (x_m − sign(r̄_mi) w_i) / Σ_m |r_mi|

and ΔW_i = 0 for a unit with Σ_m |r_mi| = 0. r are the strengths that a competition gives, as in instar.py.

P. Földiák. Learning invariance from transformation sequences. Neural Computation 3, 1991.
"""

import torch
from torch import Tensor

from reference.hebb import Rule
from reference.instar import Competition


def trace(compete: Competition, delta: float, locations: int) -> Rule:
    """Return the rule for samples of so many `locations`, whose patches come in order, sample after sample.

    >>> from reference.instar import k_winners
    >>> patches, w = torch.eye(2), torch.zeros(2, 2)
    >>> trace(k_winners(1), 0.5, locations=2)(patches, w, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    tensor([[0.2500, 0.3750],
            [0.0000, 0.0000]])
    """

    def rule(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
        dw = torch.zeros_like(w)
        for i in range(len(w)):
            norm, trail = 0.0, 0.0
            for m, x in enumerate(patches):
                r = compete(y[m].tolist())[i]
                trail = (1 - delta) * (0.0 if m % locations == 0 else trail) + delta * r
                dw[i] += trail * x - abs(trail) * w[i]
                norm += abs(r)
            dw[i] = dw[i] / norm if norm > 0 else torch.zeros_like(w[i])
        return dw

    return rule
