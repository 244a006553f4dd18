"""The key/value cache: every prompt is stored once, and its samples fork from it.

A *slot* holds one prompt and `width` *places*; a place holds what one sample has written so far. So a fork costs no
copy: a sample takes a free place, and reads the prompt where it lies. One layer, 2 slots of width 3 (`#` in use):

           prefix (slots, K, Tp, D)            suffix (slots, K, width, Ts, D)
    slot 0 [################......]  <----+--  place 0 [#######.....]   sample 0
            prompt A, 16 tokens           +--  place 1 [###.........]   sample 1
                                          +--  place 2 [............]   free: sample 2 has ended
    slot 1 [######################]  <----+--  place 0 [##..........]   sample 0
            prompt B, 22 tokens           ...

One decode step multiplies the queries of a slot's places with the prefix as one matrix (Hydragen, Juravsky et al. 2024,
arXiv:2402.05099, section 3.2), each place's query with its own suffix, and takes one softmax over both parts: exact
attention, the prompt read once for all its samples. Hydragen runs two attentions and merges them by log-sum-exp; in
plain PyTorch the one softmax is the same sum with fewer passes.

Prefill is free of padding: the new tokens of several prompts travel as one row, and only attention takes them apart.
The cache also keeps *leads*: text that several prompts begin with, computed once and copied into their slots.

Letters: K key/value heads, G queries per key/value head, D head_dim, P slots, W width, R rows (samples being decoded).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

# Key entries of one block of slots, by device. Half-precision keys are widened: on a CPU the copy stays in its cache,
# on a GPU it stays small.
WIDENED, PLAIN = {"cpu": 1 << 17, "cuda": 1 << 26}, {"cpu": 1 << 20}


@dataclass(frozen=True)
class Piece:
    """The part of a prompt that one prefill pass computes: tokens start .. start + length of the prompt in `slot`."""

    slot: int
    start: int
    length: int


@dataclass(frozen=True)
class Block:
    """Neighbouring slots, counted from the first in use, that one decode step attends to together."""

    start: int
    stop: int
    prefix: int                                                         # prompt tokens of the longest prompt
    suffix: int                                                         # of the longest sample, with the new token

    @property
    def slots(self) -> slice:
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class DecodedRows:
    """The samples that are decoded: row r is the one at places[r] = (slot, place)."""

    slots: list[int]                                                    # of each row
    first: int                                                          # slots from here
    last: int                                                           # to before here are computed
    prompt: Tensor                                                      # (P,) prompt tokens of those slots
    index: tuple[Tensor, Tensor]                                        # (R,) slot and (R,) place


class KVCache:
    """Keys and values of all layers; `layers[i].attend` is what the model calls.

    Before each forward pass say what its tokens are: `begin_prefill(pieces)` or `begin_decode(...)`.
    """

    def __init__(self, config, *, slots: int, width: int, prefix_length: int, suffix_length: int,
                 dtype: torch.dtype, device: torch.device) -> None:
        self.slots, self.width, self.device = slots, width, device
        self.prefix_length, self.suffix_length = prefix_length, suffix_length
        self.lengths = [0] * slots                                      # prompt tokens stored per slot
        K, D = config.num_key_value_heads, config.head_dim
        self.layers = [LayerCache(self, K, D, dtype) for _ in range(config.num_hidden_layers)]
        self.leads: list[list[tuple[Tensor, Tensor]]] = []              # per lead and layer: (K, D, T), (K, T, D)
        self.pieces: list[Piece] = []                                   # of a prefill pass
        self.rows: DecodedRows | None = None                            # of decode passes
        self.blocks: list[Block] = []
        self.written = torch.empty(0, dtype=torch.int64, device=device)                              # (R,)
        self.masks: dict = {}                                           # of this pass, made once for all layers

    @staticmethod
    def bytes_per_token(config, dtype: torch.dtype) -> int:
        """Keys and values of one token in all layers."""
        return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes held at this moment, leads included."""
        leads = sum(t.nbytes for lead in self.leads for pair in lead for t in pair)
        return leads + sum(t.nbytes for layer in self.layers for t in layer.tensors())

    def keep_lead(self, slot: int) -> None:
        """Copy the prompt in `slot` aside as the next lead."""
        n = self.lengths[slot]
        self.leads.append([(layer.prefix_k[slot, ..., :n].clone(), layer.prefix_v[slot, :, :n].clone())
                           for layer in self.layers])

    def occupy(self, slot: int, lead: int | None = None) -> None:
        """Let a new prompt into `slot`; it begins with this lead, if any."""
        self.lengths[slot] = 0
        if lead is not None:
            for layer, (keys, values) in zip(self.layers, self.leads[lead]):
                self.lengths[slot] = keys.shape[-1]
                layer.prefix_k[slot, ..., :keys.shape[-1]] = keys
                layer.prefix_v[slot, :, :keys.shape[-1]] = values

    def resize(self, keep: list[int], slots: int, prefix_length: int) -> None:
        """Cut the memory anew, layer by layer: slot keep[i] becomes slot i, the others are dropped."""
        self.lengths = [self.lengths[slot] for slot in keep] + [0] * (slots - len(keep))
        self.slots, self.prefix_length = slots, prefix_length
        for layer in self.layers:
            layer.resize(keep)

    def begin_prefill(self, pieces: list[Piece]) -> None:
        """The next forward pass is one row (1, S): the tokens of these pieces, one after the other."""
        self.pieces, self.masks = pieces, {}
        for piece in pieces:
            assert piece.start == self.lengths[piece.slot], f"{piece}, but {self.lengths[piece.slot]} tokens are stored"
            self.lengths[piece.slot] += piece.length

    def set_rows(self, places: list[tuple[int, int]]) -> None:
        """Decode these samples from now on: row r is the one at places[r] = (slot, place), no pair twice."""
        slots = [slot for slot, _ in places]
        first, last = min(slots), max(slots) + 1                        # free slots between are computed and dropped
        prompt = torch.tensor(self.lengths[first:last], device=self.device)
        index = torch.tensor(places, device=self.device)
        self.rows = DecodedRows(slots, first, last, prompt, (index[:, 0], index[:, 1]))

    def begin_decode(self, written: Tensor, stored: Sequence[int]) -> None:
        """The next forward pass is (R, 1): row r's token comes behind the written[r] that it has stored.

        `stored`: the same on the host.
        """
        self.pieces, self.masks = [], {}
        self.written, self.blocks = written, self._cut(stored)

    def _cut(self, stored: Sequence[int]) -> list[Block]:
        """The slots from first to last in blocks, each as long as its longest prompt and its longest sample.

        Free slots count for nothing.
        """
        layer, first, last = self.layers[0], self.rows.first, self.rows.last
        limit = (WIDENED if layer.dtype.itemsize < 4 else PLAIN).get(self.device.type, math.inf)
        longest = [0] * (last - first)                                  # per slot, with the token that comes
        for slot, n in zip(self.rows.slots, stored):
            longest[slot - first] = max(longest[slot - first], n + 1)
        blocks: list[Block] = []
        for slot, own in enumerate(longest):
            if not own:
                continue
            prefix, suffix = self.lengths[first + slot], own
            if blocks:
                before = blocks[-1]
                wider = Block(before.start, slot + 1, max(before.prefix, prefix), max(before.suffix, suffix))
                if (slot + 1 - before.start) * (wider.prefix + self.width * wider.suffix) * layer.K * layer.D <= limit:
                    blocks[-1] = wider
                    continue
            blocks.append(Block(slot, slot + 1, prefix, suffix))
        return blocks

    def prefill_mask(self, piece: Piece, window: int | None) -> Tensor | None:
        """(length, start + length), True = may attend; None where plain causal attention says the same."""
        if piece.start == 0 and (window is None or window >= piece.length):
            return None
        key = piece.start, piece.length, window
        if key not in self.masks:
            query = torch.arange(piece.start, piece.start + piece.length, device=self.device)[:, None]
            distance = query - torch.arange(piece.start + piece.length, device=self.device)
            self.masks[key] = (distance >= 0) if window is None else (distance >= 0) & (distance < window)
        return self.masks[key]

    def decode_masks(self, window: int | None, dtype: torch.dtype) -> list[Tensor]:
        """Per block what to add to the scores, 0 or -inf: (P, 1, W, 1, prefix + suffix). No row is masked all over."""
        if window not in self.masks:
            rows, (slot, place) = self.rows, self.rows.index
            written = torch.zeros(len(rows.prompt), self.width, 1, dtype=torch.int64, device=self.device)
            written[slot - rows.first, place, 0] = self.written
            self.masks[window] = [self._mask(block, written[block.slots], window, dtype) for block in self.blocks]
        return self.masks[window]

    def _mask(self, block: Block, written: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
        prompt = self.rows.prompt[block.slots, None, None]
        prefix, suffix = (torch.arange(n, device=self.device) for n in (block.prefix, block.suffix))
        sees_prefix = (prefix < prompt).expand(-1, self.width, -1)                                   # (P, W, prefix)
        sees_suffix = suffix <= written                                                              # (P, W, suffix)
        if window is not None:
            sees_prefix = sees_prefix & (prompt + written - prefix < window)
            sees_suffix = sees_suffix & (written - suffix < window)
        sees = torch.cat([sees_prefix, sees_suffix], dim=-1)
        bias = torch.zeros(sees.shape, dtype=dtype, device=self.device).masked_fill_(~sees, -torch.inf)
        return bias[:, None, :, None]


class LayerCache:
    """One layer's share of the cache. Prefix keys lie (D, Tp), as the product with the queries wants them."""

    def __init__(self, cache: KVCache, K: int, D: int, dtype: torch.dtype) -> None:
        self.cache, self.K, self.D, self.dtype = cache, K, D, dtype
        self.prefix_k, self.prefix_v, self.suffix_k, self.suffix_v = (self._make(shape) for shape in self._shapes())

    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        P, W, Tp, Ts = self.cache.slots, self.cache.width, self.cache.prefix_length, self.cache.suffix_length
        return (P, self.K, self.D, Tp), (P, self.K, Tp, self.D), (P, self.K, W, Ts, self.D), (P, self.K, W, Ts, self.D)

    def _make(self, shape: tuple[int, ...]) -> Tensor:
        return torch.zeros(shape, dtype=self.dtype, device=self.cache.device)   # zeros: unused entries are finite

    def tensors(self) -> tuple[Tensor, ...]:
        return self.prefix_k, self.prefix_v, self.suffix_k, self.suffix_v

    def resize(self, keep: list[int]) -> None:
        for name, shape in zip(("prefix_k", "prefix_v", "suffix_k", "suffix_v"), self._shapes()):
            old, new = getattr(self, name), self._make(shape)
            common = tuple(slice(0, min(a, b)) for a, b in zip(old.shape[1:], shape[1:]))
            for target, source in enumerate(keep):
                new[(target, *common)] = old[(source, *common)]
            setattr(self, name, new)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        """Store k and v (B, K, S, D), already rotated, and attend with q (B, H, S, D) -> (B, H, S, D)."""
        return self._prefill(q, k, v, scale, window) if self.cache.pieces else self._decode(q, k, v, scale, window)

    def _prefill(self, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        from model.ops import attend_stored
        parts, begin = [], 0
        for piece in self.cache.pieces:
            new, end = slice(begin, begin + piece.length), piece.start + piece.length
            begin += piece.length
            self.prefix_k[piece.slot, :, :, piece.start:end] = k[0, :, new].transpose(1, 2)
            self.prefix_v[piece.slot, :, piece.start:end] = v[0, :, new]
            keys, values = self.prefix_k[piece.slot, :, :, :end][None], self.prefix_v[piece.slot, :, :end][None]
            mask = partial(self.cache.prefill_mask, piece, window)
            parts.append(attend_stored(q[:, :, new], keys, values, scale, window, mask))
        return torch.cat(parts, dim=2)                                                   # (1, H, S, D)

    def _decode(self, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        cache, rows, (slot, place) = self.cache, self.cache.rows, self.cache.rows.index
        (R, K, _, D), W, P = k.shape, cache.width, rows.last - rows.first
        self.suffix_k[slot, :, place, cache.written] = k[:, :, 0]
        self.suffix_v[slot, :, place, cache.written] = v[:, :, 0]
        # Scores in float32: Qwen2.5's are in the hundreds and thousands, where a half type's steps are 1 and more.
        # Places without a row keep zeros.
        wide = torch.promote_types(q.dtype, torch.float32)
        queries = q.new_zeros(P, K, W, q.shape[1] // K, D, dtype=wide)
        queries[slot - rows.first, :, place] = (q.to(wide) * scale).view(R, K, -1, D)
        y = torch.empty_like(queries, dtype=q.dtype)
        for block, mask in zip(cache.blocks, cache.decode_masks(window, wide), strict=True):
            y[block.slots] = self._attend_block(block, queries[block.slots], mask, q.dtype)
        return y[slot - rows.first, :, place].reshape(R, -1, 1, D)

    def _attend_block(self, block: Block, queries: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """Queries (P, K, W, G, D) of a block's slots, in float32 or wider, what to add to the scores -> the same."""
        first, t, s = self.cache.rows.first, block.prefix, block.suffix
        slots = slice(first + block.start, first + block.stop)
        prefix = self.prefix_k[slots, :, :, :t].to(queries.dtype)
        suffix = self.suffix_k[slots, :, :, :s].to(queries.dtype)
        scores = queries.new_empty(*queries.shape[:-1], t + s)
        scores[..., :t] = (queries.flatten(2, 3) @ prefix).view(*queries.shape[:-1], t)
        scores[..., t:] = queries @ suffix.transpose(-1, -2)
        probs = torch.softmax(scores.add_(mask), dim=-1).to(dtype)
        y = (probs[..., :t].flatten(2, 3) @ self.prefix_v[slots, :, :t]).view(queries.shape)
        return y.add_(probs[..., t:] @ self.suffix_v[slots, :, :, :s])
