"""Cross entropy from hidden states, without the logits of all tokens at one time."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from model.cpu_kernels import pieces
from model.ops import missing_to


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of weighted token losses from hidden states, with logits for `chunk` tokens at a time, softmax in float32.

    The gradient is formed while the chunk's logits exist, so they are computed once and thrown away; what stays is one
    vector per token, as wide as the hidden state (the idea of Hsu et al. 2024, arXiv:2410.10989, section 3.2).
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, labels: Tensor, token_weights: Tensor | None,
                chunk: int) -> Tensor:
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        scales = labels.new_ones(labels.shape, dtype=wide) if token_weights is None else token_weights.to(wide)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight = torch.zeros(weight.shape, dtype=wide, device=weight.device) if need_weight else None
        # One place for every chunk's logits: fresh memory is slow.
        room = hidden.new_empty((min(chunk, hidden.shape[0]), weight.shape[0]))
        for start in range(0, hidden.shape[0], chunk):
            part = slice(start, start + chunk)
            logits = torch.mm(hidden[part], weight.t(), out=room[:hidden[part].shape[0]])       # (chunk, V)
            for few in cache_sized(logits):
                total += loss_and_gradient(logits[few], labels[part][few], scales[part][few],
                                           in_place=need_hidden or need_weight)
            if need_hidden:
                torch.mm(logits, weight, out=d_hidden[part])
            if need_weight:
                d_weight += logits.t() @ hidden[part]
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_total: Tensor):
        d_hidden, d_weight = ctx.saved_tensors
        return (None if d_hidden is None else d_hidden * d_total.to(d_hidden.dtype),
                None if d_weight is None else (d_weight * d_total).to(ctx.weight_dtype), None, None, None)


def loss_and_gradient(logits: Tensor, labels: Tensor, scales: Tensor, in_place: bool) -> Tensor:
    """logits (N, V), labels and scales (N,) -> () float32: sum of scale x cross entropy.

    `in_place` writes the gradient, softmax minus one-hot times the scale, over the logits.
    """
    target, scales = labels[:, None], scales[:, None]
    softmax = logits.to(scales.dtype, copy=True)
    top, right = softmax.amax(-1, keepdim=True), softmax.gather(1, target)
    softmax.sub_(top).exp_()
    z = softmax.sum(-1, keepdim=True)
    losses = z.log() + (top - right)
    if in_place:
        logits.copy_(softmax.mul_(scales / z).scatter_add_(1, target, -scales))
    return (losses * scales).sum()


def cache_sized(logits: Tensor) -> Iterator[slice]:
    """Slices of the rows: on a CPU of what stays in its cache, elsewhere all of them."""
    return pieces(logits) if logits.device.type == "cpu" else iter([slice(None)])


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor, chunk: int = 1024,
                          token_weights: Tensor | None = None) -> Tensor:
    """hidden (N, E), weight (V, E), labels (N,) with none ignored -> () float32: sum of weight x cross entropy."""
    if not torch.is_grad_enabled():     # a Function sees what requires a gradient, not whether one is wanted
        hidden, weight = hidden.detach(), weight.detach()
    missing = missing_to(32, hidden.shape[0], weight)
    if missing:                         # rows that count for nothing, so that products come in few shapes
        token_weights = hidden.new_ones(labels.shape, dtype=torch.float32) if token_weights is None else token_weights
        hidden = F.pad(hidden, (0, 0, 0, missing))
        labels, token_weights = F.pad(labels, (0, missing)), F.pad(token_weights, (0, missing))
    return ChunkedCrossEntropy.apply(hidden, weight, labels, token_weights, chunk)
