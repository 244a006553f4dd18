"""The cache's memory cut into slots, and the prompts that wait for one."""

import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from .items import Item, Outcomes
from .kv_cache import KVCache
from .leads import shared_leads
from .options import Options
from .passes import Passes


@dataclass
class Budget:
    """Tokens of the cache. A slot takes its prompt's and, for each of `width` samples, `suffix`."""

    tokens: int
    suffix: int
    max_rows: int
    width: int = 1

    def slots(self, longest: int, wanted: int) -> int:
        """How many of `wanted` slots the budget holds where no prompt is longer than `longest`."""
        fitting = self.tokens // (longest + self.width * self.suffix)
        return max(1, min(fitting, max(1, self.max_rows // self.width), wanted))


def make_budget(config, dtype: torch.dtype, device: torch.device, options: Options, steps: int) -> tuple[Budget, int]:
    """The budget, and the longest prompt that fits; a sample stores up to `steps` - 1 tokens past its end.

    Raises:
        ValueError: no prompt fits.
    """
    per_token = KVCache.bytes_per_token(config, dtype)
    size = 1e9 * options.cache_gb if options.cache_gb else default_cache_bytes(device)
    layers = config.num_hidden_layers              # a resize holds one layer twice
    tokens = int(size * layers / (layers + 1)) // per_token
    suffix = options.max_new_tokens + steps - 1
    limit = min(config.max_position_embeddings - options.max_new_tokens, tokens - suffix,
                options.max_prompt_tokens or config.max_position_embeddings)
    if limit < 1:
        raise ValueError(f"no prompt fits: {options.max_new_tokens} new tokens, {config.max_position_embeddings} "
                         f"positions, a cache for {tokens} tokens of {per_token} bytes; "
                         "lower max_new_tokens or raise cache_gb")
    return Budget(tokens, suffix, options.max_rows), limit


def default_cache_bytes(device: torch.device) -> int:
    """80% of what is free on the GPU; on a CPU half of what is free, shared by the processes of this machine."""
    from model.device import free_memory

    fraction = 0.8 if device.type == "cuda" else 0.5 / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return int(free_memory(device) * fraction)


class Slots:
    """Which prompts fit, what they share, the cache, and its free slots."""

    def __init__(self, passes: Passes, items: Sequence[Item], outcomes: Outcomes) -> None:
        self.passes, self.options, self.outcomes, self.stats = passes, passes.options, outcomes, outcomes.stats
        options, config = passes.options, passes.model.config
        self.budget, limit = make_budget(config, passes.dtype, passes.device, options, passes.sync_every)
        fitting = [item for item in items if self._fits(item, limit)]
        self.queue = deque(sorted(fitting, key=lambda item: -len(item.prompt)))         # waiting prompts, longest first
        self.cache: KVCache | None = None                                               # None: nothing to do
        self.free: list[int] = []
        if self.stats.refused_prompts or self.stats.truncated_prompts:
            print(f"{self.stats.refused_prompts} prompts refused and {self.stats.truncated_prompts} truncated of "
                  f"{len(items)}: longer than {limit:,} tokens", file=sys.stderr)
        self.stats.prompt_tokens = sum(len(item.prompt) for item in self.queue)
        if self.queue:
            self._fill_cache()

    def _fits(self, item: Item, limit: int) -> bool:
        if len(item.prompt) <= limit:
            return True
        if self.options.long_prompts == "truncate":
            item.prompt = item.prompt[-limit:]
            self.stats.truncated_prompts += 1
            return True
        self.outcomes.refuse(item)
        return False

    def _fill_cache(self) -> None:
        """Make the cache, with the leads in it."""
        options, passes, budget, longest = self.options, self.passes, self.budget, len(self.queue[0].prompt)
        room = min(budget.tokens // 8, budget.tokens - longest - budget.suffix) if options.share_leads else 0
        leads = shared_leads([item.prompt for item in self.queue], room)
        budget.tokens -= sum(length for length, _ in leads)
        wanted = min(options.num_samples, options.first_samples or options.num_samples, options.max_rows)
        budget.width = max(1, min(wanted, (budget.tokens - longest) // budget.suffix))
        slots = budget.slots(longest, len(self.queue))
        self.cache = KVCache(passes.model.config, slots=slots, width=budget.width, prefix_length=longest,
                             suffix_length=budget.suffix, dtype=passes.dtype, device=passes.device)
        self.free = list(range(self.cache.slots))
        self._keep_leads(leads)
        self.stats.cache_bytes = self.cache.nbytes

    def _keep_leads(self, leads: list[tuple[int, list[int]]]) -> None:
        """Prefill the texts that several prompts begin with, and copy them aside."""
        waiting = list(self.queue)
        for i, (length, members) in enumerate(leads):
            self.cache.occupy(0)
            lead = Item(-1, "", waiting[members[0]].prompt[:length], slot=0)
            while not self.passes.prefill(self.cache, [lead]):
                pass
            self.cache.keep_lead(0)
            for member in members:
                waiting[member].lead = i

    def shared(self, item: Item) -> int:
        """Tokens of the lead that the item's prompt begins with."""
        return 0 if item.lead is None else self.cache.lead_length(item.lead)

    def rows_beside(self, longest: int) -> int:
        """How many rows the budget holds where no prompt is longer."""
        return self.budget.slots(longest, self.budget.max_rows) * self.budget.width

    def recut(self, residents: Mapping[int, Item]) -> bool:
        """Cut the cache into more, shorter slots where the prompts left are short, or into fewer where few are left.

        `residents` by slot; they move together. Returns whether it was cut.
        """
        lengths = [len(item.prompt) for item in (*residents.values(), *list(self.queue)[:1])]
        slots = self.budget.slots(max(lengths), len(self.queue) + len(residents)) if lengths else 0
        if not (slots > self.cache.slots or 0 < 2 * slots <= self.cache.slots):
            return False
        keep = sorted(residents)
        self.cache.resize(keep, slots, max(lengths))
        for slot, old in enumerate(keep):
            residents[old].slot = slot
        self.free = list(range(len(keep), slots))
        self.stats.cache_bytes = max(self.stats.cache_bytes, self.cache.nbytes)
        return True

    def enter(self) -> list[Item]:
        """Give the free slots to waiting prompts; returns those."""
        entering = []
        while self.queue and self.free:
            item = self.queue.popleft()
            item.slot = self.free.pop(0)
            item.places = list(range(self.budget.width))
            item.waiting = deque(range(self.options.num_samples))
            self.cache.occupy(item.slot, item.lead)
            entering.append(item)
        return entering
