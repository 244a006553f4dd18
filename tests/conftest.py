"""One thread a process: the suite runs in two processes at a time (pyproject.toml), and two threads each would fight for two cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
