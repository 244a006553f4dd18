"""Threads beside other work: when they sleep, when they spin again, and what it saves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import Job

from model import threads

ROOT = Path(__file__).resolve().parent.parent
LINUX = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux tells what others use in /proc/stat")

# Many short parallel parts, as in decoding; prints the CPU seconds of a fixed amount of work, and a sum of its results.
SCRIPT = """
import sys, time, torch
from model.threads import watch_neighbours
torch.set_num_threads(2)
if sys.argv[1] == "watch":
    assert watch_neighbours()
    time.sleep(3)
generator = torch.Generator().manual_seed(0)
x, weights = torch.randn(8, 512, generator=generator), [torch.randn(1024, 512, generator=generator) for _ in range(20)]
begin, total = time.process_time(), 0.0
for _ in range(15):
    for weight in weights:
        y = x @ weight.T
        total += float((torch.nn.functional.silu(y) * y).sum())
print(time.process_time() - begin, total.hex())
"""


def run(mode: str, **changes: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name not in threads.USERS_OWN}
    environment |= {"OMP_NUM_THREADS": "2"} | changes
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    return [*done.stdout.split(), done.stderr]


@pytest.mark.slow
@LINUX
@pytest.mark.skipif(
    len(getattr(os, "sched_getaffinity", lambda _: [])(0)) != 2, reason="the load is made for two cores"
)
def test_beside_busy_processes_threads_sleep_and_results_stay():
    """Who gets which core when is the scheduler's; so the best of three tries counts."""
    ratios = []
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        while len(ratios) < 3 and min(ratios, default=1.0) >= 0.6:
            spinning, sum_spinning, _ = run("spin")
            sleeping, sum_sleeping, told = run("watch")
            assert sum_spinning == sum_sleeping
            assert told.count("threads sleep while they wait") == 1
            ratios.append(float(sleeping) / float(spinning))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert min(ratios) < 0.6, f"CPU seconds of the same work, sleeping to spinning: {ratios}"


QUICK = """
import threading, time, torch
from model import threads
torch.set_num_threads(2)
x, looks = torch.randn(64, 512, generator=torch.Generator().manual_seed(0)), iter(range(10 ** 6))
threads.SECONDS = 0.01
threads.cores_used = lambda: (now := float(next(looks)), 2.0 * now, 0.0)        # the others use two cores
before = (x @ x.T).relu().sum()
assert threads.watch_neighbours()
while not any(thread.name == "sleeper" for thread in threading.enumerate()):
    time.sleep(0.01)
time.sleep(0.1)
print(bool(before == (x @ x.T).relu().sum()))
"""


@LINUX
def test_where_others_use_our_cores_sleepers_are_made_and_it_is_told_once():
    """What that saves beside real neighbours is measured above."""
    done = Job(QUICK).completed()
    assert done.stdout.strip() == "True", done.stderr
    assert done.stderr.count("threads sleep while they wait") == 1


def test_a_users_own_setting_is_left_alone():
    code = ("import torch; torch.set_num_threads(2); from model.threads import watch_neighbours; "
            "print(watch_neighbours())")
    done = Job(code, OMP_WAIT_POLICY="PASSIVE").completed()
    assert done.stdout.strip() == "False", done.stderr


@LINUX
def test_only_our_cores_count_and_our_own_seconds_do_not(tmp_path, monkeypatch):
    tick = os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    stat = tmp_path / "stat"
    row = "{name} {user} 0 {system} 999999 999 0 0 5000 0 0\n"
    stat.write_text("cpu 1 1 1 1 1 1 1 0 0 0\n" + "".join(row.format(name=f"cpu{core}", user=core * tick, system=tick)
                                                        for core in range(3)) + "intr 5\n")
    clock, used, own = threads.cores_used(stat)
    assert used == 0 + 1 + 2 + 1                            # cpu0 and cpu2; idle, waiting and stolen time left out
    assert threads.others_use((clock, used, own), (clock + 2, used + 3, own + 1)) == pytest.approx(1.0)
    assert threads.others_use((clock, used, own), (clock + 2, used + 1, own + 2)) == 0.0       # rounding of ticks
    assert threads.cores_used(tmp_path / "none") is None


@pytest.mark.parametrize("spare, count, needed", [(0, 2, 1), (2, 2, 3), (0, 8, 1), (-2, 4, 1), (6, 2, 7), (8, 8, 2)])
def test_so_many_sleepers_that_threads_exceed_cores(spare, count, needed):
    assert threads.sleepers_needed(spare, count) == needed
    if spare >= 0:
        assert count + needed * (count - 1) > count + spare
