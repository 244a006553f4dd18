"""CPU time of one call, so that bars in milliseconds hold on a shared and on a slower machine."""

import time

BAR = 0.05          # seconds


def cpu_seconds(function, *arguments) -> float:
    """CPU seconds of the first call under the bar, else of the fastest of nine; those are taken for fewer where this
    machine, now, needs more than 20 ms to add up 200,000 squares.

    A garbage collection slows some calls, the suite's other process all of them, and a shared machine has slow minutes.
    """
    spent, slowness = [], []
    for _ in range(9):
        start = time.process_time()
        function(*arguments)
        spent.append(time.process_time() - start)
        if spent[-1] < BAR:
            return spent[-1]
        start = time.process_time()
        sum(i * i for i in range(200_000))
        slowness.append((time.process_time() - start) / 0.020)
    return min(spent) / max(1.0, min(slowness))
