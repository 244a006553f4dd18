"""Who shares a frozen base out with whom: the processes of a machine, of the run, or nobody (--shard)."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from model import ModelConfig
from training.plan import available_memory, base_memory
from training.processes import Processes

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

MOST_OF_A_CARD = 0.8            # that the base may take where a process samples: the rest is for keys and values


def sharing(shard: str, timeout_minutes: float = 30.0) -> AbstractContextManager[Processes | None]:
    """The processes that --shard is about; None where it is off and each has a base of its own."""
    return nullcontext() if shard == "off" else Processes(60 * timeout_minutes)


def sharers(shard: str, processes: Processes) -> int:
    """How many processes share one base: those that torchrun started on this machine, or all; 0: it is whole."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "0")) or processes.world_size
    return {"off": 0, "node": here, "job": processes.world_size}[shard]


def mesh_over(shard: str, processes: Processes) -> "DeviceMesh":
    """The processes that share one copy of a base with this one: of its machine ("node"), or all ("job").

    Raises:
        ValueError: the machines run different numbers of processes.
    """
    from torch.distributed.device_mesh import init_device_mesh

    kind, count, world_size = processes.device.type, sharers(shard, processes), processes.world_size
    if not processes.same(count, "the sizes of machines"):
        raise ValueError(f"--shard {shard}: this machine runs {count} of the {world_size} processes, another one "
                         "another number; start equally many on each, or use --shard job")
    if world_size == 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh(kind, (world_size // count, count), mesh_dim_names=("copy", "shard"))["shard"]
    # Votes come before every pass while sampling: over the host, they do not wait for the GPU.
    processes.voters = mesh.get_group() if kind == "cpu" else dist.new_subgroups(count, backend="gloo")[0]
    return mesh


def base_mesh(folder: str, dtype: torch.dtype, processes: Processes | None, shard: str,
              say: Callable[[str], None]) -> "DeviceMesh | None":
    """The processes that share the base of this folder out, for sampling; None where each has one of its own."""
    if processes is None or shard == "off":
        return None
    if shard == "auto":
        shape, on_cpu = ModelConfig.load(folder), processes.device.type == "cpu"
        shard = shard_that_fits(lambda sharing: sum(base_memory(shape, dtype.itemsize, sharing, on_cpu).values()),
                                MOST_OF_A_CARD * available_memory(processes.device), processes, say)
    return mesh_over(shard, processes) if shard != "off" else None


def shard_that_fits(needed: Callable[[int], float], available: float, processes: Processes,
                    say: Callable[[str], None]) -> str:
    """What --shard auto means where a process has so many bytes.

    Args:
        needed: the bytes that it needs where so many processes share one base; 0: each has a whole one.
    """
    words = f"{needed(0) / 2**30:.2f} GiB with a whole base on each process, of {available / 2**30:.2f}"
    if processes.world_size == 1:
        shard, words = "off", "one process has nobody to share with"
    elif not processes.any_over(needed(0), available):
        shard = "off"
    else:
        shard = "job" if processes.any_over(needed(sharers("node", processes)), available) else "node"
    say(f"--shard auto: {shard} ({words})")
    return shard
