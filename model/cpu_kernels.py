"""A CPU's own kernels: backward passes for training, and attention in bfloat16, for prefill, too.

Each class has the plain expression that it equals up to rounding, `plain`, beside it; ops.py chooses which of the two
runs. Work is cut into pieces that stay in the processor's cache, and less is kept for the backward pass.
"""

from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar, Token

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE = 1 << 17                 # values of one piece: half a megabyte in float32, which a core's own cache holds
BLOCK = 64                      # queries of one block of attention


def pieces(x: Tensor, dim: int = 0) -> Iterator[slice]:
    """Slices of dimension `dim` of about PIECE values each."""
    rows = x.shape[dim]
    step = max(1, PIECE * rows // max(1, x.numel()))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def rows_of(x: Tensor) -> Tensor:
    """(..., E) -> (N, E)"""
    return x.reshape(-1, x.shape[-1])


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return x if x.dtype == torch.float64 else x.float()


def repeat_heads(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """k and v (B, K, T, D), a copy for each of the H / K query heads that read them: (B, H, T, D).

    PyTorch's memory-efficient kernel knows no groups.
    """
    groups = q.shape[1] // k.shape[1]
    return (k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)) if groups > 1 else (k, v)


class RMSNormed(torch.autograd.Function):
    """x / rms(x) * weight; keeps x itself and one float32 number per token."""

    @staticmethod
    def plain(x: Tensor, weight: Tensor, eps: float) -> Tensor:                             # (..., E), (E,) -> (..., E)
        return weight * F.rms_norm(at_least_float32(x), x.shape[-1:], None, eps).to(x.dtype)

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
    def plain(gate: Tensor, up: Tensor) -> Tensor:                                          # (..., F)
        return F.silu(gate) * up

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


class Rotated(torch.autograd.Function):
    """RoPE; its backward pass is the rotation by the opposite angle."""

    @staticmethod
    def plain(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:           # (B, heads, S, D), twice (B, 1, S, D/2)
        first, second = at_least_float32(x).chunk(2, dim=-1)            # half-split, as in Hugging Face weights
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)

    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.cos, ctx.sin = cos, sin
        return _rotate(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        return _rotate(dy, ctx.cos, -ctx.sin), None, None


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


class KeepAttention:
    """While entered, `CausalAttention` leaves its results in `results`, or takes them from there (`taking`)."""

    now: ContextVar["KeepAttention | None"] = ContextVar("now", default=None)

    def __init__(self, results: deque[tuple[Tensor, Tensor]], taking: bool) -> None:
        self.results, self.taking = results, taking
        self._before: Token | None = None

    def __enter__(self) -> None:
        self._before = KeepAttention.now.set(self)

    def __exit__(self, *_: object) -> None:
        KeepAttention.now.reset(self._before)


def keep_attention() -> tuple[KeepAttention, KeepAttention]:
    """The two contexts of a checkpointed function: attention's results of its forward pass serve its recomputation.

    What is kept is one vector a token, as wide as q, and a number a head.
    """
    results: deque[tuple[Tensor, Tensor]] = deque()
    return KeepAttention(results, taking=False), KeepAttention(results, taking=True)


def causal_attention(q: Tensor, keys: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """q (B, H, S, D), keys (B, K, D, T), v (B, K, T, D) -> attention (B, H, S, D) and log-sum-exp (B, H, S) in float32.

    The queries are the last S of the T tokens. A block of them at a time: scores and softmax in float32, their product
    with v in v's dtype. The H / K query heads of a key/value head are one matrix: keys and values are never repeated.
    LOG.md has its times beside those of PyTorch's kernel.
    """
    (B, H, S, D), (K, T) = q.shape, v.shape[1:3]
    grouped, y = q.unflatten(1, (K, H // K)), torch.empty_like(q)                       # (B, K, G, S, D)
    keys = keys.float().reshape(B * K, D, T)
    block = max(1, min(BLOCK, (1 << 22) // (B * H * T)))        # the scores of a block: 16 MiB, what is kept when freed
    v, out = v.reshape(B * K, T, D), y.unflatten(1, (K, H // K))
    log_sum = q.new_empty((B, K, H // K, S), dtype=torch.float32)
    for start in range(0, S, block):
        end = min(start + block, S)
        seen, rows = T - S + end, grouped[:, :, :, start:end]
        scores = torch.bmm((rows.float() * scale).reshape(B * K, -1, D), keys[:, :, :seen])
        _hide_future(scores, end - start)
        top = scores.amax(-1)
        probs = torch.softmax(scores, dim=-1)
        log_sum[..., start:end] = (top - probs.amax(-1).log()).view(rows.shape[:-1])
        out[:, :, :, start:end] = torch.bmm(probs.to(v.dtype), v[:, :seen].contiguous()).view(rows.shape)
    return y, log_sum.flatten(1, 2)


def _hide_future(scores: Tensor, rows: int) -> None:
    """-inf where a query may not look: scores (N, G * rows, keys up to the last query's own) of a block of `rows`."""
    own = scores.view(len(scores), -1, rows, scores.shape[-1])[..., -rows:]
    own.masked_fill_(torch.ones(rows, rows, dtype=torch.bool).triu(1), float("-inf"))


class CausalAttention(torch.autograd.Function):
    """Causal attention in bfloat16 by `causal_attention`, with a backward pass of batched matmuls."""

    @staticmethod
    def plain(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:                     # (B, H or K, S, D)
        return F.scaled_dot_product_attention(q, *repeat_heads(q, k, v), is_causal=True, scale=scale)

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Rows filled up to whole blocks: the fewer shapes of products, the fewer kernels oneDNN compiles and keeps."""
        keep = KeepAttention.now.get()
        if keep is not None and keep.taking and keep.results:
            y, log_sum = keep.results.popleft()
        else:
            S = q.shape[2]
            q_, k_, v_ = (_whole_blocks(x) for x in (q, k, v))
            y, log_sum = (x[:, :, :S] for x in causal_attention(q_, k_.transpose(2, 3), v_, scale))
            if keep is not None and not keep.taking:
                keep.results.append((y, log_sum))
        ctx.save_for_backward(q, k, v, y, log_sum)
        ctx.scale = scale
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        """The formulas of FlashAttention-2 (Dao 2023, arXiv:2307.08691, algorithm 2), a block of queries at a time."""
        q, k, v, y, log_sum = ctx.saved_tensors
        real = q.shape[2]
        q, k, v, y, dy = (_whole_blocks(x) for x in (q, k, v, y, dy))
        log_sum = F.pad(log_sum, (0, q.shape[2] - real))
        (B, H, S, D), K = q.shape, k.shape[1]
        # Two more columns make the matmuls subtract log_sum and delta in their float32 sums, before rounding.
        delta = (y.float() * dy.float()).sum(-1)
        q_ = _with_columns(q, -log_sum / ctx.scale).view(B * K, H // K, S, D + 2)
        dy_ = _with_columns(dy, -delta).view(B * K, H // K, S, D + 2)
        k_, v_ = (_with_columns(x, None).view(B * K, S, D + 2) for x in (k, v))
        dq = torch.empty((B * K, H // K, S, D), dtype=q.dtype)
        dk, dv = torch.zeros((2, B * K, S, D), dtype=torch.float32)
        for start in range(0, S, BLOCK):
            end = min(start + BLOCK, S)
            q_rows, dy_rows = (x[:, :, start:end].reshape(B * K, -1, D + 2) for x in (q_, dy_))    # (BK, G rows, D + 2)
            keys, values = k_[:, :end].contiguous(), v_[:, :end].contiguous()       # strides count as shapes do
            p = torch.bmm(q_rows, keys.transpose(1, 2))                              # (scores - log_sum) / scale
            _hide_future(p, end - start)
            p.mul_(ctx.scale).exp_()                                                        # the softmax again
            d_scores = torch.bmm(dy_rows, values.transpose(1, 2)).mul_(p)
            dv[:, :end] += torch.bmm(p.transpose(1, 2), dy_rows[..., :D])
            dq[:, :, start:end] = torch.bmm(d_scores, keys[..., :D]).view(B * K, -1, end - start, D)
            dk[:, :end] += torch.bmm(d_scores.transpose(1, 2), q_rows[..., :D])
        gradients = (dq.mul_(ctx.scale), q), (dk.mul_(ctx.scale), k), (dv, v)
        return *(gradient.to(x.dtype).view(x.shape)[:, :, :real] for gradient, x in gradients), None


def _whole_blocks(x: Tensor) -> Tensor:
    """(B, H, S, D), zeros behind S up to a multiple of BLOCK."""
    return F.pad(x, (0, 0, 0, -x.shape[2] % BLOCK))


def _with_columns(x: Tensor, column: Tensor | None) -> Tensor:
    """(B, H, S, D) -> (B, H, S, D + 2): x, then `column` (B, H, S) as the sum of two values, or ones."""
    out = torch.ones((*x.shape[:3], x.shape[3] + 2), dtype=x.dtype)
    out[..., :-2] = x
    if column is not None:
        high = column.to(x.dtype)
        out[..., -2], out[..., -1] = high, (column - high.float()).to(x.dtype)
    return out
