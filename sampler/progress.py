"""The line that says how far sampling is, and how long the rest will take."""

import sys
import time
from collections import Counter
from collections.abc import Callable

from .forecast import Pace

SHARE = 0.02        # of the time, at most, goes into forecasts: with 500,000 samples to come one takes over a second


class Progress:
    """Items done, rows, tokens per second and time left: one line on stderr, every second; in a file, every ten."""

    def __init__(self, show: bool | Callable[[], str], total: int) -> None:
        self.text = show if callable(show) else (lambda: "") if show else None
        self.total, self.done = total, 0
        self.began, self.shown, self.spent = time.monotonic(), 0.0, 0.0         # spent: seconds on the last forecast
        self.end, self.pause = ("\x1b[K\r", 1.0) if sys.stderr.isatty() else ("\n", 10.0)
        self.pace = Pace()
        self.tokens: Counter[str] = Counter()      # by "prefill" and "decode"
        self.stopped: Counter[int] = Counter()     # samples by tokens drawn
        self.drawn: Counter[int] = Counter()

    def ended(self, drawn: int, stopped: bool) -> None:
        """A sample has ended, by a stop token or otherwise."""
        self.drawn[drawn] += 1
        self.stopped[drawn] += stopped

    def due(self) -> bool:
        pause = max(self.pause, self.spent / SHARE)
        return self.text is not None and time.monotonic() - max(self.shown, self.began) >= pause

    def show(self, rows: int, places: int, seconds_left: Callable[[], float | None], last: bool = False) -> None:
        """Print the line; `places`: how many rows the cache has room for."""
        if self.text is None:
            return
        asked = time.monotonic()
        left = seconds_left()
        self.shown = time.monotonic()
        self.spent = self.shown - asked
        elapsed = max(self.shown - self.began, 1e-9)
        eta = "--:--:--" if left is None else f"{int(left) // 3600:02}:{int(left) // 60 % 60:02}:{int(left) % 60:02}"
        rates = [f"{kind} {self.tokens[kind] / seconds:,.0f} tok/s" for kind, seconds in self.pace.seconds.items()
                 if seconds]
        fields = [f"sampled {self.done:,}/{self.total:,} items", f"{self.done / elapsed:.2f} items/s",
                  f"{rows}/{places} rows", *rates, self.text(), f"eta {eta}",
                  "" if self.drawn or last else "no answer has ended yet"]
        end = self.end.replace("\r", "\n") if last else self.end
        print(" | ".join(filter(None, fields)), end=end, file=sys.stderr, flush=True)
