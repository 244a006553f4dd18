"""Memory of a device, and a CPU made ready for work.

How much is left: on a GPU, what the driver and PyTorch's own cache can still give; on a CPU, within the container's
limit.
"""

import ctypes
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path

import torch

from model.threads import watch_neighbours

CGROUPS = "/sys/fs/cgroup"
# Limit and use of a container, and the part of the use that is files kept in memory: cgroup v2, then v1.
LIMITS = (("memory.max", "memory.current", "inactive_file"),
          ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))


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
    return min([free_on_host(), *free_in_container(containers())])


def free_on_host(meminfo: str | Path = "/proc/meminfo") -> int:
    """MemAvailable; where there is no such file (not Linux), half of what is built in."""
    try:
        fields = dict(line.split(":") for line in Path(meminfo).read_text(encoding="ascii").splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def built_in_memory() -> int:
    """Bytes of the machine, or of the container's limit where that is lower: free or not."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for folder, (limit, _, _) in product(containers(), LIMITS):
        with suppress(OSError, ValueError):                 # no such file, or "max": no limit
            limits.append(int((folder / limit).read_text(encoding="ascii")))
    return min(limits)


def containers(listed: str | Path = "/proc/self/cgroup", root: str | Path = CGROUPS) -> set[Path]:
    """The folders of the memory limits that hold for this process: those of its cgroups and of all above them."""
    found = {Path(root), Path(root, "memory")}
    with suppress(OSError, ValueError):                     # not Linux
        for line in Path(listed).read_text(encoding="utf-8").splitlines():
            _, kinds, place = line.split(":", 2)            # of v2 none is named
            if not kinds or "memory" in kinds.split(","):
                own = Path(root, kinds and "memory", place.strip("/"))
                found |= {above for above in (own, *own.parents) if above.is_relative_to(root)}
    return found


def free_in_container(folders: Iterable[Path]) -> list[int]:
    """What is left of each limit that is set; files that are kept in memory make way, and count as free."""
    left = []
    for folder, (limit, used, files) in product(folders, LIMITS):
        with suppress(OSError, ValueError):                 # no such file, or "max": no limit
            limit_bytes, used_bytes = (int((folder / name).read_text(encoding="ascii")) for name in (limit, used))
            stat = folder / "memory.stat"
            kept = re.search(rf"^{files} (\d+)$", stat.read_text(encoding="ascii") if stat.is_file() else "", re.M)
            left.append(max(0, limit_bytes - used_bytes + int(kept[1] if kept else 0)))
    return left
