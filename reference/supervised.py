"""Learning with a signal: class prototypes, a teacher of deep layers, and a third factor.

    prototypes         ΔW_c = 1/M_c Σ_m (x_m − w_c)            m over the M_c patches of class c; 0 where there is none
    taught             every strength and response of a unit times its teacher t_mi
    modulated          every patch counts m_m times: 1/M Σ_m factor_m (what patch m alone says)
    modulated_instar   ΔW_i = Σ_m factor_m c_mi (x_m − sign(factor_m c_mi) w_i) / Σ_m |r_mi|

t_mi is 1 where i mod classes is the class of patch m, or patch m has none, and 0 elsewhere. A signal has one entry a
patch; a class of −1 means none. c and r are those of `reference.instar`.

G. Lagani, C. Gennaro, H. Fassold, G. Amato. FastHebb: scaling Hebbian training of deep neural networks to ImageNet
level. SISAP 2022 (arXiv 2207.03172).
"""

import torch
from torch import Tensor

from reference.hebb import Rule
from reference.instar import Average, Competition, instar


def prototypes(labels: Tensor) -> Rule:
    """Return the rule by which unit c moves towards the mean of the patches of class c.

    >>> patches, w = torch.tensor([[2.0, 4.0], [4.0, 0.0], [9.0, 9.0]]), torch.ones(2, 2)
    >>> prototypes(torch.tensor([1, 1, -1]))(patches, w, patches @ w.T)
    tensor([[0., 0.],
            [2., 1.]])
    """
    classes: list[int] = labels.tolist()

    def rule(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:  # noqa: ARG001
        dw = torch.zeros_like(w)
        for c in range(len(w)):
            members = [x for x, label in zip(patches, classes) if label == c]
            for x in members:
                dw[c] += (x - w[c]) / len(members)
        return dw

    return rule


def teacher(labels: Tensor, classes: int, units: int) -> list[list[float]]:
    """Return the teacher t of every patch and unit.

    >>> teacher(torch.tensor([1, -1]), 2, 3)
    [[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    return [[1.0 if label in (-1, i % classes) else 0.0 for i in range(units)] for label in labels.tolist()]


def taught(rule: Rule, labels: Tensor, classes: int) -> Rule:
    """Return a rule that sees responses times the teacher: for rules whose activity f(y) is 0 where y is."""

    def learn(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
        t = torch.tensor(teacher(labels, classes, len(w)), dtype=y.dtype)
        return rule(patches, w, y * t)

    return learn


def taught_instar(compete: Competition, average: Average, labels: Tensor, classes: int) -> Rule:
    """Return competitive learning whose strengths are times the teacher, after the competition.

    >>> patches, y = torch.tensor([[4.0, 0.0], [0.0, 2.0]]), torch.ones(2, 2)
    >>> taught_instar(lambda y: y, "plain", torch.tensor([1, -1]), 2)(patches, torch.zeros(2, 2), y)
    tensor([[0., 2.],
            [2., 1.]])
    """

    def learn(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
        t = iter(teacher(labels, classes, len(w)))  # one patch after the other, as the rule turns to them
        return instar(lambda y_m: [r * t_i for r, t_i in zip(compete(y_m), next(t))], average)(patches, w, y)

    return learn


def modulated(rule: Rule, factor: Tensor) -> Rule:
    """Return a rule that is a mean over patches with every patch weighed by its factor.

    >>> from reference.hebb import hebb
    >>> patches, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0], [4.0]])
    >>> modulated(hebb, torch.tensor([3.0, -1.0]))(patches, torch.ones(1, 2), y)
    tensor([[ 3., -2.]])
    """

    def learn(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
        dw = torch.zeros_like(w)
        for m, weight in enumerate(factor.tolist()):
            dw += weight * rule(patches[m : m + 1], w, y[m : m + 1]) / len(patches)
        return dw

    return learn


def modulated_instar(compete: Competition, average: Average, factor: Tensor) -> Rule:
    """Return competitive learning with every patch weighed by its factor; a negative one moves units towards −x.

    >>> patches, y = torch.tensor([[4.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0], [1.0]])
    >>> modulated_instar(lambda y: y, "plain", torch.tensor([1.0, -0.5]))(patches, torch.ones(1, 2), y)
    tensor([[ 1.2500, -1.2500]])
    """

    def learn(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
        dw = torch.zeros_like(w)
        for i in range(len(w)):
            norm = 0.0
            for x, y_m, weight in zip(patches, y.tolist(), factor.tolist()):
                r = compete(y_m)[i]
                c = weight * (r * r if average == "weighted" else r)
                dw[i] += c * x - abs(c) * w[i]
                norm += abs(r)
            dw[i] = dw[i] / norm if norm > 0 else torch.zeros_like(w[i])
        return dw

    return learn
