"""Many samples of many prompts: prefill once, fork n, decode together, never wait.

`generate` keeps the slots of a cache (see kv_cache.py) busy. Prompts wait in a queue, longest first. Whenever a quarter
of the slots is free, waiting prompts enter: their tokens are prefilled in chunks without padding, and their samples
join the rows that are being decoded. A row that ends leaves at once, and a slot whose samples have all ended is free
for the next prompt. Nothing that happens to one row depends on which others are there, apart from rounding.

Left out on purpose: tensor parallelism, beam search, penalties, speculative decoding.
"""

import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .forecast import Waiting, Work, forecast, survival
from .items import Item, Outcomes, Row, make_items
from .options import Completion, Options
from .packing import affordable, packed_linears
from .passes import Batch, Passes
from .sampling import stream_key
from .slots import Slots

if TYPE_CHECKING:
    from model import Transformer


def generate(model: "Transformer", prompts: Sequence[Sequence[int]], **options: Any) -> list[list[Completion]]:
    """Let the model continue every prompt `num_samples` times.

    A token depends on (seed, item id, sample index, step), the model and the prompt; on the other prompts, their order
    and the options that set the pace it depends only through rounding.

    Args:
        prompts: token ids, one or more per prompt.
        options: see `Options`; `max_new_tokens` is required.

    Returns:
        Per prompt, in order, its completions in sample order.

    Raises:
        ValueError: an option or a prompt is out of range.
    """
    return Engine(model, prompts, Options(**options)).run()


class Engine:
    """The state of one call of `generate`. `run` is the whole story; the methods behind it are its verbs, in order."""

    def __init__(self, model: "Transformer", prompts: Sequence[Sequence[int]], options: Options) -> None:
        self.model, self.options, self.eos = model, options, frozenset(options.eos_ids)
        self.items = make_items(prompts, options)
        self.outcomes = Outcomes(options, len(prompts))
        self.stats = self.outcomes.stats
        self.passes = Passes(model, options, self.stats)
        self.work = Work(model.config, self.passes.dtype.itemsize)
        self.device = self.passes.device
        if self.device.type == "cpu":
            from model.device import prepare_cpu
            prepare_cpu()
        self.prefilling: deque[Item] = deque()     # prompts in a slot, not yet all in the cache
        self.starting: list[Item] = []             # prompts in the cache, with samples and places to begin
        self.rows: list[Row] = []
        self.batch: Batch | None = None            # the same rows as tensors; None: they have changed
        self.slots: Slots | None = None            # the cache and the prompts that wait for it, during `run`

    def run(self) -> list[list[Completion]]:
        began, was_training = time.perf_counter(), self.model.training
        self.model.eval()
        packs = affordable(self.model) if self.options.pack_weights is None else self.options.pack_weights
        packed = packed_linears(self.model) if packs else nullcontext()
        progress = self.outcomes.progress
        try:
            with torch.inference_mode(), packed:
                self.slots = slots = Slots(self.passes, self.items, self.outcomes)
                while slots.queue or self.prefilling or self.starting or self.rows:
                    self.admit()
                    if self.prefilling:
                        self.prefill()
                    self.start()
                    # A large batch goes on while prompts are prefilled; a small one is not worth a pass and waits.
                    places = slots.cache.slots * slots.cache.width
                    if self.rows and (not self.prefilling or 2 * len(self.rows) >= places):
                        self.decode()
                    if progress.due():
                        progress.show(len(self.rows), places, self.seconds_left)
        finally:
            self.model.train(was_training)
            if self.slots is not None and self.slots.cache is not None:
                self.slots.cache.layers.clear()    # they refer to each other: else the memory waits for the collector
        progress.show(0, 0, lambda: 0.0, last=True)
        self.stats.seconds = time.perf_counter() - began
        if self.options.stats is not None:
            self.options.stats.update(asdict(self.stats))
        return self.outcomes.results

    def admit(self) -> None:
        """Let waiting prompts into free slots, once there are enough of those to be worth a prefill pass."""
        slots = self.slots
        if self.rows and 4 * len(slots.free) < slots.cache.slots:
            return
        present = [*(row.item for row in self.rows), *self.prefilling, *self.starting]
        residents = {item.slot: item for item in present if item.live or item.waiting}       # not one just decided
        if slots.recut(residents):
            self.batch = None
        self.prefilling += slots.enter()

    def prefill(self) -> None:
        """One pass over prompts that are entering; those that are all in the cache then may start."""
        began, cache = time.perf_counter(), self.slots.cache
        for _ in range(self.passes.prefill(cache, self.prefilling)):
            self.starting.append(self.prefilling.popleft())
        work = sum(self.work.prompt(piece.start, piece.start + piece.length) for piece in cache.pieces)
        self.outcomes.progress.pace.prefilled(time.perf_counter() - began, work)
        self.outcomes.progress.tokens["prefill"] += sum(piece.length for piece in cache.pieces)

    def start(self) -> None:
        """Draw the first token of every sample that may begin: it needs no pass, the prompt's logits are there."""
        rows, first = [], self.options.first_samples or self.options.num_samples
        ready, self.starting = self.starting, []
        for item in ready:
            while item.places and item.waiting and not (item.waiting[0] == first and item.live):
                sample = item.waiting.popleft()
                rows.append(Row(item, sample, item.places.pop(0), stream_key(self.options.seed, item.item_id, sample)))
                item.live += 1
        if rows:
            tokens, logprobs = self.passes.first_tokens(rows)
            for item in ready:
                item.logits = item.logits if item.waiting else None
            self.rows += rows
            self.batch = None
            self.take(rows, tokens, logprobs)

    def decode(self) -> None:
        """Some tokens for every row, with one transfer to the host at the end."""
        if self.batch is None:
            self.batch = self.passes.seat(self.slots.cache, self.rows)
        began, before = time.perf_counter(), self.stats.new_tokens
        steps, passes, rows = [len(row.ids) for row in self.rows], self.passes.sync_every, len(self.rows)
        stored = sum(len(row.item.prompt) for row in self.rows) + sum(steps)
        self.take(self.rows, *self.passes.decode(self.slots.cache, self.batch, steps))
        work = self.work.decode(passes, passes * rows, passes * stored + rows * passes**2 / 2)
        self.outcomes.progress.pace.decoded(time.perf_counter() - began, work)
        self.outcomes.progress.tokens["decode"] += self.stats.new_tokens - before

    def seconds_left(self) -> float | None:
        """How long the rest will take; None as long as nothing is known."""
        cache, progress = self.slots.cache, self.outcomes.progress
        begun = {item.index: item for item in (*self.prefilling, *self.starting, *(row.item for row in self.rows))}
        waiting = [Waiting(len(item.prompt), len(item.waiting),
                           self.work.prompt(cache.lengths[item.slot], len(item.prompt))) for item in begun.values()]
        waiting += [Waiting(len(item.prompt), self.options.num_samples,
                            self.work.prompt(self.slots.shared(item), len(item.prompt))) for item in self.slots.queue]
        live = [(len(row.item.prompt), len(row.ids)) for row in self.rows]
        share = survival(progress.stopped, progress.drawn + Counter(drawn for _, drawn in live),
                         self.options.max_new_tokens)
        return forecast(self.work, progress.pace, share, live, waiting, self.slots.rows_beside)

    def take(self, rows: list[Row], tokens: Tensor, logprobs: Tensor) -> None:
        """Append the new tokens (R, steps) to their rows, and let the rows that end leave."""
        ended = []
        for row, new, scores in zip(rows, tokens.tolist(), logprobs.tolist()):
            for token, score in zip(new, scores):
                if not isfinite(score):
                    raise ValueError("the model's logits hold NaN or infinity, so no token can be chosen: values "
                                     "overflow in this precision (try bf16 or fp32), or its weights are damaged")
                row.logprob += score
                self.stats.new_tokens += 1
                if token in self.eos:
                    ended.append((row, "stop"))
                    break
                row.ids.append(token)
                if len(row.ids) == self.most_tokens(row):
                    ended.append((row, "length"))
                    break
        for row, reason in ended:
            if row.place >= 0:                     # else its item was decided by a sample before it
                self.end(row, reason)
        if ended:
            self.rows = [row for row in self.rows if row.place >= 0]
            self.batch = None

    def most_tokens(self, row: Row) -> int:
        """The length at which a row ends without a stop token; benchmarks put one of their own here."""
        return self.options.max_new_tokens

    def end(self, row: Row, reason: str) -> None:
        """A sample has ended: its item goes on with one that waits, or is complete."""
        item = row.item
        self.outcomes.end(row, reason, self.rows)
        if item.waiting:
            self.starting.append(item)
        elif item.live == 0:
            self.slots.free.append(item.slot)
            self.outcomes.complete(item)
