"""Number formats of products: float32, TensorFloat-32 or bfloat16, with weights, sums and losses in float32.

In bfloat16 rules look at responses of that format and multiply posts by inputs in it, but add up in float32.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

Precision = Literal["fp32", "tf32", "bf16"]
AnyModule = TypeVar("AnyModule", bound=nn.Module)
_switches: list[tuple[str, bool]] = []  # PyTorch's, as they were before TensorFloat-32


class _Autocast:
    # Hooks of a model, with no reference to it, so that they can be copied with it.

    def __init__(self, device: str) -> None:
        self.device = device
        self.entered: list[torch.autocast] = []

    def begin(self, _module: nn.Module, _args: Any) -> None:
        context = torch.autocast(self.device, torch.bfloat16)
        context.__enter__()  # type: ignore[no-untyped-call]
        self.entered.append(context)

    def end(self, _module: nn.Module, _args: Any, out: Any) -> Any:
        self.entered.pop().__exit__(None, None, None)
        if isinstance(out, Tensor):
            return out.float()
        return tuple(part.float() for part in out) if isinstance(out, tuple) else out


def calculate_in(model: AnyModule, precision: Precision) -> AnyModule:
    """Let every forward of a model calculate in a number format from now on; what it returns is float32.

    With "bf16" convolutions and matrix products run under autocast, backward and those of rules too: some times faster
    on GPUs and on CPUs with instructions for it (AMX), and of no use on others; relative errors of 1e-2 are usual.
    "tf32" switches, for the whole process, all float32 products on GPUs with instructions for it to TensorFloat-32,
    those of rules too: relative errors of 1e-3. The next call for another format puts the switches back, and otherwise
    leaves them as they are.
    """
    if precision == "tf32":
        _switches.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    elif _switches:
        matmul, cudnn = _switches[0]
        _switches.clear()
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn
    if precision == "bf16":
        hooks = _Autocast(next(model.parameters()).device.type)
        model.register_forward_pre_hook(hooks.begin)
        model.register_forward_hook(hooks.end, always_call=True)
    return model
