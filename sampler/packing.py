"""Linear layers whose weights lie as a CPU's matrix instructions want them.

PyTorch brings a weight into blocked order at every product. With the few rows of a decode step that costs as much as
the product itself: 20 rows of a bf16 head of 151,936 x 896 take 1.5 times as long, 5 rows twice as long. Here it is
done once, by the operators that torch.compile's CPU backend uses. A prefill's many rows take the plain weights. The
operators are not public: where one is missing or refuses, the layer is left as it is. Meanwhile a second copy of the
weights is held.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 64                       # the layout is chosen for about so many rows
TYPES = (torch.bfloat16, torch.float32)         # that the operators take
ADAPTER = (".lora_A", ".lora_B")                # thin: LoRALinear multiplies by them itself
LEAST_COPY = 1 << 26            # bytes: smaller weights stay in the caches, and gain a tenth at most
MOST_ROWS = 256                 # above, as in a prefill, the plain product is as fast or faster


def packing_note(model: nn.Module) -> str:
    """One line where packing is asked for and can do nothing for a model of this device and type; else nothing."""
    weight = model.lm_head.weight
    kind = str(weight.dtype).removeprefix("torch.")
    if weight.device.type != "cpu":
        return f"note: --pack-weights has no effect on {weight.device.type}; only a CPU's weights are packed"
    if weight.dtype not in TYPES:
        return f"note: --pack-weights has no effect on weights in {kind}; bfloat16 and float32 ones are packed"
    return ""


def affordable(model: nn.Module) -> bool:
    """Whether a second copy of the weights is worth having, and takes a quarter of a CPU's memory at most.

    What else uses the memory does not count, so that a command decides alike whenever it is resumed.
    """
    from model.device import built_in_memory
    from model.sharding import is_sharded

    if packing_note(model) or is_sharded(model):
        return False
    copied = sum(layer.weight.nbytes for layer in _packable(model))
    return copied >= LEAST_COPY and 4 * copied <= built_in_memory()


def _packable(model: nn.Module) -> Iterator[nn.Linear]:
    """The layers that can use packed weights, a tied head among them."""
    for name, layer in model.named_modules():
        if (type(layer) is nn.Linear and layer.weight.device.type == "cpu" and layer.weight.dtype in TYPES
                and not name.endswith(ADAPTER)):
            yield layer


@contextmanager
def packed_linears(model: nn.Module) -> Iterator[int]:
    """Within this context the bf16 and float32 `nn.Linear`s of a CPU model use packed copies; yields how many do."""
    packed = []
    try:
        for layer in _packable(model):
            try:
                weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
            except (RuntimeError, AttributeError):
                continue                                                # this build or processor has no such layout
            layer.forward = partial(_linear, layer.weight, weight, layer.bias)
            packed.append(layer)
        yield len(packed)
    finally:
        for layer in packed:
            del layer.forward                                           # the class's own shows again


def _linear(weight: Tensor, packed: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    if x.numel() > MOST_ROWS * x.shape[-1]:
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
