"""Norm, rotary positions, SwiGLU and attention by one name each, and the one place where their kernels are chosen.

Every operation has a plain expression and a CPU kernel that equals it up to rounding, side by side in cpu_kernels.py.

- A GPU runs the plain expressions: they call PyTorch's own kernels, with backward passes of their own.
- A CPU without gradients runs them, too: what the kernels save is work and memory of the backward pass.
- A CPU that trains runs the kernels: autograd through the plain expressions keeps more and reads memory more often.
- Attention in bfloat16 on a CPU runs its kernel with gradients or without: PyTorch's has half of its speed (LOG.md).
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .attention import Pack
from .cpu_kernels import CausalAttention, RMSNormed, Rotated, SwiGLU, causal_attention, keep_attention, repeat_heads


def _trains_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.requires_grad and torch.is_grad_enabled()


def attends_blockwise(dtype: torch.dtype, device: torch.device, window: int | None, tokens: int) -> bool:
    """Whether the CPU's bfloat16 attention serves rows of so many tokens: it knows no window that hides any of them."""
    return dtype == torch.bfloat16 and device.type == "cpu" and (window is None or window >= tokens)


def missing_to(multiple: int, count: int, weight: Tensor) -> int:
    """How many rows to add to `count` for a product with `weight`, so that products come in few shapes.

    oneDNN compiles a kernel of about 1 MB for each shape of a bfloat16 product on a CPU, and keeps 1,024 of them.
    Uneven rows make every pass of a training a shape of its own. Elsewhere 0.
    """
    compiled = weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and torch.is_grad_enabled()
    return -count % multiple if compiled else 0


def filled_up(input_ids: Tensor, lengths: list[int] | None, weight: Tensor) -> tuple[Tensor, list[int] | None]:
    """A pack (1, S) and one more sequence of token 0 behind it, where `missing_to` says so; anything else as it is."""
    missing = 0 if lengths is None else missing_to(128, input_ids.shape[1], weight)
    return (F.pad(input_ids, (0, missing)), [*lengths, missing]) if missing else (input_ids, lengths)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x (..., E) / rms(x) * weight (E,), in float32 (Zhang & Sennrich 2019, arXiv:1910.07467, equation 4)."""
    return (RMSNormed.apply if _trains_on_cpu(x) else RMSNormed.plain)(x, weight, eps)


def apply_rope(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (i, i + D/2) of x (B, heads, S, D) by its position's angle, in float32.

    `rope`: cos and sin, each (B, 1, S, D/2), float32.
    """
    return (Rotated.apply if _trains_on_cpu(x) else Rotated.plain)(x, *rope)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, both (..., F) (Shazeer 2020, arXiv:2002.05202, equation 6)."""
    return (SwiGLU.apply if _trains_on_cpu(gate) else SwiGLU.plain)(gate, up)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, pack: Pack | None = None) -> Tensor:
    """Causal attention without a cache: q (B, H, S, D), k and v (B, K, S, D) -> (B, H, S, D).

    PyTorch's scaled_dot_product_attention takes its fused kernel on a CPU, and on a GPU flash (sm_80 up) or
    memory-efficient (V100, T4) attention: all keep scores and softmax in float32, so fp16 survives logits beyond 65504.
    A window is a boolean mask, and only where it is shorter than the row. A pack's sequences do not see each other.
    """
    if pack is not None:
        return pack.attend(partial(attend, scale=scale, window=window), q, k, v)
    tokens = q.shape[2]
    if attends_blockwise(q.dtype, q.device, window, tokens):
        return CausalAttention.apply(q, k, v, scale)
    if window is None or window >= tokens:
        return CausalAttention.plain(q, k, v, scale)
    position = torch.arange(tokens, device=q.device)
    distance = position[:, None] - position[None, :]
    seen = (distance >= 0) & (distance < window)
    return F.scaled_dot_product_attention(q, *repeat_heads(q, k, v), seen, scale=scale)


def attend_stored(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None,
                  mask: Callable[[], Tensor | None]) -> Tensor:
    """Causal attention of the last S of T tokens that a cache holds, without gradients, by the kernels of `attend`.

    q (1, H, S, D), k and v (1, K, T, D) -> (1, H, S, D). `mask()` is (S, T), True = may attend, or None where S == T
    and no window hides anything.
    """
    if attends_blockwise(q.dtype, q.device, window, v.shape[2]):
        return causal_attention(q, k.transpose(2, 3), v, scale)[0]
    H, K, seen = q.shape[1], k.shape[1], mask()
    # The heads of a key/value head are a sequence of a batch: so they share it without copies. What lies (D, T) would
    # get PyTorch's slow kernel, so that is copied.
    q = q[0].unflatten(0, (K, H // K))
    k, v = (x[0].contiguous()[:, None].expand(-1, H // K, -1, -1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, seen, is_causal=seen is None, scale=scale).flatten(0, 1)[None]


def _half_on_cpu(dtype: torch.dtype, device: torch.device) -> bool:
    return device.type == "cpu" and dtype in (torch.bfloat16, torch.float16)


def lies_across(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether `attend_part` reads keys and values that lie (D, T) in memory sooner than ones that lie (T, D)."""
    return device.type == "cpu" and not _half_on_cpu(dtype, device)


def attend_part(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Attention to a part of the tokens that a query sees, without gradients, and the log-sum-exp of its scores.

    q (B, K, M, D), the M queries that read a key/value head, k and v (B, K, T, D), bias (B, 1, 1 or M, T), added to the
    scores -> (B, K, M, D) and (B, K, M). Scores are in float32 or wider: Qwen2.5's are in the hundreds and thousands,
    where a half type's steps are 1 and more. A half type on a CPU takes PyTorch's flash kernel, which widens nothing
    but the scores; what is read once and multiplied with few queries is faster in two plain products otherwise.
    """
    if _half_on_cpu(q.dtype, q.device):
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=bias, scale=scale)
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = ((q.to(wide) * scale) @ k.to(wide).transpose(2, 3)).add_(bias)
    top, probs = scores.amax(-1), torch.softmax(scores, dim=-1)
    return probs.to(v.dtype) @ v, top - probs.amax(-1).log()


def run(function: Callable[..., Tensor], *inputs: object, recompute: bool) -> Tensor:
    """function(*inputs); `recompute`: only the inputs are kept for the backward pass, which computes the rest again."""
    if not recompute:
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, context_fn=keep_attention)
