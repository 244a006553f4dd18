"""How long the rest of sampling will take: what a pass costs, how long answers get, and the schedule played forward.

Prompts come longest first, and the last few rows take as many passes as a full batch. So neither items done nor tokens
done say how much is left. Here the passes that are to come are counted one by one, and each is taken to last as long as
passes like it lasted so far.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

BYTE, WEIGHT = 12, 8            # a first guess: reading a byte of the cache, or of weights, takes so many operations
SLOWER = 1.5                    # the same: products of few rows are slower than a prompt's
GUESS = 0.5                     # how many decode passes the first guess counts for
LEAST = 8                       # tokens of an answer that nobody saw: no call is written in fewer
LATE = 3                        # how many ends of samples: that none has ended so early says little of later
BOUND = 100                     # no cause takes so many times their mean, or less than one part in so many
GOLDEN = (5**0.5 - 1) / 2       # multiples of it, modulo 1, cover [0, 1) evenly


class Work:
    """What the passes cost, in floating-point operations."""

    def __init__(self, config, itemsize: int) -> None:
        E, K, D = config.hidden_size, config.num_key_value_heads, config.head_dim
        H, L = config.num_attention_heads, config.num_hidden_layers
        self.token = 2 * L * E * (2 * H * D + 2 * K * D + 3 * config.intermediate_size)
        self.head = 2 * E * config.vocab_size
        self.pair = 8 * L * H * D                  # a query and a key, counted twice: attention is the slower product
        self.stored = BYTE * 2 * L * K * D * itemsize                   # a stored token that is read again
        self.step = WEIGHT * (self.token + self.head) // 2 * itemsize   # the weights, once for all rows

    def prompt(self, start: int, end: int) -> float:
        """Of tokens `start` .. `end` of a prompt."""
        return self.token * (end - start) + self.pair * (end**2 - start**2) / 2

    def decode(self, passes: float, rows: float, stored: float) -> np.ndarray:
        """Of passes with so many rows together, which read so many stored tokens: (3,), by what causes it."""
        return np.array([self.step * passes, (self.token + self.head) * rows, self.stored * stored])


class Pace:
    """Seconds for an operation, as measured: one number for prompts, one for each cause of a decode pass's work.

    The three of a decode pass are a least-squares fit to all passes so far, drawn to their common mean as if that had
    been seen in `GUESS` passes: as long as all passes are alike, they cannot be told apart.
    """

    def __init__(self) -> None:
        self.seconds, self.work = Counter(), Counter()                  # by "prefill" and "decode"
        self.squares, self.products = np.zeros((3, 3)), np.zeros(3)

    def prefilled(self, seconds: float, work: float) -> None:
        self.seconds["prefill"] += seconds
        self.work["prefill"] += work

    def decoded(self, seconds: float, work: np.ndarray) -> None:
        """`work` (3,) as `Work.decode` gives it."""
        total = float(work.sum())
        self.seconds["decode"] += seconds
        self.work["decode"] += total
        shares = work / total
        self.squares += np.outer(shares, shares)
        self.products += shares * (seconds / total)

    def prefill(self) -> float | None:
        """None before the first pass."""
        return self.seconds["prefill"] / self.work["prefill"] if self.work["prefill"] else None

    def decode(self) -> np.ndarray | None:
        """(3,); as long as nothing was decoded an operation takes `SLOWER` times as long as in a prompt."""
        if not self.work["decode"]:
            return None if self.prefill() is None else np.full(3, SLOWER * self.prefill())
        mean = self.seconds["decode"] / self.work["decode"]
        fit = np.linalg.solve(self.squares + GUESS * np.eye(3), self.products + GUESS * mean)
        return np.clip(fit, mean / BOUND, mean * BOUND)


def survival(stopped: Counter[int], drawn: Counter[int], most: int) -> np.ndarray:
    """The share of samples that draw more than t tokens, for t = 0 .. `most`: (most + 1,), the last of them 0.

    From how often a sample stops at each length among those that got so far (Kaplan & Meier 1958, "Nonparametric
    estimation from incomplete observations"), and from one sample that nobody saw: its length may have any order of
    magnitude from `LEAST` to `most`. So a forecast before the first answer has ended expects no answer of the full
    length. Behind the longest sample they stop as often as samples did of late, measured by that one.

    Args:
        stopped: samples that ended by a stop token, by tokens drawn.
        drawn: all samples, those that go on too, by tokens drawn.
    """
    tokens = np.arange(1, most + 1)
    unseen = (tokens >= min(LEAST, most)) / tokens
    unseen /= unseen.sum()
    stops, seen = (np.array([counter[n] for n in tokens], dtype=float) for counter in (stopped, drawn))
    so_far, unseen_so_far = (x[::-1].cumsum()[::-1] for x in (seen, unseen))    # samples of so many tokens or more
    stop = (unseen + stops) / (unseen_so_far + so_far)
    longest = max((n for n in drawn if drawn[n]), default=0)
    late = slice(longest // 2, longest)
    expected = (so_far * unseen / unseen_so_far)[late].sum()
    stop[longest:] *= (LATE + stops[late].sum()) / (LATE + expected)
    share = np.cumprod(1 - np.minimum(stop, 1))
    share[-1] = 0.0
    return np.concatenate([[1.0], share])


def lengths(share: np.ndarray, drawn: np.ndarray) -> list[int]:
    """How many tokens each sample draws in all that has drawn `drawn` (N,): quantiles that cover [0, 1) evenly."""
    u = np.arange(1, len(drawn) + 1) * GOLDEN % 1
    drawn = np.minimum(drawn, len(share) - 1)
    return np.maximum(np.searchsorted(-share, -u * share[drawn]), np.minimum(drawn + 1, len(share) - 1)).tolist()


class Waiting(NamedTuple):
    """A prompt of so many tokens whose samples have not all begun."""

    prompt: int
    samples: int
    work: float                                    # operations until all of it is in the cache


def forecast(work: Work, pace: Pace, share: np.ndarray, live: Sequence[tuple[int, int]], waiting: Iterable[Waiting],
             places: Callable[[int], int]) -> float | None:
    """Seconds until all samples have ended; None before the first pass.

    Args:
        share: see `survival`.
        live: (prompt tokens, tokens drawn) of each row.
        waiting: in the order in which they enter.
        places: how many rows there may be beside a prompt of so many tokens.
    """
    prefill, decode = pace.prefill(), pace.decode()
    if prefill is None:
        return None
    queue = deque(waiting)
    fresh = iter(lengths(share, np.zeros(sum(item.samples for item in queue), dtype=int)))
    rows: list[tuple[int, int]] = []               # a heap: (pass after which the row ends, tokens that it stores then)
    now, stored = 0, 0                             # passes so far; tokens that the rows store
    prefilled, rows_passed, read = 0.0, 0, 0.0     # operations; rows of all passes together; stored tokens they read

    def begin(prompt: int, drawn: int, length: int) -> int:
        """Let a row begin; returns the tokens that it stores."""
        heapq.heappush(rows, (now + length - drawn, prompt + length))
        return prompt + drawn

    for (prompt, drawn), length in zip(live, lengths(share, np.array([drawn for _, drawn in live], dtype=int))):
        stored += begin(prompt, drawn, length)
    while rows or queue:
        if queue and 4 * len(rows) <= 3 * places(queue[0].prompt):      # as Engine.admit does
            while queue and len(rows) < places(queue[0].prompt):
                item = queue.popleft()
                prefilled += item.work
                stored += sum(begin(item.prompt, 1, next(fresh)) for _ in range(item.samples))   # token 1 needs no pass
        if not rows:
            continue
        passes = rows[0][0] - now
        rows_passed += passes * len(rows)
        read += passes * stored + len(rows) * passes**2 / 2
        now += passes
        stored += len(rows) * passes
        while rows and rows[0][0] == now:
            stored -= heapq.heappop(rows)[1]
    return prefilled * prefill + float(work.decode(now, rows_passed, read) @ decode)
