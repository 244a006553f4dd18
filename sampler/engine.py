"""Many samples of many prompts: prefill once, fork n, decode together, never wait.

`generate` keeps the slots of a cache (see kv_cache.py) busy. Prompts wait in a queue, longest first. Whenever a quarter
of the slots is free, waiting prompts enter: their tokens are prefilled in chunks without padding, and their samples
join the rows that are being decoded. A row that ends leaves at once, and a slot whose samples have all ended is free
for the next prompt. Nothing that happens to one row depends on which others are there, apart from rounding.

Left out on purpose: tensor parallelism, beam search, penalties, speculative decoding.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from data.decoding import check_temperature

from .kv_cache import KVCache, Piece
from .leads import shared_leads
from .packing import packed_linears
from .progress import Progress
from .sampling import choose, stream_key, uniforms


@dataclass(frozen=True)
class Completion:
    """What one sample wrote.

    `ids` lacks the prompt and the stop token. `logprob` is the mean log-probability in nats of the tokens chosen, the
    stop token included, under the model's own distribution (before temperature, top-k and top-p); 0.0 without a token.
    `finish_reason`: "stop" (a stop token), "length" (max_new_tokens), "cancelled" (its item was decided without it), or
    "refused" (the prompt does not fit).
    """

    ids: list[int]
    logprob: float
    finish_reason: str


@dataclass(frozen=True)
class Options:
    """The options of `generate`."""

    max_new_tokens: int
    num_samples: int = 1
    temperature: float = 0.0                       # 0 is greedy
    top_k: int = 0                                 # 0: all tokens
    top_p: float = 1.0
    seed: int = 0
    eos_ids: Sequence[int] = ()                    # the tokens that end a row
    item_ids: Sequence[int | str] | None = None    # names that outlive the call; default: the index
    vocab_size: int | None = None                  # only ids below it are ever chosen, and none of
    banned_ids: Sequence[int] = ()                 # these, unless they end a row
    on_item: Callable[[int, list[Completion]], None] | None = None     # (index, completions), once an item is complete
    on_sample: Callable[[int, int, list[int]], bool] | None = None     # (index, sample, ids) -> cancel the others?
    first_samples: int | None = None               # begin so many of an item; the others when those ended undecided
    cache_gb: float | None = None                  # in 10^9 bytes; default: half of the free memory, GPU 80%
    max_rows: int = 256                            # samples decoded at once, if the budget allows
    prefill_chunk: int | None = None               # prompt tokens per prefill pass; default 1,024, GPU 8,192
    sync_every: int | None = None                  # decode steps between two looks from the host; default 1, GPU 8
    max_prompt_tokens: int | None = None           # longer prompts do not fit; nor those over the positions or budget
    long_prompts: str = "refuse"                   # what does not fit: "refuse", or "truncate" (keep the last tokens)
    share_leads: bool = True                       # prefill the text that several prompts begin with once
    progress: bool | Callable[[], str] = False     # one line on stderr, kept fresh; a function adds its text to it
    stats: dict | None = None                      # is given the fields of `Stats` at the end
    pack_weights: bool = False                     # on a CPU: decode faster, with a second copy of the weights
    compile_decode: bool = False                   # torch.compile the forward pass of decode steps (for long runs)

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "num_samples", "max_rows", "first_samples", "prefill_chunk", "sync_every",
                     "max_prompt_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        check_temperature(self.temperature)
        if not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ValueError(f"top_p {self.top_p}, top_k {self.top_k}: need 0 < top_p <= 1 and top_k >= 0")
        if self.long_prompts not in ("refuse", "truncate"):
            raise ValueError(f"long_prompts must be 'refuse' or 'truncate', got {self.long_prompts!r}")


@dataclass
class Stats:
    """What one call of `generate` did. Tokens count the stop token, too."""

    items: int = 0
    refused_prompts: int = 0
    truncated_prompts: int = 0
    prompt_tokens: int = 0                         # of the prompts that fit
    prefill_tokens: int = 0                        # computed; the rest was shared
    new_tokens: int = 0
    cancelled_samples: int = 0                     # ended early, or never begun, because their item was decided
    cancelled_tokens: int = 0                      # that those had drawn
    prefill_passes: int = 0
    decode_steps: int = 0
    cache_bytes: int = 0                           # the most the cache ever held
    seconds: float = 0.0


@dataclass
class _Item:
    """One prompt on its way through the engine."""

    index: int
    item_id: int | str
    prompt: list[int]
    lead: int | None = None                        # the shared text it begins with
    slot: int = -1
    places: list[int] = field(default_factory=list)                     # of its slot, the free ones
    waiting: deque[int] = field(default_factory=deque)                  # samples that have not begun
    live: int = 0
    logits: Tensor | None = None                   # (V,) behind the prompt, for its samples' first tokens
    decided: bool = False


@dataclass
class _Row:
    """One sample being decoded; `place` is -1 once it has ended."""

    item: _Item
    sample: int
    place: int
    key: int
    ids: list[int] = field(default_factory=list)
    logprob: float = 0.0


def generate(model, prompts: Sequence[Sequence[int]], **options) -> list[list[Completion]]:
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

    def __init__(self, model, prompts: Sequence[Sequence[int]], options: Options) -> None:
        weight = model.model.embed_tokens.weight
        self.model, self.options, self.device, self.dtype = model, options, weight.device, weight.dtype
        gpu = self.device.type == "cuda"
        if self.device.type == "cpu":
            from model.device import prepare_cpu
            prepare_cpu()
        self.chunk = options.prefill_chunk or (8192 if gpu else 1024)
        self.sync_every = options.sync_every or (8 if gpu else 1)
        self.eos = frozenset(options.eos_ids)
        self.vocab_size = min(options.vocab_size or model.config.vocab_size, model.config.vocab_size)
        banned = sorted({i for i in options.banned_ids if 0 <= i < self.vocab_size} - self.eos)
        self.banned = self._tensor(banned) if banned else None
        self.decode_pass = model.hidden_states
        if options.compile_decode:
            self.decode_pass = torch.compile(model.hidden_states, dynamic=True)
        ids = options.item_ids if options.item_ids is not None else range(len(prompts))
        if len(ids) != len(prompts) or len(set(ids)) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many different item ids, got {len(ids)}, of which "
                             f"{len(set(ids))} differ")
        for i, prompt in enumerate(prompts):
            if len(prompt) == 0:
                raise ValueError(f"prompt {i} is empty; the model needs one token or more to begin from")
        self.items = [_Item(i, item_id, list(prompt)) for i, (item_id, prompt) in enumerate(zip(ids, prompts))]
        self.results: list[list[Completion | None]] = [[None] * options.num_samples for _ in prompts]
        self.queue: deque[_Item] = deque()         # waiting prompts, the longest first
        self.prefilling: deque[_Item] = deque()    # prompts in a slot, not yet all in the cache
        self.starting: list[_Item] = []            # prompts in the cache, with samples and places to begin
        self.rows: list[_Row] = []
        self.rows_changed = True
        self.cache: KVCache | None = None
        self.stats, self.progress = Stats(items=len(prompts)), Progress(options.progress, len(prompts))

    def run(self) -> list[list[Completion]]:
        began, was_training = time.perf_counter(), self.model.training
        self.model.eval()
        packed = packed_linears(self.model) if self.options.pack_weights else nullcontext()
        try:
            with torch.inference_mode(), packed:
                self.plan()
                while self.queue or self.prefilling or self.starting or self.rows:
                    self.admit()
                    if self.prefilling:
                        self.prefill()
                    self.start()
                    # A large batch goes on while prompts are prefilled; a small one is not worth a pass and waits.
                    if self.rows and (not self.prefilling or 2 * len(self.rows) >= self.cache.slots * self.cache.width):
                        self.decode()
                    self.progress.show(len(self.rows), self.stats.new_tokens)
        finally:
            self.model.train(was_training)
            if self.cache is not None:
                self.cache.layers.clear()          # they refer to each other: else the memory waits for the collector
        self.progress.show(0, self.stats.new_tokens, last=True)
        self.stats.seconds = time.perf_counter() - began
        if self.options.stats is not None:
            self.options.stats.update(asdict(self.stats))
        return self.results

    def plan(self) -> None:
        """Decide which prompts fit, what they share, and how the budget is cut into slots."""
        options, config = self.options, self.model.config
        per_token = KVCache.bytes_per_token(config, self.dtype)
        budget = 1e9 * options.cache_gb if options.cache_gb else default_cache_bytes(self.device)
        layers = config.num_hidden_layers          # a resize holds one layer twice
        self.budget = int(budget * layers / (layers + 1)) // per_token                  # in tokens
        self.suffix = options.max_new_tokens + self.sync_every - 1
        limit = min(config.max_position_embeddings - options.max_new_tokens, self.budget - self.suffix,
                    options.max_prompt_tokens or config.max_position_embeddings)
        if limit < 1:
            raise ValueError(f"no prompt fits: {options.max_new_tokens} new tokens, {config.max_position_embeddings} "
                             f"positions, a cache for {self.budget} tokens of {per_token} bytes; "
                             "lower max_new_tokens or raise cache_gb")
        fitting = [item for item in self.items if self._fits(item, limit)]
        self.queue.extend(sorted(fitting, key=lambda item: -len(item.prompt)))
        if self.stats.refused_prompts or self.stats.truncated_prompts:
            print(f"{self.stats.refused_prompts} prompts refused and {self.stats.truncated_prompts} truncated of "
                  f"{len(self.items)}: longer than {limit:,} tokens", file=sys.stderr)
        self.stats.prompt_tokens = sum(len(item.prompt) for item in self.queue)
        if not self.queue:
            return
        longest = len(self.queue[0].prompt)
        room = min(self.budget // 8, self.budget - longest - self.suffix) if options.share_leads else 0
        leads = shared_leads([item.prompt for item in self.queue], room)
        self.budget -= sum(length for length, _ in leads)
        wanted = min(options.num_samples, options.first_samples or options.num_samples, options.max_rows)
        self.width = max(1, min(wanted, (self.budget - longest) // self.suffix))
        self.cache = KVCache(config, slots=self._slots(longest), width=self.width, prefix_length=longest,
                             suffix_length=self.suffix, dtype=self.dtype, device=self.device)
        self.free_slots = list(range(self.cache.slots))
        waiting = list(self.queue)
        for i, (length, members) in enumerate(leads):
            self.cache.occupy(0)
            self.prefilling.append(_Item(-1, "", waiting[members[0]].prompt[:length], slot=0))
            while self.prefilling:
                self.prefill()
            self.cache.keep_lead(0)
            for member in members:
                waiting[member].lead = i
        self.starting.clear()
        self.stats.cache_bytes = self.cache.nbytes

    def _fits(self, item: _Item, limit: int) -> bool:
        if len(item.prompt) > limit and self.options.long_prompts == "truncate":
            item.prompt = item.prompt[-limit:]
            self.stats.truncated_prompts += 1
        elif len(item.prompt) > limit:
            self.stats.refused_prompts += 1
            self.results[item.index] = [Completion([], 0.0, "refused")] * self.options.num_samples
            self._complete(item)
            return False
        return True

    def _slots(self, longest: int, residents: int = 0) -> int:
        """How many slots the budget holds where no prompt is longer than `longest`, and there is work for."""
        fitting = self.budget // (longest + self.width * self.suffix)
        return max(1, min(fitting, max(1, self.options.max_rows // self.width), len(self.queue) + residents))

    def admit(self) -> None:
        """Let waiting prompts into free slots, once there are enough of those to be worth a prefill pass."""
        if self.rows and 4 * len(self.free_slots) < self.cache.slots:
            return
        self._recut()
        while self.queue and self.free_slots:
            item = self.queue.popleft()
            item.slot = self.free_slots.pop(0)
            item.places = list(range(self.width))
            item.waiting = deque(range(self.options.num_samples))
            self.cache.occupy(item.slot, item.lead)
            self.prefilling.append(item)

    def _recut(self) -> None:
        """Cut the cache into more, shorter slots where the prompts left are short, or into fewer where few are left."""
        present = [*(row.item for row in self.rows), *self.prefilling, *self.starting]
        residents = {item.slot: item for item in present if item.live or item.waiting}       # not one just decided
        lengths = [len(item.prompt) for item in (*residents.values(), *list(self.queue)[:1])]
        slots = self._slots(max(lengths), len(residents)) if lengths else 0
        if slots > self.cache.slots or 0 < 2 * slots <= self.cache.slots:
            keep = sorted(residents)
            self.cache.resize(keep, slots, max(lengths))
            for slot, old in enumerate(keep):
                residents[old].slot = slot
            self.free_slots = list(range(len(keep), slots))
            self.rows_changed = True
            self.stats.cache_bytes = max(self.stats.cache_bytes, self.cache.nbytes)

    def prefill(self) -> None:
        """One pass over at most `chunk` tokens of the prompts that are entering."""
        pieces, ids, positions, ends, complete = [], [], [], [], []
        for item in self.prefilling:
            begin = self.cache.lengths[item.slot]
            end = min(len(item.prompt), begin + self.chunk - len(ids))
            pieces.append(Piece(item.slot, begin, end - begin))
            ids += item.prompt[begin:end]
            positions += range(begin, end)
            if end == len(item.prompt):
                complete.append(item)
                ends.append(len(ids) - 1)
            if len(ids) == self.chunk:
                break
        self.cache.begin_prefill(pieces)
        hidden = self.model.hidden_states(self._tensor([ids]), self._tensor([positions]), cache=self.cache)
        self.stats.prefill_tokens += len(ids)
        self.stats.prefill_passes += 1
        if complete:
            for item, logits in zip(complete, self._logits(hidden[0, ends])):
                item.logits = logits
                self.starting.append(self.prefilling.popleft())

    def start(self) -> None:
        """Draw the first token of every sample that may begin: it needs no pass, the prompt's logits are there."""
        rows, first = [], self.options.first_samples or self.options.num_samples
        ready, self.starting = self.starting, []
        for item in ready:
            while item.places and item.waiting and not (item.waiting[0] == first and item.live):
                sample = item.waiting.popleft()
                rows.append(_Row(item, sample, item.places.pop(0), stream_key(self.options.seed, item.item_id, sample)))
                item.live += 1
        if rows:
            u = self._uniforms(np.array([row.key for row in rows], dtype=np.uint64), [0] * len(rows), 1)
            tokens, logprobs = self._choose(torch.stack([row.item.logits for row in rows]), u[:, 0])
            for item in ready:
                item.logits = item.logits if item.waiting else None
            self.rows += rows
            self.rows_changed = True
            self.take(rows, tokens[:, None], logprobs[:, None])

    def decode(self) -> None:
        """`sync_every` tokens for every row, with one transfer to the host at the end."""
        steps = [len(row.ids) for row in self.rows]
        if self.rows_changed:
            self.cache.set_rows([(row.item.slot, row.place) for row in self.rows])
            self.keys = np.array([row.key for row in self.rows], dtype=np.uint64)
            self.last = self._tensor([row.ids[-1] for row in self.rows])
            self.written = self._tensor(steps) - 1                     # the last token drawn is not stored yet
            self.prompt_lengths = self._tensor([len(row.item.prompt) for row in self.rows])
            self.rows_changed = False
        u = self._uniforms(self.keys, steps, self.sync_every)
        tokens, logprobs = [], []
        for i in range(self.sync_every):
            self.cache.begin_decode(self.written, [step - 1 + i for step in steps])
            positions = self.prompt_lengths + self.written
            hidden = self.decode_pass(self.last[:, None], positions[:, None], cache=self.cache)          # (R, 1, E)
            self.last, logprob = self._choose(self._logits(hidden[:, 0]), u[:, i])
            self.written = self.written + 1
            tokens.append(self.last)
            logprobs.append(logprob)
        self.stats.decode_steps += self.sync_every
        self.take(self.rows, torch.stack(tokens, dim=1), torch.stack(logprobs, dim=1))

    def take(self, rows: list[_Row], tokens: Tensor, logprobs: Tensor) -> None:
        """Append the new tokens (R, steps) to their rows, and let the rows that end leave."""
        ended = []
        for row, new, scores in zip(rows, tokens.tolist(), logprobs.tolist()):
            for token, score in zip(new, scores):
                if not isfinite(score):
                    raise ValueError("the model's logits hold NaN or infinity, so no token can be chosen: values overflow "
                                     "in this precision (try bf16 or fp32), or its weights are damaged")
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
            self.rows_changed = True

    def most_tokens(self, row: _Row) -> int:
        """The length at which a row ends without a stop token; benchmarks put one of their own here."""
        return self.options.max_new_tokens

    def end(self, row: _Row, reason: str) -> None:
        """Record a sample, free its place, and see whether its item is decided or complete."""
        item, on_sample = row.item, self.options.on_sample
        drawn = len(row.ids) + (reason == "stop")
        self.results[item.index][row.sample] = Completion(row.ids, row.logprob / max(drawn, 1), reason)
        item.places.append(row.place)
        item.live -= 1
        row.place = -1
        if reason == "cancelled":
            self.stats.cancelled_samples += 1
            self.stats.cancelled_tokens += drawn
            return
        if on_sample is not None and on_sample(item.index, row.sample, row.ids):
            self._cancel(item)
        if item.waiting:
            self.starting.append(item)
        elif item.live == 0:
            self.free_slots.append(item.slot)
            self._complete(item)

    def _cancel(self, item: _Item) -> None:
        """The item is decided: end its rows and forget its samples that have not begun."""
        for row in self.rows:
            if row.item is item and row.place >= 0:
                self.end(row, "cancelled")
        for sample in item.waiting:
            self.results[item.index][sample] = Completion([], 0.0, "cancelled")
            self.stats.cancelled_samples += 1
        item.waiting.clear()

    def _complete(self, item: _Item) -> None:
        self.progress.done += 1
        if self.options.on_item is not None:
            self.options.on_item(item.index, self.results[item.index])

    def _logits(self, hidden: Tensor) -> Tensor:
        """hidden (R, E) -> logits (R, V), without the rows that only pad the vocabulary."""
        return self.model.lm_head(hidden)[:, :self.vocab_size]

    def _uniforms(self, keys: np.ndarray, steps: list[int], count: int) -> Tensor:
        return torch.from_numpy(uniforms(keys, steps, count)).to(self.device)

    def _choose(self, logits: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        o = self.options
        return choose(logits, u, temperature=o.temperature, top_k=o.top_k, top_p=o.top_p, banned=self.banned)

    def _tensor(self, values: list) -> Tensor:
        return torch.tensor(values, device=self.device)


def default_cache_bytes(device: torch.device) -> int:
    """80% of what is free on the GPU; on a CPU half of what is free, shared by the processes of this machine."""
    from model.device import free_memory

    share = 0.8 if device.type == "cuda" else 0.5 / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return int(free_memory(device) * share)
