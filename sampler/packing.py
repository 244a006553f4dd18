"""Linear layers whose weights lie as a CPU's matrix instructions want them.

PyTorch brings a weight into blocked order at every product. With the few rows of a decode step that costs as much
as the product itself: 20 rows of a bf16 head of 151,936 x 896 take 1.5 times as long, 5 rows twice as long. Here it is done
once, by the operators that torch.compile's CPU backend uses. They are not public: where one is missing or refuses, the
layer is left as it is. Meanwhile a second copy of the weights is held.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

ROWS = 64                                                               # the layout is chosen for about so many rows


@contextmanager
def packed_linears(model: nn.Module) -> Iterator[int]:
    """Within this context the bf16 and float32 `nn.Linear`s of a CPU model use packed copies; yields how many do."""
    packed = []
    try:
        for layer in model.modules():
            if type(layer) is nn.Linear and layer.weight.dtype in (torch.bfloat16, torch.float32) and layer.weight.device.type == "cpu":
                try:
                    weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
                except (RuntimeError, AttributeError):
                    continue                                            # this build or processor has no such layout
                layer.forward = partial(_linear, weight, layer.bias)
                packed.append(layer)
        yield len(packed)
    finally:
        for layer in packed:
            del layer.forward                                           # the class's own shows again


def _linear(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
