"""The line that says how far sampling is."""

import sys
import time
from collections.abc import Callable


class Progress:
    """Items done, rows, tokens per second and time left: one line on stderr, every second; in a file, every ten."""

    def __init__(self, show: bool | Callable[[], str], total: int) -> None:
        self.text = show if callable(show) else (lambda: "") if show else None
        self.total, self.done, self.began, self.shown = total, 0, time.monotonic(), 0.0
        self.end, self.pause = ("\x1b[K\r", 1.0) if sys.stderr.isatty() else ("\n", 10.0)

    def show(self, rows: int, tokens: int, last: bool = False) -> None:
        now = time.monotonic()
        if self.text is None or now - max(self.shown, self.began) < self.pause and not last:
            return
        self.shown, elapsed = now, max(now - self.began, 1e-9)
        left = elapsed * (self.total - self.done) / self.done if self.done else None
        eta = "--:--:--" if left is None else f"{int(left) // 3600:02}:{int(left) // 60 % 60:02}:{int(left) % 60:02}"
        fields = [f"sampled {self.done:,}/{self.total:,} items", f"{rows} rows", f"{tokens / elapsed:,.0f} tok/s",
                  self.text(), f"eta {eta}"]
        end = self.end.replace("\r", "\n") if last else self.end
        print(" | ".join(filter(None, fields)), end=end, file=sys.stderr, flush=True)
