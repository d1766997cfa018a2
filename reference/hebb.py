"""Plain Hebbian learning, and Oja's rule, whose decay keeps the weights bounded.

    Hebb   ΔW_i = 1/M Σ_m y_mi x_m
    Oja    ΔW_i = 1/M Σ_m y_mi (x_m − y_mi w_i)

D. O. Hebb. The Organization of Behavior. Wiley, 1949.
E. Oja. A simplified neuron model as a principal component analyzer. Journal of Mathematical Biology 15, 1982.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Rule = Callable[[Tensor, Tensor, Tensor], Tensor]  # patches [M, K], w [C, K], responses y [M, C] -> ΔW [C, K]


def hebb(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
    """Return the mean over m of response times input, which grows without bound.

    Shapes: patches [M, K], w [C, K], y [M, C]; the result is shaped like w.

    >>> hebb(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]]), torch.tensor([[3.0]]))
    tensor([[3., 6.]])
    """
    dw = torch.zeros_like(w)
    for x, y_m in zip(patches, y):
        for i in range(len(w)):
            dw[i] += y_m[i] * x
    return dw / len(patches)


def oja(patches: Tensor, w: Tensor, y: Tensor) -> Tensor:
    """Return the mean of response times what is left of the input once the unit has rebuilt it from its response.

    Shapes: patches [M, K], w [C, K], y [M, C]; the result is shaped like w.

    >>> oja(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]]), torch.tensor([[3.0]]))
    tensor([[-24.,   6.]])
    """
    dw = torch.zeros_like(w)
    for x, y_m in zip(patches, y):
        for i in range(len(w)):
            dw[i] += y_m[i] * (x - y_m[i] * w[i])
    return dw / len(patches)
