"""LoRALinear: a frozen linear layer plus a trained low-rank update (Hu et al. 2021, arXiv:2106.09685, section 4.1).

The merged weight W + (alpha / rank) B A is never formed while training, and no gradient is ever computed for W: the
backward pass below is written out, so that the cost of a layer is 2 flops per frozen weight and token forward and 2
backward (a fully trained layer pays 2 + 4). Leaves out: which layers are wrapped, and files (adapter.py).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRankDown(torch.autograd.Function):
    """(x, A) -> (z = x A^T, x). The second output lets `FrozenPlusLowRank` hand its dx back to be added to in place."""

    @staticmethod
    def forward(ctx, x: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:         # x (N, in), A (rank, in) float32
        ctx.save_for_backward(x)
        ctx.A = A
        passed_on = x.view_as(x)
        if not ctx.needs_input_grad[0]:                                      # first block: nobody wants dx
            ctx.mark_non_differentiable(passed_on)
        return x @ A.to(x.dtype).t(), passed_on

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dz: Tensor, dx: Tensor | None) -> tuple[Tensor | None, Tensor]:
        (x,) = ctx.saved_tensors
        dA = (dz.t() @ x).to(ctx.A.dtype)
        return (dx.addmm_(dz, ctx.A.to(dz.dtype)) if ctx.needs_input_grad[0] else None), dA


class FrozenPlusLowRank(torch.autograd.Function):
    """(x, z, B) -> y = x W^T + b + scale z B^T, with gradients for x, z and B only.

    W, B and z are kept on `ctx` itself and not through `save_for_backward`: activation checkpointing then has nothing
    to recompute for this function, stops before its product, and so never repeats the last (and largest) matmul of a
    block. z is `rank` wide: keeping it costs 2 rank bytes a token in half precision.
    """

    @staticmethod
    def forward(ctx, x: Tensor, z: Tensor, B: Tensor, W: Tensor, bias: Tensor | None, scale: float) -> Tensor:
        ctx.z, ctx.B, ctx.W, ctx.scale = z, B, W, scale
        return F.linear(x, W, bias).addmm_(z, B.to(x.dtype).t(), alpha=scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy: Tensor):
        dx = dy @ ctx.W if ctx.needs_input_grad[0] else None
        dz = (dy @ ctx.B.to(dy.dtype)).mul_(ctx.scale)
        dB = (dy.t() @ ctx.z).to(ctx.B.dtype).mul_(ctx.scale)
        return dx, dz, dB, None, None, None


class LoRALinear(nn.Module):
    """y = W x + (alpha / rank) B A x, W frozen, B zero at first (Hu et al. 2021, section 4.1).

    `base` keeps its own dtype (fp16, bf16, fp32); A and B are float32 (float64 over a float64 base) and are cast to the
    dtype of x for the product, so their gradients and the optimizer's work are float32.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"LoRA rank must be 1 or more, got {rank}; to train without LoRA, do not wrap the layer")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"LoRA dropout must be at least 0 and below 1, got {dropout}")
        self.base = base.requires_grad_(False)
        self.rank, self.alpha, self.scale = rank, alpha, alpha / rank
        self.dropout = dropout
        dtype = torch.float64 if base.weight.dtype == torch.float64 else torch.float32
        self.lora_A = nn.Linear(base.in_features, rank, bias=False, device=base.weight.device, dtype=dtype)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False, device=base.weight.device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """A uniform as nn.Linear draws it (PEFT's default), B zero: a fresh adapter changes nothing."""
        bound = 1.0 / math.sqrt(self.base.in_features)
        A = torch.empty(self.lora_A.weight.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            self.lora_A.weight.copy_(A)
            self.lora_B.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:                                 # (..., in) -> (..., out)
        flat = x.reshape(-1, x.shape[-1])
        if not torch.is_grad_enabled() and not self.training:               # sampling: the sum without autograd's calls
            z = flat @ self.lora_A.weight.to(flat.dtype).t()
            y = self.base(flat)                                         # which the sampler may have packed
            y.addmm_(z, self.lora_B.weight.to(flat.dtype).t(), alpha=self.scale)
            return y.view(*x.shape[:-1], -1)
        if self.training and self.dropout > 0.0:
            A = self.lora_A.weight
            z = F.linear(F.dropout(flat, self.dropout), A.to(flat.dtype))
        else:
            z, flat = LowRankDown.apply(flat, self.lora_A.weight)
        y = FrozenPlusLowRank.apply(flat, z, self.lora_B.weight, self.base.weight, self.base.bias, self.scale)
        return y.view(*x.shape[:-1], -1)

    def delta(self) -> Tensor:
        """(out, in) float32 (or wider): what merging adds to the frozen weight."""
        return self.scale * (self.lora_B.weight @ self.lora_A.weight)
