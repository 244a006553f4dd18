"""The model's passes over the cache: prompts into it, and for every row one token after another out of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .items import Item, Row
from .kv_cache import KVCache, Piece
from .options import Options, Stats
from .sampling import choose, uniforms

if TYPE_CHECKING:
    from model import Transformer


@dataclass
class Batch:
    """The rows being decoded, as tensors (R,), for as long as the rows stay the same."""

    keys: np.ndarray                               # of the rows' random numbers
    last: Tensor                                   # the token drawn last, not stored yet
    written: Tensor                                # tokens that a row has stored
    prompt_lengths: Tensor


class Passes:
    """Forward passes, and the choice of tokens from their logits. The counts go into `stats`."""

    def __init__(self, model: "Transformer", options: Options, stats: Stats) -> None:
        weight = model.model.embed_tokens.weight
        self.model, self.options, self.stats = model, options, stats
        self.device, self.dtype = weight.device, weight.dtype
        gpu = self.device.type == "cuda"
        self.chunk = options.prefill_chunk or (8192 if gpu else 1024)
        self.sync_every = options.sync_every or (8 if gpu else 1)
        self.vocab_size = min(options.vocab_size or model.config.vocab_size, model.config.vocab_size)
        banned = sorted({i for i in options.banned_ids if 0 <= i < self.vocab_size} - set(options.eos_ids))
        self.banned = self.tensor(banned) if banned else None
        self.decode_pass = model.hidden_states
        if options.compile_decode:
            self.decode_pass = torch.compile(model.hidden_states, dynamic=True)

    def prefill(self, cache: KVCache, entering: Sequence[Item]) -> int:
        """One pass over at most `chunk` tokens of the prompts that are entering.

        Returns how many of them, from the first on, are in the cache now; those have their logits.
        """
        pieces, ids, positions, ends = [], [], [], []
        for item in entering:
            begin = cache.lengths[item.slot]
            end = min(len(item.prompt), begin + self.chunk - len(ids))
            pieces.append(Piece(item.slot, begin, end - begin))
            ids += item.prompt[begin:end]
            positions += range(begin, end)
            if end == len(item.prompt):
                ends.append(len(ids) - 1)
            if len(ids) == self.chunk:
                break
        cache.begin_prefill(pieces)
        hidden = self.model.hidden_states(self.tensor([ids]), self.tensor([positions]), cache=cache)
        self.stats.prefill_tokens += len(ids)
        self.stats.prefill_passes += 1
        if ends:
            for item, logits in zip(entering, self._logits(hidden[0, ends])):
                item.logits = logits
        return len(ends)

    def first_tokens(self, rows: list[Row]) -> tuple[Tensor, Tensor]:
        """The first token of every row and its log-probability, (R, 1): the prompt's logits are there."""
        u = self._uniforms(np.array([row.key for row in rows], dtype=np.uint64), [0] * len(rows), 1)
        tokens, logprobs = self._choose(torch.stack([row.item.logits for row in rows]), u[:, 0])
        return tokens[:, None], logprobs[:, None]

    def seat(self, cache: KVCache, rows: list[Row]) -> Batch:
        """Let these rows be decoded from now on."""
        cache.set_rows([(row.item.slot, row.place) for row in rows])
        return Batch(keys=np.array([row.key for row in rows], dtype=np.uint64),
                     last=self.tensor([row.ids[-1] for row in rows]),
                     written=self.tensor([len(row.ids) for row in rows]) - 1,
                     prompt_lengths=self.tensor([len(row.item.prompt) for row in rows]))

    def decode(self, cache: KVCache, batch: Batch, steps: list[int]) -> tuple[Tensor, Tensor]:
        """`sync_every` tokens for every row of the batch and their log-probabilities, (R, sync_every).

        `steps`: how many tokens each row has.
        """
        u = self._uniforms(batch.keys, steps, self.sync_every)
        tokens, logprobs = [], []
        for i in range(self.sync_every):
            cache.begin_decode(batch.written, [step - 1 + i for step in steps])
            positions = batch.prompt_lengths + batch.written
            hidden = self.decode_pass(batch.last[:, None], positions[:, None], cache=cache)              # (R, 1, E)
            batch.last, logprob = self._choose(self._logits(hidden[:, 0]), u[:, i])
            batch.written = batch.written + 1
            tokens.append(batch.last)
            logprobs.append(logprob)
        self.stats.decode_steps += self.sync_every
        return torch.stack(tokens, dim=1), torch.stack(logprobs, dim=1)

    def _logits(self, hidden: Tensor) -> Tensor:
        """hidden (R, E) -> logits (R, V), without the rows that only pad the vocabulary."""
        return self.model.lm_head(hidden)[:, :self.vocab_size]

    def _uniforms(self, keys: np.ndarray, steps: list[int], count: int) -> Tensor:
        return torch.from_numpy(uniforms(keys, steps, count)).to(self.device)

    def _choose(self, logits: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        o = self.options
        return choose(logits, u, temperature=o.temperature, top_k=o.top_k, top_p=o.top_p, banned=self.banned)

    def tensor(self, values: list) -> Tensor:
        """The values on the model's device."""
        return torch.tensor(values, device=self.device)
