"""From logits to a token: temperature, top-k, top-p and the draw, for all rows at once.

One uniform number per token decides, by inversion: the token is the first, in order of token id, at which the
cumulative probability passes the number. Rounding in the logits therefore moves a draw only where the number lies
within rounding of an interval's edge, and the order of equal logits cannot matter. The numbers come from a counter, not
from a generator with a state, so they do not depend on the batch, its order, the process, or a restart.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data.decoding import GREEDY_BELOW

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
BLOCK = 256                                                             # ids per block of the two-level searches
CACHED = 2**20                                                   # float32 numbers that a core's cache about holds


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
    N = weights.shape[1]
    if N > 4 * BLOCK:
        whole = N // BLOCK * BLOCK
        sums = weights[:, :whole].unflatten(1, (-1, BLOCK)).sum(-1)
        sums = torch.cat([sums, weights[:, whole:].sum(-1, keepdim=True)], dim=1)
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
    last = torch.searchsorted(edges, edges[:, -1:].contiguous()).clamp_(max=weights.shape[1] - 1)    # N where it is NaN
    return torch.minimum(torch.searchsorted(edges, target, right=True), last)


def choose(logits: Tensor, u: Tensor, *, temperature: float, top_k: int = 0, top_p: float = 1.0,
           banned: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One token per row: logits (R, V), u (R,) uniform numbers -> tokens (R,) int64 and their log-probabilities (R,).

    Temperature 0 is greedy, and so is one below GREEDY_BELOW. top_k 0 and top_p 1 mean no limit; top-p keeps the
    smallest set of the most probable tokens (after temperature and top-k) whose probability reaches top_p (Holtzman et
    al. 2019, arXiv:1904.09751, section 3.1).
    Ids in `banned` are as if they did not exist. The log-probability returned, in nats, is that of the model itself:
    before temperature, top-k and top-p.
    """
    # A CPU takes a few rows at a time, which stay in its cache from one operation to the next: 2.4 times faster.
    rows = max(1, CACHED // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    parts = [_choose(part.float(), numbers, temperature, top_k, top_p, banned)
             for part, numbers in zip(logits.split(rows), u.split(rows), strict=True)]
    tokens, logprobs = zip(*parts, strict=True)
    return torch.cat(tokens), torch.cat(logprobs)


def _choose(logits: Tensor, u: Tensor, temperature: float, top_k: int, top_p: float,
            banned: Tensor | None) -> tuple[Tensor, Tensor]:
    if banned is not None:
        logits = logits.index_fill(1, banned, -torch.inf)
    probs = logits.softmax(-1)                     # of the model itself
    best = logits.amax(-1, keepdim=True)
    if temperature < GREEDY_BELOW:
        tokens = _largest(logits, 1)
    elif 0 < top_k < logits.shape[1]:
        ids = _largest(logits, top_k).sort(-1).values                   # candidates in order of id
        weights = _limit(((logits.gather(1, ids) - best) / temperature).exp_(), top_p)
        tokens = ids.gather(1, draw(weights, u)[:, None])
    else:
        weights = probs if temperature == 1 else ((logits - best) / temperature).exp_()
        tokens = draw(_limit(weights, top_p), u)[:, None]
    # log sum exp(logits) = best - log(probability of the best)
    logprobs = logits.gather(1, tokens) - best + probs.amax(-1, keepdim=True).log()
    return tokens[:, 0], logprobs[:, 0]


def _limit(weights: Tensor, top_p: float) -> Tensor:
    """Set the weights outside the smallest set that reaches `top_p` to 0; the largest one always stays."""
    if top_p >= 1.0:
        return weights
    total, count = weights.double().sum(-1, keepdim=True), 256
    while True:                                    # the set is nearly always small: sort everything only if it is not
        ids = _largest(weights, min(count, weights.shape[1]))
        reached = weights.gather(1, ids).double().cumsum(-1) / total
        if ids.shape[1] == weights.shape[1] or bool((reached[:, -1] >= top_p).all()):
            kept = torch.cat([torch.ones_like(reached[:, :1], dtype=torch.bool), reached[:, :-1] < top_p], dim=1)
            return torch.zeros_like(weights).scatter_(1, ids, weights.gather(1, ids) * kept)
        count *= 32


def _largest(values: Tensor, k: int) -> Tensor:
    """The indices (R, k) of the k largest of (R, N), in falling order; the lower index first for k = 1.

    They lie in the k blocks with the largest maxima, which are quick to find: 7 times faster than torch.topk.
    """
    N = values.shape[1]
    whole = N // BLOCK * BLOCK
    if 2 * k * BLOCK > N:
        return values.topk(k, dim=-1).indices if k > 1 else values.argmax(-1, keepdim=True)
    maxima = values[:, :whole].unflatten(1, (-1, BLOCK)).amax(-1)
    if whole < N:
        maxima = torch.cat([maxima, values[:, whole:].amax(-1, keepdim=True)], dim=1)
    blocks = maxima.topk(k, dim=-1).indices if k > 1 else maxima.argmax(-1, keepdim=True)
    ids = (blocks.sort(-1).values[:, :, None] * BLOCK + torch.arange(BLOCK, device=values.device)).flatten(1)
    inside = values.gather(1, ids.clamp(max=N - 1)).masked_fill_(ids >= N, -torch.inf)
    best = inside.topk(k, dim=-1).indices if k > 1 else inside.argmax(-1, keepdim=True)
    return ids.gather(1, best)
