"""From logits to a token: temperature, top-k, top-p and the draw, for all rows at once.

One uniform number per token decides, by inversion: the token is the first, in order of token id, at which the cumulative
probability passes the number. Rounding in the logits therefore moves a draw only where the number lies within rounding
of an interval's edge, and the order of equal logits cannot matter. The numbers come from a counter, not from a
generator with a state, so they do not depend on the batch, its order, the process, or a restart.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
BLOCK = 256                                                             # ids per block of the two-level search in `draw`


def stream_key(seed: int, item_id: int | str, sample_index: int) -> int:
    """The 64-bit start of one completion's random numbers; 5 and "5" are different items."""
    text = f"{seed}|{type(item_id).__name__}|{item_id}|{sample_index}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def uniforms(keys: Sequence[int] | np.ndarray, first_steps: Sequence[int] | np.ndarray, count: int = 1) -> np.ndarray:
    """Random numbers in [0, 1): (len(keys), count) float64, one per row and step, each a pure function of (key, step).

    SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators", figure 17) read as a counter:
    number `step` of the stream that starts at `key`. Integer arithmetic on the host, so equal on every machine.
    """
    steps = np.asarray(first_steps, dtype=np.uint64)[:, None] + np.arange(1, count + 1, dtype=np.uint64)[None]
    with np.errstate(over="ignore"):                                    # arithmetic modulo 2^64 is the point
        z = np.asarray(keys, dtype=np.uint64)[:, None] + steps * GOLDEN_GAMMA
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(weights: Tensor, u: Tensor) -> Tensor:
    """weights (R, N) >= 0, not normalised, u (R,) in [0, 1) -> (R,) index, drawn in proportion to the weights.

    Two levels, so that a vocabulary of 150,000 is read once and only its block sums are accumulated.
    """
    R, N = weights.shape
    if N > 4 * BLOCK:
        whole = N // BLOCK * BLOCK
        sums = torch.cat([weights[:, :whole].view(R, -1, BLOCK).sum(-1), weights[:, whole:].sum(-1, keepdim=True)], dim=1)
        edges = sums.double().cumsum(-1)                                                # (R, blocks)
        target = u.double() * edges[:, -1]
        block = torch.searchsorted(edges, target[:, None], right=True).clamp_(max=edges.shape[1] - 1)
        before = torch.where(block > 0, edges.gather(1, (block - 1).clamp_(min=0)), 0.0)
        ids = (block * BLOCK + torch.arange(BLOCK, device=weights.device)).clamp_(max=N - 1)        # (R, BLOCK)
        inside = weights.gather(1, ids).double()
        inside[block * BLOCK + torch.arange(BLOCK, device=weights.device) >= N] = 0.0
        return ids.gather(1, _first_past(inside, target[:, None] - before))[:, 0]
    weights = weights.double()
    return _first_past(weights, u.double()[:, None] * weights.sum(-1, keepdim=True))[:, 0]


def _first_past(weights: Tensor, target: Tensor) -> Tensor:
    """weights (R, N), target (R, 1) -> (R, 1): first index of positive weight whose running sum passes the target."""
    edges = weights.cumsum(-1)
    # Rounding may put the target at or past the last edge: then the last index of positive weight is meant.
    last = torch.searchsorted(edges, edges[:, -1:].contiguous())
    return torch.minimum(torch.searchsorted(edges, target, right=True), last)


def choose(logits: Tensor, u: Tensor | None, *, temperature: float, top_k: int = 0, top_p: float = 1.0) -> tuple[Tensor, Tensor]:
    """One token per row: logits (R, V), u (R,) uniform numbers -> tokens (R,) int64 and their log-probabilities (R,).

    Temperature 0 is greedy. top_k 0 and top_p 1 mean no limit; top-p keeps the smallest set of the most probable tokens
    (after temperature and top-k) whose probability reaches top_p (Holtzman et al. 2019, arXiv:1904.09751, section 3.1).
    The log-probability returned, in nats, is that of the model itself: before temperature, top-k and top-p.
    """
    logits = logits.float()
    if temperature == 0 or u is None:
        tokens = logits.argmax(-1)
        return tokens, _logprob(logits, tokens)
    if 0 < top_k < logits.shape[1]:
        ids = logits.topk(top_k, dim=-1).indices.sort(-1).values        # candidates in order of id
        kept = logits.gather(1, ids)
    else:
        ids, kept = None, logits
    weights = ((kept - kept.amax(-1, keepdim=True)) / temperature).exp_()
    if top_p < 1.0:
        order = torch.sort(weights, dim=-1, descending=True, stable=True)
        share = order.values.double().cumsum(-1) / order.values.double().sum(-1, keepdim=True)
        outside = torch.zeros_like(weights, dtype=torch.bool)
        outside.scatter_(1, order.indices[:, 1:], share[:, :-1] >= top_p)               # the most probable one always stays
        weights = weights.masked_fill_(outside, 0.0)
    tokens = draw(weights, u)
    if ids is not None:
        tokens = ids.gather(1, tokens[:, None])[:, 0]
    return tokens, _logprob(logits, tokens)


def _logprob(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
