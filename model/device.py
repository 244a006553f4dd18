"""Memory of a device, and a CPU made ready for work.

How much is left: on a GPU, what the driver and PyTorch's own cache can still give; on a CPU, within the container's
limit.
"""

import ctypes
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from model.threads import watch_neighbours

# Limit and use of a container: cgroup v2, then v1.
CGROUPS = (("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
           ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"))


def prepare_cpu() -> None:
    """What training and sampling want of a process that computes on a CPU; the first call does it."""
    keep_freed_memory()
    watch_neighbours()


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep freed tensors of up to 32 MiB for the next ones, until the process ends; whether it does.

    By itself it hands them back to the kernel, and every activation then touches fresh pages: an eighth of a prefill's
    and of a training step's time on a CPU. `free_memory` hands back what is kept before it looks.
    """
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3                         # of mallopt(3)
    MOST = 32 << 20                                                     # no larger block can be kept
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False                                                    # not glibc
    return bool(mallopt(M_MMAP_THRESHOLD, MOST) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def hand_back_freed_memory() -> None:
    """What freed tensors left with glibc goes back to the kernel, and so counts as free there."""
    with suppress(AttributeError, OSError, TypeError):                  # not glibc: nothing was kept
        ctypes.CDLL(None).malloc_trim(0)


def free_memory(device: torch.device) -> int:
    """Bytes that this process could still take on the device, alone there."""
    if device.type == "cuda":
        # What the allocator keeps, it uses again.
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    hand_back_freed_memory()
    return min([free_on_host(), *free_in_container()])


def free_on_host(meminfo: str | Path = "/proc/meminfo") -> int:
    """MemAvailable; where there is no such file (not Linux), half of what is built in."""
    try:
        fields = dict(line.split(":") for line in Path(meminfo).read_text(encoding="ascii").splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def free_in_container(files: tuple[tuple[str, str], ...] = CGROUPS) -> list[int]:
    """What a container's limit leaves, for each limit that is set."""
    left = []
    for limit, used in files:
        with suppress(OSError, ValueError):                 # no such file, or "max": no limit
            limit_bytes, used_bytes = (int(Path(file).read_text(encoding="ascii")) for file in (limit, used))
            left.append(max(0, limit_bytes - used_bytes))
    return left
