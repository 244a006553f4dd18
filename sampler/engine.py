"""Many samples of many prompts: prefill once, fork n, decode together, never wait.

`generate` keeps a fixed number of slots (see kv_cache.py) busy. Prompts wait in a queue, longest first. Whenever a
quarter of the slots is free, waiting prompts enter: their tokens are prefilled in chunks without padding, and their
samples join the rows that are being decoded. A row that ends leaves at once, and a slot whose samples have all ended is
free for the next prompt. Nothing that happens to one row depends on which others are there, apart from rounding.

Left out on purpose: tensor parallelism, beam search, penalties, speculative decoding.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .kv_cache import KVCache, Piece
from .sampling import choose, stream_key, uniforms


@dataclass(frozen=True)
class Completion:
    """What one sample wrote.

    `ids` lacks the prompt and the stop token. `logprob` is the mean log-probability in nats of the tokens chosen, the stop
    token included, under the model's own distribution (before temperature, top-k and top-p); 0.0 if there are none.
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
    item_ids: Sequence[int | str] | None = None    # default: the prompt's index. Give lasting ones where a call does only some items
    vocab_size: int | None = None                  # only ids below it are ever chosen, and
    banned_ids: Sequence[int] = ()                 # none of these
    on_item: Callable[[int, list[Completion]], None] | None = None     # (index, completions), as soon as an item is complete
    on_sample: Callable[[int, int, list[int]], bool] | None = None     # (index, sample, ids) -> cancel the item's other samples?
    first_samples: int | None = None               # begin only so many of an item; the others when those ended undecided
    cache_gb: float | None = None                  # 10^9 bytes of keys and values; default: half of the free memory, GPU 80%
    max_rows: int = 256                            # samples decoded at once, if the budget allows
    prefill_chunk: int | None = None               # prompt tokens per prefill pass; default 1,024, GPU 8,192
    sync_every: int | None = None                  # decode steps between two looks from the host; default 1, GPU 8
    max_prompt_tokens: int | None = None           # longer prompts do not fit; nor do those beyond the positions or the budget
    long_prompts: str = "refuse"                   # what does not fit: "refuse", or "truncate" (keep the last tokens)
    share_leads: bool = True                       # prefill the text that several prompts begin with once
    progress: bool | Callable[[], str] = False     # one line on stderr, kept fresh; a function adds its text to it

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "num_samples", "max_rows", "first_samples", "prefill_chunk", "sync_every", "max_prompt_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if not self.temperature >= 0 or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ValueError(f"temperature {self.temperature}, top_p {self.top_p}, top_k {self.top_k}: "
                             "need temperature >= 0, 0 < top_p <= 1 and top_k >= 0")
        if self.long_prompts not in ("refuse", "truncate"):
            raise ValueError(f"long_prompts must be 'refuse' or 'truncate', got {self.long_prompts!r}")


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


@dataclass
class _Item:
    """One prompt on its way through the engine."""

    index: int
    item_id: int | str
    prompt: list[int]
    lead: int = -1                                                      # slot of the text it begins with, or -1
    slot: int = -1
    places: list[int] = field(default_factory=list)                     # free ones of its slot
    waiting: deque[int] = field(default_factory=deque)                  # samples that have not begun
    live: int = 0
    first: tuple[Tensor, ...] = ()                                      # logits behind the prompt, (V,)
    decided: bool = False


@dataclass
class _Row:
    """One sample being decoded."""

    item: _Item
    sample: int
    place: int
    key: int
    ids: list[int] = field(default_factory=list)
    logprob: float = 0.0


class Engine:
    """The state of one call of `generate`. `run` is the whole story; the other methods are its verbs, in order."""

    def __init__(self, model, prompts: Sequence[Sequence[int]], options: Options) -> None:
        weight = model.model.embed_tokens.weight
        self.model, self.options, self.device, self.dtype = model, options, weight.device, weight.dtype
        gpu = self.device.type == "cuda"
        self.chunk = options.prefill_chunk or (8192 if gpu else 1024)
        self.sync_every = options.sync_every or (8 if gpu else 1)
        self.eos = frozenset(options.eos_ids)
        self.items = self._items(prompts)
        self.results: list[list[Completion | None]] = [[None] * options.num_samples for _ in prompts]
        self.refused = self.truncated = self.tokens = 0
        self.queue: deque[_Item] = deque()
        self.prefilling: deque[_Item] = deque()
        self.starting: list[_Item] = []            # prompts in the cache with samples that may begin
        self.rows: list[_Row] = []
        self.rows_changed = True

    def _items(self, prompts: Sequence[Sequence[int]]) -> list[_Item]:
        ids = self.options.item_ids if self.options.item_ids is not None else range(len(prompts))
        if len(ids) != len(prompts) or len(set(ids)) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many different item ids, got {len(ids)}, {len(set(ids))} different")
        for i, prompt in enumerate(prompts):
            if len(prompt) == 0:
                raise ValueError(f"prompt {i} is empty; the model needs one token or more to begin from")
        return [_Item(i, item_id, list(prompt)) for i, (item_id, prompt) in enumerate(zip(ids, prompts))]

    def run(self) -> list[list[Completion]]:
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                self.plan()
                while self.queue or self.prefilling or self.starting or self.rows:
                    self.admit()
                    if self.prefilling:
                        self.prefill()
                    self.start()
                    # A batch worth its pass over the weights goes on while long prompts are prefilled; a small one waits.
                    if self.rows and (not self.prefilling or 2 * len(self.rows) >= self.cache.slots * self.cache.width):
                        self.decode()
        finally:
            self.model.train(was_training)
        return self.results

    def plan(self) -> None:
        """Decide which prompts fit, what they share, and how the budget is cut into slots."""
        options, config = self.options, self.model.config
        width = min(options.num_samples, options.first_samples or options.num_samples, options.max_rows)
        suffix = options.max_new_tokens + self.sync_every
        per_token = KVCache.bytes_per_token(config, self.dtype)
        budget = int(1e9 * options.cache_gb if options.cache_gb else default_cache_bytes(self.device)) // per_token
        limit = min(config.max_position_embeddings - options.max_new_tokens, budget - suffix, options.max_prompt_tokens or 2**62)
        if limit < 1:
            raise ValueError(f"no prompt fits: {options.max_new_tokens} new tokens, {config.max_position_embeddings} positions, a cache "
                             f"of {budget} tokens ({per_token} bytes each); lower max_new_tokens or raise cache_gb")
        for item in self.items:
            if len(item.prompt) > limit and options.long_prompts == "truncate":
                item.prompt, self.truncated = item.prompt[-limit:], self.truncated + 1
            elif len(item.prompt) > limit:
                self.refused += 1
                self.results[item.index] = [Completion([], 0.0, "refused")] * options.num_samples
                self.report(item)
            else:
                self.queue.append(item)
        self.queue = deque(sorted(self.queue, key=lambda item: -len(item.prompt)))
        if not self.queue:
            return
        longest = len(self.queue[0].prompt)
        width = min(width, (budget - longest) // suffix)
        slots = min(len(self.queue), max(1, options.max_rows // width), budget // (longest + width * suffix))
        self.cache = KVCache(config, slots=slots, leads=0, width=width, prefix_length=longest, suffix_length=suffix,
                             dtype=self.dtype, device=self.device)
        self.free_slots = list(range(slots))
        allowed = torch.zeros(config.vocab_size, dtype=torch.float32, device=self.device)
        allowed[options.vocab_size or config.vocab_size:] = -torch.inf
        allowed[list(options.banned_ids)] = -torch.inf
        self.bias = allowed if bool(allowed.any()) else None

    def admit(self) -> None:
        """Let waiting prompts into free slots, once there are enough of those to be worth a prefill pass."""
        if 4 * len(self.free_slots) < self.cache.slots and self.rows:
            return
        while self.queue and self.free_slots:
            item = self.queue.popleft()
            item.slot = self.free_slots.pop(0)
            item.places = list(range(self.cache.width))
            item.waiting = deque(range(self.options.num_samples))
            self.cache.lengths[item.slot] = 0
            self.prefilling.append(item)

    def prefill(self) -> None:
        """One pass over at most `chunk` tokens of the prompts that are entering."""
        pieces, ids, positions, ends, complete, room = [], [], [], [], [], self.chunk
        for item in self.prefilling:
            begin = self.cache.lengths[item.slot]
            end = min(len(item.prompt), begin + room)
            pieces.append(Piece(item.slot, begin, end - begin))
            ids += item.prompt[begin:end]
            positions += range(begin, end)
            room -= end - begin
            if end == len(item.prompt):
                complete.append(item)
                ends.append(len(ids) - 1)
            if room == 0:
                break
        self.cache.begin_prefill(pieces)
        hidden = self.model.hidden_states(self._tensor([ids]), self._tensor([positions]), cache=self.cache)
        if complete:
            logits = self._logits(hidden[0, ends])
            for i, item in enumerate(complete):
                item.first = logits[i]
                self.prefilling.popleft()
            self.starting += complete

    def start(self) -> None:
        """Draw the first token of every sample that may begin: its prompt's logits are there, no pass is needed."""
        rows, first = [], self.options.first_samples or self.options.num_samples
        for item in self.starting:
            while item.places and item.waiting and not (item.waiting[0] == first and item.live):
                sample = item.waiting.popleft()
                key = stream_key(self.options.seed, item.item_id, sample)
                rows.append(_Row(item, sample, item.places.pop(0), key))
                item.live += 1
        self.starting = []
        if not rows:
            return
        u = torch.from_numpy(uniforms([row.key for row in rows], [0] * len(rows))[:, 0]).to(self.device)
        logits = torch.stack([row.item.first for row in rows])
        tokens, logprobs = self._choose(logits, u)
        self.rows += rows
        self.rows_changed = True
        self.take(rows, tokens[:, None], logprobs[:, None])

    def decode(self) -> None:
        """`sync_every` tokens for every row, with one transfer to the host at the end."""
        if self.rows_changed:
            self.cache.set_rows([(row.item.slot, row.place) for row in self.rows])
            self.keys = np.array([row.key for row in self.rows], dtype=np.uint64)
            self.last = self._tensor([row.ids[-1] for row in self.rows])
            self.written = self._tensor([len(row.ids) - 1 for row in self.rows])
            self.prompt_lengths = self._tensor([len(row.item.prompt) for row in self.rows])
            self.rows_changed = False
        steps = [len(row.ids) for row in self.rows]
        longest = max(steps) - 1
        u = torch.from_numpy(uniforms(self.keys, steps, self.sync_every)).to(self.device)
        tokens, logprobs = [], []
        for i in range(self.sync_every):
            self.cache.begin_decode(self.written, longest + i)
            positions = self.prompt_lengths + self.written
            hidden = self.model.hidden_states(self.last[:, None], positions[:, None], cache=self.cache)
            self.last, logprob = self._choose(self._logits(hidden[:, 0]), u[:, i])
            tokens.append(self.last)
            logprobs.append(logprob)
            self.written = self.written + 1
        self.take(self.rows, torch.stack(tokens, dim=1), torch.stack(logprobs, dim=1))

    def take(self, rows: list[_Row], tokens: Tensor, logprobs: Tensor) -> None:
        """Append new tokens (R, steps) to the rows, and let the rows that end leave."""
        ended = []
        for row, new, scores in zip(rows, tokens.tolist(), logprobs.tolist()):
            for token, score in zip(new, scores):
                row.logprob += score
                self.tokens += 1
                if token in self.eos:
                    ended.append((row, "stop"))
                    break
                row.ids.append(token)
                if len(row.ids) == self.options.max_new_tokens:
                    ended.append((row, "length"))
                    break
        for row, reason in ended:
            if not row.item.decided:
                self.end(row, reason)
        if ended:
            self.rows = [row for row in self.rows if row.place >= 0]
            self.rows_changed = True

    def end(self, row: _Row, reason: str) -> None:
        """Record a sample, free its place, and see whether its item is decided or complete."""
        item, options = row.item, self.options
        drawn = len(row.ids) + (reason == "stop")
        self.results[item.index][row.sample] = Completion(row.ids, row.logprob / drawn if drawn else 0.0, reason)
        item.places.append(row.place)
        item.live -= 1
        row.place = -1
        if reason != "cancelled" and options.on_sample is not None and options.on_sample(item.index, row.sample, row.ids):
            item.decided = True
            for other in self.rows:
                if other.item is item and other.place >= 0:
                    self.end(other, "cancelled")
            for sample in item.waiting:
                self.results[item.index][sample] = Completion([], 0.0, "cancelled")
            item.waiting.clear()
        if item.waiting:
            self.starting.append(item)
        elif item.live == 0 and None not in self.results[item.index]:
            self.free_slots.append(item.slot)
            item.first = ()
            self.report(item)

    def report(self, item: _Item) -> None:
        if self.options.on_item is not None:
            self.options.on_item(item.index, self.results[item.index])

    def _logits(self, hidden: Tensor) -> Tensor:
        """hidden (R, E) -> logits (R, V), -inf at the ids that must not be chosen."""
        logits = self.model.lm_head(hidden).float()
        return logits if self.bias is None else logits + self.bias

    def _choose(self, logits: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        return choose(logits, u, temperature=self.options.temperature, top_k=self.options.top_k, top_p=self.options.top_p)

    def _tensor(self, values: list) -> Tensor:
        return torch.tensor(values, device=self.device)


def default_cache_bytes(device: torch.device) -> int:
    """Half of the memory that is free on this machine, or 80% of what is free on the GPU."""
    if device.type == "cuda":
        return int(0.8 * torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024 // 2
    except (OSError, KeyError):
        return 2 * 10**9                           # not Linux: a size that any machine has
