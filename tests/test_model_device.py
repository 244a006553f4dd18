"""What the process does with the memory of freed tensors."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import torch
from model.device import free_memory, keep_freed_memory

def resident() -> int:
    return int(open("/proc/self/statm").read().split()[1]) * 4096

assert keep_freed_memory()
begin = resident()
tensors = [torch.ones(4_000_000, dtype=torch.int8) for _ in range(100)]
del tensors
kept = resident()
free_memory(torch.device("cpu"))
print(kept - begin, resident() - begin)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt and malloc_trim are glibc's")
def test_freed_tensors_are_kept_until_somebody_asks_what_is_free():
    """Else a training step touches fresh pages, or the plan of a second phase misses what the first one freed."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True,
                          cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr
    kept, asked = map(int, done.stdout.split())
    assert kept > 300_000_000 and asked < 100_000_000                   # of 400 million bytes
