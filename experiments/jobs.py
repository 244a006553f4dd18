"""Several runs of our own commands at a time, each with its share of the cores; `ablate` and `controls` use it."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.steps import say
from tooldev import home


@dataclass(frozen=True)
class Job:
    """One command of tooldev.py; what it prints goes to `log`."""

    name: str
    arguments: tuple[str, ...]
    log: Path


def run_jobs(waiting: Sequence[Job], at_once: int) -> None:
    """Run all jobs; the first that fails stops the rest from starting.

    Raises:
        ValueError: a job failed; its log is named.
    """
    threads = max(1, (os.cpu_count() or 1) // at_once)
    waiting, running, failed = list(waiting), [], []
    while running or (waiting and not failed):
        while waiting and len(running) < at_once and not failed:
            job = waiting.pop(0)
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with job.log.open("a") as log:
                process = subprocess.Popen([sys.executable, str(home("tooldev.py")), *job.arguments], stdout=log,
                                           stderr=log, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
            running.append((job, process))
            say(f"{job.name} started; its progress is in {job.log}")
        time.sleep(0.5)
        for job, process in [entry for entry in running if entry[1].poll() is not None]:
            running.remove((job, process))
            ending = "finished" if process.returncode == 0 else f"failed with exit code {process.returncode}"
            say(f"{job.name} {ending}")
            failed += [job] if process.returncode else []
    if failed:
        raise ValueError(f"{failed[0].name} failed; see the end of {failed[0].log}, then type the same command again")
