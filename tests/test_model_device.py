"""What the process does with the memory of freed tensors."""

import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource, sys, torch
from model.device import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(77)
def touch():                                # what a block of a model does: activations of some megabytes, freed in another order
    kept = [torch.ones(5_000_000, dtype=torch.int8) for _ in range(4)]
    del kept[0], kept[-1]
for _ in range(3):
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    if done.returncode == 77:
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_freed_tensors_are_used_again_and_not_handed_back():
    assert faults("keep") < 1000
