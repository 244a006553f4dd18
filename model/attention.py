"""Attention over a padding-free row: `Pack` knows where its sequences lie, and takes them apart and back together.

Which kernel attends is chosen in ops.py; this file serves every device and dtype.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class LayerCache(Protocol):
    """One layer of a key/value cache."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        """Store k and v (B, K, S, D), and attend with q (B, H, S, D), to the stored tokens, too -> (B, H, S, D)."""


class Cache(Protocol):
    """A key/value cache as the forward pass sees it; the sampler's is in sampler/kv_cache.py."""

    layers: Sequence[LayerCache]


# Sequences whose lengths differ by no more than this factor attend in one padded batch. A GPU wants few calls. On a CPU
# calls are cheap, and padding costs work and memory: tensors of its sizes also leave gaps that no others fit into.
TOGETHER_ON_GPU, TOGETHER_ON_CPU = 1.5, 1.1


class Pack:
    """Where the sequences of a padding-free row lie, for attention: `lengths` in order, their sum is S.

    Sequences of similar lengths share one padded (n, L) batch, so a row costs few attention calls. On a GPU these are
    never more than 2.25 times the work of the sequences. Computed once, used by every layer.
    """

    def __init__(self, lengths: list[int], device: torch.device) -> None:
        starts = [0, *accumulate(lengths)]
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        together = TOGETHER_ON_CPU if device.type == "cpu" else TOGETHER_ON_GPU
        self.total = starts[-1]
        self.position_ids = torch.cat([torch.arange(n) for n in lengths]).to(device)[None]          # (1, S)
        self.groups: list[Tensor] = []                                  # each (n, L): the row's token at [sequence, i]
        self.back = torch.empty(self.total, dtype=torch.int64)          # (S,): where a token is in the joined groups
        used = 0
        while order:
            longest = lengths[order[0]]
            group = [i for i in order if lengths[i] * together >= longest]
            order = order[len(group):]
            first = torch.tensor([starts[i] for i in group])[:, None]
            last = torch.tensor([starts[i + 1] - 1 for i in group])[:, None]
            index = first + torch.arange(longest)
            real = index <= last
            self.back[index[real]] = used + real.flatten().nonzero()[:, 0]
            self.groups.append(torch.minimum(index, last))
            used += index.numel()
        self.index = torch.cat([group.flatten() for group in self.groups]).to(device)    # (padded tokens,)
        self.back = self.back.to(device)

    def attend(self, attend: Callable[[Tensor, Tensor, Tensor], Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Let `attend` work on each group: q (1, H, S, D), k and v (1, K, S, D) -> (1, H, S, D)."""
        row = [Gathered.apply(x[0].transpose(0, 1), self.index, self.back) for x in (q, k, v)]
        groups = zip(*(x.split([group.numel() for group in self.groups]) for x in row), strict=True)
        parts = [attend(*(x.view(*places.shape, *x.shape[1:]).transpose(1, 2) for x in group))
                 for group, places in zip(groups, self.groups, strict=True)]             # each (n, H, L, D)
        y = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in parts])            # (padded tokens, H, D)
        return Scattered.apply(y, self.back).transpose(0, 1)[None]


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
