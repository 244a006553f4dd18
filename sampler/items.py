"""Prompts and samples on their way through the engine, and what has become of them."""

from collections import deque
from dataclasses import dataclass, field

from torch import Tensor

from .options import Completion, Options, Stats
from .progress import Progress


@dataclass
class Item:
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


@dataclass
class Row:
    """One sample being decoded; `place` is -1 once it has ended."""

    item: Item
    sample: int
    place: int
    key: int
    ids: list[int] = field(default_factory=list)
    logprob: float = 0.0


def make_items(prompts: list[list[int]], options: Options) -> list[Item]:
    """An item for each prompt.

    Raises:
        ValueError: a prompt is empty, or the item ids are not as many different ones.
    """
    ids = options.item_ids if options.item_ids is not None else range(len(prompts))
    if len(ids) != len(prompts) or len(set(ids)) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts need as many different item ids, got {len(ids)}, of which "
                         f"{len(set(ids))} differ")
    for i, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(f"prompt {i} is empty; the model needs one token or more to begin from")
    return [Item(i, item_id, list(prompt)) for i, (item_id, prompt) in enumerate(zip(ids, prompts))]


class Outcomes:
    """The samples that have ended, by item; what the caller is told of them; the counts."""

    def __init__(self, options: Options, num_items: int) -> None:
        self.options = options
        self.results: list[list[Completion | None]] = [[None] * options.num_samples for _ in range(num_items)]
        self.stats = Stats(items=num_items)
        self.progress = Progress(options.progress, num_items)

    def end(self, row: Row, reason: str, rows: list[Row]) -> None:
        """Record a sample and free its place; where that decides its item, the others of `rows` end, too."""
        item, on_sample = row.item, self.options.on_sample
        drawn = len(row.ids) + (reason == "stop")
        self.results[item.index][row.sample] = Completion(row.ids, row.logprob / max(drawn, 1), reason)
        self.progress.ended(drawn, stopped=reason == "stop")
        item.places.append(row.place)
        item.live -= 1
        row.place = -1
        if reason == "cancelled":
            self.stats.cancelled_samples += 1
            self.stats.cancelled_tokens += drawn
        elif on_sample is not None and on_sample(item.index, row.sample, row.ids):
            self._cancel(item, rows)

    def _cancel(self, item: Item, rows: list[Row]) -> None:
        """The item is decided: end its rows and forget its samples that have not begun."""
        for row in rows:
            if row.item is item and row.place >= 0:
                self.end(row, "cancelled", rows)
        for sample in item.waiting:
            self.results[item.index][sample] = Completion([], 0.0, "cancelled")
            self.stats.cancelled_samples += 1
        item.waiting.clear()

    def refuse(self, item: Item) -> None:
        """The prompt does not fit."""
        self.stats.refused_prompts += 1
        self.results[item.index] = [Completion([], 0.0, "refused")] * self.options.num_samples
        self.complete(item)

    def complete(self, item: Item) -> None:
        """All samples of the item have ended."""
        self.progress.done += 1
        if self.options.on_item is not None:
            self.options.on_item(item.index, self.results[item.index])
