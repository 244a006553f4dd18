"""Threads on a CPU beside other work: they spin while the cores are ours, and sleep while somebody else needs them.

PyTorch's threads meet thousands of times a second. A thread that waits for another spins for some milliseconds before
it sleeps. That is right on idle cores: waking a thread costs more than the wait. Beside other work it is ruinous: the
spinning thread holds the very core that the thread it waits for needs. No fixed setting serves both
(benchmarks/neighbours.md).

GNU's OpenMP library (libgomp), which PyTorch brings on Linux, spins a hundred times and no more while it has more
threads than there are cores. So we give it some idle ones for as long as the cores are shared, and take them back
afterwards. How the work is split does not change, and so no result does.
"""

import os
import sys
import threading
import time
from functools import cache
from pathlib import Path

import torch

SECONDS = 0.5               # between two looks at what others use
BUSY, QUIET = 0.3, 0.1      # cores that others must use, and may use, for a change of mind
CALM_LOOKS = 6              # quiet looks in a row before threads spin again
USERS_OWN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@cache
def watch_neighbours() -> bool:
    """Watch other work on our cores until the process ends, and spin or sleep accordingly; whether it does.

    It does not where there is nothing to choose (one thread), where the user has chosen (OMP_WAIT_POLICY,
    GOMP_SPINCOUNT), and where PyTorch's threads are not libgomp's.
    """
    if torch.get_num_threads() < 2 or any(name in os.environ for name in USERS_OWN) or not _has_libgomp():
        return False
    threading.Thread(target=_watch, name="neighbours", daemon=True).start()
    return True


def _has_libgomp() -> bool:
    try:
        return "libgomp" in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False                                        # not Linux


def _watch() -> None:
    sleepers: list[Sleeper] = []
    told, calm, before = False, 0, cores_used()
    while before is not None:
        time.sleep(SECONDS)
        now = cores_used()
        if now is None:
            return
        others = others_use(before, now)
        before = now
        spare = len(os.sched_getaffinity(0)) - torch.get_num_threads()
        calm = calm + 1 if others < spare + QUIET else 0
        if others > spare + BUSY and not sleepers:
            sleepers = [Sleeper() for _ in range(sleepers_needed(spare, torch.get_num_threads()))]
            if not told:
                cores = len(os.sched_getaffinity(0))
                print(f"other processes use {others:.1f} of our {cores} cores: threads sleep while they wait",
                      file=sys.stderr)
            told = True
        elif sleepers and calm >= CALM_LOOKS:
            for sleeper in sleepers:
                sleeper.end()
            sleepers = []


def cores_used(stat: str | Path = "/proc/stat") -> tuple[float, float, float] | None:
    """(clock, seconds that all processes have used of our cores, seconds that we have used); None where it cannot be
    told.
    """
    tick = os.sysconf("SC_CLK_TCK")
    ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    used = 0
    try:
        lines = Path(stat).read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        name, *fields = line.split()
        if name in ours:
            user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[:7])
            used += user + nice + system + irq + softirq
    return time.monotonic(), used / tick, time.process_time()


def others_use(before: tuple[float, float, float], now: tuple[float, float, float]) -> float:
    """Cores that other processes kept busy between two looks."""
    clock, used, own = (b - a for a, b in zip(before, now, strict=True))
    return max(0.0, used - own) / clock if clock > 0 else 0.0


def sleepers_needed(spare: int, threads: int) -> int:
    """Each sleeper brings threads - 1 more; together with ours (`threads`) they must exceed the cores (`threads +
    spare`).
    """
    return max(spare, 0) // (threads - 1) + 1


class Sleeper:
    """A thread with a pool of OpenMP threads of its own that never work again."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._made = threading.Event()
        self._thread = threading.Thread(target=self._sleep, name="sleeper", daemon=True)
        self._thread.start()
        self._made.wait()

    def _sleep(self) -> None:
        torch.zeros(1 << 18).add_(1)                        # large enough to be split, and so to make the pool
        self._made.set()
        self._over.wait()

    def end(self) -> None:
        """End the thread; its pool goes with it."""
        self._over.set()
        self._thread.join()
