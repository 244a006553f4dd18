"""Find where numbers stop being finite: the first module of a forward pass whose output is not."""

from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Overflow:
    """One module's output that held infinities or NaN. `largest_input`: the largest finite magnitude that came in."""

    module: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    bad_values: int
    largest_input: float

    def __str__(self) -> str:
        hint = "; use bfloat16 or float32 where the device has them" if self.dtype == torch.float16 else ""
        return (f"{self.module}: {self.bad_values} of {prod(self.shape)} output values are not finite ({self.dtype}, "
                f"largest input {self.largest_input:.6g}){hint}")


class OverflowMonitor:
    """`with OverflowMonitor(model) as monitor: model(ids)`; then `monitor.first` is an Overflow, or None.

    Modules are watched in the order in which they finish, so the innermost guilty one is named before the block around
    it. It costs a reduction and a device synchronisation per module: switch it on after a bad step, not always.
    """

    def __init__(self, model: nn.Module) -> None:
        self.first: Overflow | None = None
        self._model = model
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "OverflowMonitor":
        for name, module in self._model.named_modules():
            self._handles.append(module.register_forward_hook(partial(self._watch, name or "(whole model)")))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _watch(self, name: str, _module: nn.Module, inputs: tuple, output: object) -> None:
        if self.first is not None or not isinstance(output, Tensor) or not output.is_floating_point():
            return
        bad = output.numel() - int(torch.isfinite(output).sum())
        if bad:
            came_in = [x.detach().float() for x in inputs if isinstance(x, Tensor) and x.is_floating_point()]
            finite = [x[torch.isfinite(x)].abs() for x in came_in]
            largest = max((float(x.max()) for x in finite if x.numel()), default=0.0)
            self.first = Overflow(name, output.dtype, tuple(output.shape), bad, largest)
