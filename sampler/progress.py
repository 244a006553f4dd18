"""The line that says how far sampling is, and how long the rest will take.

Prompts come longest first, so neither items nor tokens done say how much is left. What is left is counted in work, the
arithmetic of the passes that are to come, prompts and answers apart; each kind has shown so far what it takes a second.
How long answers will be is estimated from those that have ended and from those that have not.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

BYTE, WEIGHT = 12, 8            # reading a byte of keys and values, or of weights, takes as long as so many operations


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

    def answer(self, stored: float, tokens: float, rows: int) -> float:
        """Of so many more tokens of a sample that sees `stored` at first, one of so many rows."""
        return tokens * (self.token + self.head + self.step / rows + self.stored * (stored + tokens / 2))


def tokens_left(stopped: Counter[int], drawn: Counter[int], most: int) -> list[float]:
    """How many more tokens a sample draws on average that has drawn t, for t = 0 .. `most`.

    From how often a sample stops at each length among those that got so far (Kaplan & Meier 1958, "Nonparametric
    estimation from incomplete observations"). Behind the longest sample that of the later half of lengths goes on.

    Args:
        stopped: samples that ended by a stop token, by tokens drawn.
        drawn: all samples, those that go on too, by tokens drawn.
    """
    going, alive = [0] * (most + 1), 0             # going[t]: samples that drew more than t
    for t in range(most, -1, -1):
        going[t] = alive
        alive += drawn[t]
    longest = max((n for n in drawn if drawn[n]), default=0)
    late = range(longest // 2, longest)
    rate = sum(stopped[t + 1] for t in late) / max(1, sum(going[t] for t in late))
    left = [0.0] * (most + 1)
    for t in range(most - 1, -1, -1):
        ends = stopped[t + 1] / going[t] if going[t] else rate
        left[t] = 1 + (1 - ends) * left[t + 1]
    return left


class Progress:
    """Items done, rows, tokens per second and time left: one line on stderr, every second; in a file, every ten."""

    def __init__(self, show: bool | Callable[[], str], total: int, most: int) -> None:
        self.text = show if callable(show) else (lambda: "") if show else None
        self.total, self.done, self.most = total, 0, most
        self.began, self.shown = time.monotonic(), 0.0
        self.end, self.pause = ("\x1b[K\r", 1.0) if sys.stderr.isatty() else ("\n", 10.0)
        self.seconds, self.tokens, self.work = Counter(), Counter(), Counter()           # by "prefill" and "decode"
        self.prompts_left = 0.0                    # work
        self.stopped: Counter[int] = Counter()     # samples by tokens drawn
        self.drawn: Counter[int] = Counter()

    def count(self, kind: str, seconds: float, tokens: int, work: float) -> None:
        """A pass is over."""
        self.seconds[kind] += seconds
        self.tokens[kind] += tokens
        self.work[kind] += work

    def ended(self, drawn: int, stopped: bool) -> None:
        """A sample has ended, by a stop token or otherwise."""
        self.drawn[drawn] += 1
        self.stopped[drawn] += stopped

    def due(self) -> bool:
        return self.text is not None and time.monotonic() - max(self.shown, self.began) >= self.pause

    def left(self, cost: Work, live: Sequence[tuple[int, int]],
             waiting: Iterable[tuple[int, int, int]]) -> float | None:
        """Seconds; None before the first prompt is in.

        Args:
            live: (prompt tokens, tokens drawn) of each row.
            waiting: (prompt tokens, samples, rows that there will be) of each item with samples that have not begun.
        """
        tokens = tokens_left(self.stopped, self.drawn + Counter(drawn for _, drawn in live), self.most)
        answers = sum(cost.answer(prompt + drawn, tokens[min(drawn, self.most)], len(live)) for prompt, drawn in live)
        answers += sum(samples * cost.answer(prompt, tokens[0], rows) for prompt, samples, rows in waiting)
        if not self.work["prefill"]:
            return None
        slow = self.seconds["prefill"] / self.work["prefill"]
        seconds = (self.prompts_left - self.work["prefill"]) * slow
        return seconds + answers * (self.seconds["decode"] / self.work["decode"] if self.work["decode"] else slow)

    def show(self, rows: int, places: int, left: float | None, last: bool = False) -> None:
        """Print the line; `places`: how many rows the cache has room for."""
        if self.text is None:
            return
        self.shown = time.monotonic()
        elapsed = max(self.shown - self.began, 1e-9)
        eta = "--:--:--" if left is None else f"{int(left) // 3600:02}:{int(left) // 60 % 60:02}:{int(left) % 60:02}"
        rates = [f"{kind} {self.tokens[kind] / self.seconds[kind]:,.0f} tok/s" for kind in ("prefill", "decode")
                 if self.seconds[kind]]
        fields = [f"sampled {self.done:,}/{self.total:,} items", f"{self.done / elapsed:.2f} items/s",
                  f"{rows}/{places} rows", *rates, self.text(), f"eta {eta}"]
        end = self.end.replace("\r", "\n") if last else self.end
        print(" | ".join(filter(None, fields)), end=end, file=sys.stderr, flush=True)
