"""Hand-written backward passes of a block's parts, for training; and attention in bfloat16 on a CPU, for prefill, too.

`Gathered` and `Scattered` serve every device. The others serve a CPU; their numbers are, up to rounding, those of the plain expressions
in transformer.py, which stay in use on a GPU, which has kernels of its own, and, attention apart, without gradients. Work is cut into pieces
that stay in the cache, and less is kept for the backward pass.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE = 1 << 17                 # values of one piece: half a megabyte in float32, which a core's own cache holds
BLOCK = 64                      # queries of one block of attention


def usable(x: Tensor) -> bool:
    """Whether x is being trained through on a CPU."""
    return x.device.type == "cpu" and x.requires_grad and torch.is_grad_enabled()


def pieces(x: Tensor, dim: int = 0) -> Iterator[slice]:
    """Slices of dimension `dim` of about PIECE values each."""
    rows = x.shape[dim]
    step = max(1, PIECE * rows // max(1, x.numel()))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def rows_of(x: Tensor) -> Tensor:
    """(..., E) -> (N, E)"""
    return x.reshape(-1, x.shape[-1])


class Gathered(torch.autograd.Function):
    """x[index] (N, ...) where `back[i]` is a place in `index` that holds i, and no other place gets a gradient.

    Indexing's own backward pass must add up repeated indices, which is slow; here the repeats are a pack's padding.
    """

    @staticmethod
    def forward(ctx, x: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.back = back
        return x.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        return dy.index_select(0, ctx.back), None, None


class Scattered(torch.autograd.Function):
    """x[back] (N, ...) where no index repeats."""

    @staticmethod
    def forward(ctx, x: Tensor, back: Tensor) -> Tensor:
        ctx.back, ctx.shape = back, x.shape
        return x.index_select(0, back)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        return dy.new_zeros(ctx.shape).index_copy_(0, ctx.back, dy), None


class RMSNormed(torch.autograd.Function):
    """x / rms(x) * weight; keeps x itself and one float32 number per token."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:                      # (..., E)
        flat = rows_of(x)
        wide = torch.promote_types(x.dtype, torch.float32)
        inverse, y = torch.empty((len(flat), 1), dtype=wide), torch.empty_like(flat)        # inverse: 1 / rms
        for part in pieces(flat):
            piece = flat[part].to(wide)
            inverse[part] = piece.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
            torch.mul((piece * inverse[part]).to(x.dtype), weight, out=y[part])
        ctx.save_for_backward(flat, weight, inverse)
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        flat, weight, inverse = ctx.saved_tensors
        d_flat, dx, wide = rows_of(dy), torch.empty_like(flat), weight.to(inverse.dtype)
        d_weight = torch.zeros_like(wide) if ctx.needs_input_grad[1] else None
        for part in pieces(flat):
            unit = flat[part].to(wide.dtype) * inverse[part]
            d_unit = d_flat[part].to(wide.dtype)
            if d_weight is not None:
                d_weight += (d_unit * unit).sum(0)
            d_unit = d_unit * wide
            along = (d_unit * unit).mean(-1, keepdim=True)              # what the normalisation takes out again
            dx[part] = d_unit.sub_(unit.mul_(along)).mul_(inverse[part])
        return dx.view(dy.shape), None if d_weight is None else d_weight.to(weight.dtype), None


class SwiGLU(torch.autograd.Function):
    """silu(gate) * up; keeps gate and up only."""

    @staticmethod
    def forward(ctx, gate: Tensor, up: Tensor) -> Tensor:                                   # (..., F)
        ctx.save_for_backward(gate, up)
        g, u = rows_of(gate), rows_of(up)
        y = torch.empty_like(g)
        for part in pieces(g):
            torch.mul(F.silu(g[part]), u[part], out=y[part])
        return y.view(gate.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        g, u, d = (rows_of(t) for t in (*ctx.saved_tensors, dy))
        d_gate, d_up = torch.empty_like(g), torch.empty_like(u)
        for part in pieces(g):
            torch.mul(d[part], F.silu(g[part]), out=d_up[part])
            torch.ops.aten.silu_backward.grad_input(d[part] * u[part], g[part], grad_input=d_gate[part])
        return d_gate.view(dy.shape), d_up.view(dy.shape)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, heads, S, D) by the angles of cos and sin (B, 1, S, D/2), in their dtype."""
    y, half = torch.empty_like(x), x.shape[-1] // 2
    wide = torch.promote_types(x.dtype, cos.dtype)
    for part in pieces(x, dim=2):
        c, s = cos[:, :, part], sin[:, :, part]
        first, second = x[:, :, part, :half].to(wide), x[:, :, part, half:].to(wide)
        y[:, :, part, :half] = first * c - second * s
        y[:, :, part, half:] = second * c + first * s
    return y


class Rotated(torch.autograd.Function):
    """RoPE; its backward pass is the rotation by the opposite angle."""

    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.cos, ctx.sin = cos, sin
        return _rotate(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        return _rotate(dy, ctx.cos, -ctx.sin), None, None


def attends_blockwise(dtype: torch.dtype, device: torch.device, window: int | None, tokens: int) -> bool:
    """Whether `causal_attention` serves rows of so many tokens: bfloat16 on a CPU, no window that hides any of them."""
    return dtype == torch.bfloat16 and device.type == "cpu" and (window is None or window >= tokens)


def causal_attention(q: Tensor, keys: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """q (B, H, S, D), keys (B, K, D, T), v (B, K, T, D) -> attention (B, H, S, D) and log-sum-exp (B, H, S) in float32.

    The queries are the last S of the T tokens. A block of them at a time: scores and softmax in float32, their product with v in v's
    dtype. The H / K query heads of a key/value head are one matrix, so keys and values are never repeated. LOG.md has its times beside
    those of PyTorch's kernel.
    """
    (B, H, S, D), (K, T) = q.shape, v.shape[1:3]
    grouped, y = q.unflatten(1, (K, H // K)), torch.empty_like(q)                       # (B, K, G, S, D)
    keys = keys.float().reshape(B * K, D, T)
    block = max(1, min(BLOCK, (1 << 22) // (B * H * T)))                # the scores of a block: 16 MiB, what is kept when freed
    v, out, log_sum = v.reshape(B * K, T, D), y.unflatten(1, (K, H // K)), q.new_empty((B, K, H // K, S), dtype=torch.float32)
    for start in range(0, S, block):
        end = min(start + block, S)
        seen, rows = T - S + end, grouped[:, :, :, start:end]
        scores = torch.bmm((rows.float() * scale).reshape(B * K, -1, D), keys[:, :, :seen])
        _hide_future(scores, end - start)
        top = scores.amax(-1)
        share = torch.softmax(scores, dim=-1)
        log_sum[..., start:end] = (top - share.amax(-1).log()).view(rows.shape[:-1])
        out[:, :, :, start:end] = torch.bmm(share.to(v.dtype), v[:, :seen]).view(rows.shape)
    return y, log_sum.flatten(1, 2)


def _hide_future(scores: Tensor, rows: int) -> None:
    """-inf where a query, one of a block of `rows`, may not look: scores (N, G * rows, keys up to the last query's own)."""
    own = scores.view(len(scores), -1, rows, scores.shape[-1])[..., -rows:]
    own.masked_fill_(torch.ones(rows, rows, dtype=torch.bool).triu(1), float("-inf"))


class CausalAttention(torch.autograd.Function):
    """Causal attention in bfloat16 by `causal_attention`, with a backward pass of batched matmuls.

    `memo` is a list that lives as long as a checkpointed block: the forward pass leaves its result there, and the
    recomputation takes it instead of computing it again (one vector a token, as wide as q).
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, scale: float, memo: list | None) -> Tensor:   # (B, H or K, S, D)
        if memo:
            y, log_sum = memo.pop()
        else:
            y, log_sum = causal_attention(q, k.transpose(2, 3), v, scale)
            if memo is not None:
                memo.append((y, log_sum))
        ctx.save_for_backward(q, k, v, y, log_sum)
        ctx.scale = scale
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        """The formulas of FlashAttention-2 (Dao 2023, arXiv:2307.08691, algorithm 2), a block of queries at a time."""
        q, k, v, y, log_sum = ctx.saved_tensors
        (B, H, S, D), K = q.shape, k.shape[1]
        # Two more columns make the matmuls subtract log_sum and delta in their float32 sums, before rounding.
        delta = (y.float() * dy.float()).sum(-1)
        q_, dy_ = (_with_columns(x, -column).view(B * K, H // K, S, D + 2) for x, column in ((q, log_sum / ctx.scale), (dy, delta)))
        k_, v_ = (_with_columns(x, None).view(B * K, S, D + 2) for x in (k, v))
        dq = torch.empty((B * K, H // K, S, D), dtype=q.dtype)
        dk, dv = torch.zeros((2, B * K, S, D), dtype=torch.float32)
        for start in range(0, S, BLOCK):
            end = min(start + BLOCK, S)
            q_rows, dy_rows = (x[:, :, start:end].reshape(B * K, -1, D + 2) for x in (q_, dy_))    # (B K, G block, D + 2)
            p = torch.bmm(q_rows, k_[:, :end].transpose(1, 2))                              # (scores - log_sum) / scale
            _hide_future(p, end - start)
            p.mul_(ctx.scale).exp_()                                                        # the softmax again
            d_scores = torch.bmm(dy_rows, v_[:, :end].transpose(1, 2)).mul_(p)
            dv[:, :end] += torch.bmm(p.transpose(1, 2), dy_rows[..., :D])
            dq[:, :, start:end] = torch.bmm(d_scores, k_[:, :end, :D]).view(B * K, -1, end - start, D)
            dk[:, :end] += torch.bmm(d_scores.transpose(1, 2), q_rows[..., :D])
        return (*(g.to(x.dtype).view(x.shape) for g, x in ((dq.mul_(ctx.scale), q), (dk.mul_(ctx.scale), k), (dv, v))), None, None)


def _with_columns(x: Tensor, column: Tensor | None) -> Tensor:
    """(B, H, S, D) -> (B, H, S, D + 2): x, then `column` (B, H, S) as the sum of two values, or ones."""
    out = torch.ones((*x.shape[:3], x.shape[3] + 2), dtype=x.dtype)
    out[..., :-2] = x
    if column is not None:
        high = column.to(x.dtype)
        out[..., -2], out[..., -1] = high, (column - high.float()).to(x.dtype)
    return out
