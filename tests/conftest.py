"""One thread a process: the suite runs in two (pyproject.toml), and two threads each would fight for two cores."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST = ("test_demo.py", "test_sampler_engine.py", "test_train_gradients.py", "test_evolve_round.py",
           "test_evolve_resume.py", "test_sampler_sampling.py", "test_train_steps.py")


def pytest_collection_modifyitems(items):
    """The longest files first, so that neither process waits for the other at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish():
    """What is imported by now stays to the end: no look for garbage, of which tests ask for dozens, walks it again."""
    gc.collect()
    gc.freeze()
