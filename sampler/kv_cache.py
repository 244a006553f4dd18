"""The key/value cache: every prompt is stored once, and its samples fork from it.

A *slot* holds one prompt and `width` *places*; a place holds what one sample has written so far. So a fork costs no
copy: a sample takes a free place, and reads the prompt where it lies. One layer, 2 slots of width 3 (`#` in use):

           prefix (slots, K, Tp, D)            suffix (slots, width, K, Ts, D)
    slot 0 [################......]  <----+--  place 0 [#######.....]   sample 0
            prompt A, 16 tokens           +--  place 1 [###.........]   sample 1
                                          +--  place 2 [............]   free: sample 2 has ended
    slot 1 [######################]  <----+--  place 0 [##..........]   sample 0
            prompt B, 22 tokens           ...

One decode step attends twice: all queries of a slot's places, as one matrix, to its prompt (Hydragen, Juravsky et al.
2024, arXiv:2402.05099, section 3.2), and each place's queries to what its own sample wrote. Both parts come with the
log-sum-exp of their scores, by which they merge into what one softmax over both would give. So keys and values are read
once a step, for any number of samples of any mix of prompts.

Prefill is free of padding: the new tokens of several prompts travel as one row, and only attention takes them apart.
The cache also keeps *leads*: text that several prompts begin with, computed once and copied into their slots.

Letters: K key/value heads, G queries per key/value head, D head_dim, P slots, W width, R rows (samples being decoded).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from model import ModelConfig

CALL = 2048                     # what another block costs, in tokens read for nothing
ENTRIES = 1 << 26               # most key entries of a block: on a GPU half-precision keys are widened, in a copy
HIDDEN = -1e30                  # added to a score that does not count; finite, so that a part may be hidden all over


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
    needed: int                                                         # tokens read that are no padding

    @property
    def slots(self) -> slice:
        return slice(self.start, self.stop)

    def joined(self, other: "Block") -> "Block":
        """This block and the one behind it as one."""
        return Block(self.start, other.stop, max(self.prefix, other.prefix), max(self.suffix, other.suffix),
                     self.needed + other.needed)


@dataclass(frozen=True)
class DecodedRows:
    """The samples that are decoded: row r is the one at places[r] = (slot, place)."""

    slots: list[int]                                                    # of each row
    first: int                                                          # slots from here
    last: int                                                           # to before here are computed
    prompt: Tensor                                                      # (P,) prompt tokens of those slots
    index: tuple[Tensor, Tensor]                                        # (R,) slot and (R,) place
    place: Tensor | None                                                # (R,) which of the P W places a row has
    row: Tensor | None                                                  # (P W,) whose it is, or any; None: row r has r


class KVCache:
    """Keys and values of all layers; `layers[i].attend` is what the model calls.

    Before each forward pass say what its tokens are: `begin_prefill(pieces)` or `begin_decode(...)`.
    """

    def __init__(self, config: "ModelConfig", *, slots: int, width: int, prefix_length: int, suffix_length: int,
                 dtype: torch.dtype, device: torch.device) -> None:
        self.slots, self.width, self.device = slots, width, device
        self.prefix_length, self.suffix_length = prefix_length, suffix_length
        self.lengths = [0] * slots                                      # prompt tokens stored per slot
        K, D = config.num_key_value_heads, config.head_dim
        self.layers = [LayerCache(self, K, D, dtype) for _ in range(config.num_hidden_layers)]
        self.leads: list[list[tuple[Tensor, Tensor]]] = []              # per lead and layer: twice (K, T, D)
        self.pieces: list[Piece] = []                                   # of a prefill pass
        self.rows: DecodedRows | None = None                            # of decode passes
        self.blocks: list[Block] = []
        self.written = torch.empty(0, dtype=torch.int64, device=device)                              # (R,)
        self.masks: dict = {}                                           # of this pass, made once for all layers

    @staticmethod
    def bytes_per_token(config: "ModelConfig", dtype: torch.dtype) -> int:
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
        self.leads.append([(layer.prefix_k[slot, :, :n].clone(), layer.prefix_v[slot, :, :n].clone())
                           for layer in self.layers])

    def lead_length(self, lead: int) -> int:
        """Its tokens."""
        return self.leads[lead][0][0].shape[1]

    def occupy(self, slot: int, lead: int | None = None) -> None:
        """Let a new prompt into `slot`; it begins with this lead, if any."""
        self.lengths[slot] = n = 0 if lead is None else self.lead_length(lead)
        if lead is not None:
            for layer, (keys, values) in zip(self.layers, self.leads[lead]):
                layer.prefix_k[slot, :, :n] = keys
                layer.prefix_v[slot, :, :n] = values

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
        slot, place = torch.tensor(places, device=self.device).unbind(1)
        at = (slot - first) * self.width + place
        row = torch.zeros((last - first) * self.width, dtype=torch.int64, device=self.device)
        row[at] = torch.arange(len(places), device=self.device)
        as_they_come = [(first + i // self.width, i % self.width) for i in range(len(row))] == places
        moves = (None, None) if as_they_come else (at, row)
        self.rows = DecodedRows(slots, first, last, prompt, (slot, place), *moves)

    def begin_decode(self, written: Tensor, stored: Sequence[int]) -> None:
        """The next forward pass is (R, 1): row r's token comes behind the written[r] that it has stored.

        `stored`: the same on the host.
        """
        self.pieces, self.masks = [], {}
        self.written, self.blocks = written, self._cut(stored)

    def _cut(self, stored: Sequence[int]) -> list[Block]:
        """The slots from first to last in blocks, each as long as its longest prompt and its longest sample.

        A slot joins the block before it where the padding then costs less than another block would. Free slots count
        for nothing.
        """
        layer, first, last = self.layers[0], self.rows.first, self.rows.last
        longest = [0] * (last - first)                                  # per slot, with the token that comes
        for slot, n in zip(self.rows.slots, stored):
            longest[slot - first] = max(longest[slot - first], n + 1)
        blocks: list[Block] = []
        for slot, own in enumerate(longest):
            if not own:
                continue
            prompt = self.lengths[first + slot]
            alone = Block(slot, slot + 1, prompt, own, prompt + self.width * own)
            joined = blocks[-1].joined(alone) if blocks else alone
            tokens = (joined.stop - joined.start) * (joined.prefix + self.width * joined.suffix)
            if blocks and tokens <= joined.needed + CALL and tokens * layer.K * layer.D <= ENTRIES:
                blocks[-1] = joined
            else:
                blocks.append(alone)
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

    def decode_masks(self, window: int | None, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        """Per block what to add to the scores, 0 or HIDDEN: (P, 1, 1 or W, prefix) and (P W, 1, 1, suffix).

        W: under a window every place of a slot sees a prefix of its own.
        """
        if window not in self.masks:
            rows, (slot, place) = self.rows, self.rows.index
            written = torch.zeros(len(rows.prompt), self.width, 1, dtype=torch.int64, device=self.device)
            written[slot - rows.first, place, 0] = self.written
            self.masks[window] = [self._mask(block, written[block.slots], window, dtype) for block in self.blocks]
        return self.masks[window]

    def _mask(self, block: Block, written: Tensor, window: int | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        prompt = self.rows.prompt[block.slots, None, None]
        prefix, suffix = (torch.arange(n, device=self.device) for n in (block.prefix, block.suffix))
        hidden_prefix, hidden_suffix = prefix >= prompt, suffix > written               # (P, 1, prefix), (P, W, suffix)
        if window is not None:
            hidden_prefix = hidden_prefix | (prompt + written - prefix >= window)                    # (P, W, prefix)
            hidden_suffix = hidden_suffix | (written - suffix >= window)
        return (hidden_prefix[:, None].to(dtype) * HIDDEN,
                hidden_suffix.flatten(0, 1)[:, None, None].to(dtype) * HIDDEN)


class LayerCache:
    """One layer's part of the cache. In memory a prefix lies (D, Tp) where ops.py wants it so."""

    def __init__(self, cache: KVCache, K: int, D: int, dtype: torch.dtype) -> None:
        self.cache, self.K, self.D, self.dtype = cache, K, D, dtype
        self.prefix_k, self.prefix_v, self.suffix_k, self.suffix_v = (self._make(shape) for shape in self._shapes())

    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        P, W, Tp, Ts = self.cache.slots, self.cache.width, self.cache.prefix_length, self.cache.suffix_length
        return (P, self.K, Tp, self.D), (P, self.K, Tp, self.D), (P, W, self.K, Ts, self.D), (P, W, self.K, Ts, self.D)

    def _make(self, shape: tuple[int, ...]) -> Tensor:
        """Zeros: unused entries are finite."""
        from model.ops import lies_across
        if len(shape) == 4 and lies_across(self.dtype, self.cache.device):
            P, K, T, D = shape
            return torch.zeros((P, K, D, T), dtype=self.dtype, device=self.cache.device).transpose(2, 3)
        return torch.zeros(shape, dtype=self.dtype, device=self.cache.device)

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
            self.prefix_k[piece.slot, :, piece.start:end] = k[0, :, new]
            self.prefix_v[piece.slot, :, piece.start:end] = v[0, :, new]
            keys, values = self.prefix_k[piece.slot, :, :end][None], self.prefix_v[piece.slot, :, :end][None]
            mask = partial(self.cache.prefill_mask, piece, window)
            parts.append(attend_stored(q[:, :, new], keys, values, scale, window, mask))
        return torch.cat(parts, dim=2)                                                   # (1, H, S, D)

    def _decode(self, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        cache, rows, (slot, place) = self.cache, self.cache.rows, self.cache.rows.index
        R, H, _, D = q.shape
        self.suffix_k[slot, place, :, cache.written] = k[:, :, 0]
        self.suffix_v[slot, place, :, cache.written] = v[:, :, 0]
        places = q[:, :, 0] if rows.row is None else q[:, :, 0].index_select(0, rows.row)            # (P W, H, D)
        queries = places.reshape(-1, cache.width, self.K, H // self.K, D)
        masks = cache.decode_masks(window, torch.promote_types(q.dtype, torch.float32))
        y = torch.empty_like(queries)
        for block, mask in zip(cache.blocks, masks, strict=True):
            y[block.slots] = self._attend_block(block, queries[block.slots], mask, scale)
        y = y.view(-1, H, D)
        return (y if rows.place is None else y.index_select(0, rows.place))[:, :, None]

    def _attend_block(self, block: Block, queries: Tensor, mask: tuple[Tensor, Tensor], scale: float) -> Tensor:
        """Queries (P, W, K, G, D) of a block's slots, what to add to the scores of either part -> the same."""
        from model.ops import attend_part
        P, W, _, G, _ = queries.shape
        first, (hide_prefix, hide_suffix) = self.cache.rows.first, mask
        slots = slice(first + block.start, first + block.stop)
        if hide_prefix.shape[2] > 1:
            hide_prefix = hide_prefix.repeat_interleave(G, dim=2)
        keys, values = (x[slots, :, :block.prefix] for x in (self.prefix_k, self.prefix_v))
        prefix, prefix_sum = attend_part(queries.transpose(1, 2).flatten(2, 3), keys, values, hide_prefix, scale)
        keys, values = (x[slots, :, :, :block.suffix].flatten(0, 1) for x in (self.suffix_k, self.suffix_v))
        suffix, suffix_sum = attend_part(queries.flatten(0, 1), keys, values, hide_suffix, scale)
        by_prefix = prefix_sum.unflatten(2, (W, G)).transpose(1, 2)                                  # (P, W, K, G)
        prefix = prefix.unflatten(2, (W, G)).transpose(1, 2)
        weight = torch.sigmoid(suffix_sum.view(by_prefix.shape) - by_prefix)[..., None]              # of the suffix
        return torch.lerp(prefix.to(weight.dtype), suffix.view(prefix.shape).to(weight.dtype), weight).to(queries.dtype)
