"""What every command that lets a model write agrees on: temperatures that are ones, and ids that are never drawn."""

from collections.abc import Collection
from typing import Protocol

GREEDY_BELOW = 1e-6         # lower ones divide logits beyond what float32 holds: the most probable token is meant
MOST_TEMPERATURE = 1e6      # far above any of use; infinity would make every token, and none, as probable
# The help of --pack-weights.
PACKING = ("on a CPU: decode faster, with a second copy of the weights; without it, where the copy takes 64 MiB "
           "at least and a quarter of the memory at most")


class Vocabulary(Protocol):
    """The part of a tokenizer that is asked here."""

    special_ids: Collection[int]
    eos_ids: Collection[int]


def check_temperature(value: float, name: str = "temperature") -> float:
    """The temperature; ValueError for one that is none: negative, NaN, infinite."""
    if not 0 <= value <= MOST_TEMPERATURE:
        raise ValueError(f"{name} is {value:g}; expected 0 (greedy) to {MOST_TEMPERATURE:g}, and usually 0 to 2")
    return value


def never_sampled(tokenizer: Vocabulary) -> list[int]:
    """The special ids that no answer may hold: all but those that end a turn."""
    return sorted(set(tokenizer.special_ids) - set(tokenizer.eos_ids))
