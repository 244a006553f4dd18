"""Who shares a frozen base out with whom: the processes of a machine, of the run, or nobody (--shard)."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from model import ModelConfig
from training.plan import available_memory, base_weights
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
    if world_size % count:
        raise ValueError(f"--shard {shard}: {world_size} processes are not a multiple of the {count} of this machine; "
                         "start equally many on each, or use --shard job")
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
        weights = base_weights(ModelConfig.load(folder)) * dtype.itemsize
        shard = shard_that_fits(weights, MOST_OF_A_CARD * available_memory(processes.device), processes, say)
    return mesh_over(shard, processes) if shard != "off" else None


def shard_that_fits(needed: float, available: float, processes: Processes, say: Callable[[str], None]) -> str:
    """What --shard auto means for a base that, whole on each process, needs so many bytes of those available."""
    words = f"{needed / 2**30:.2f} GiB with a whole base on each process, of {available / 2**30:.2f}"
    if not processes.any_over(needed, available):
        say(f"--shard auto: off ({words})")
        return "off"
    over = "job" if processes.any_over(needed / sharers("node", processes), available) else "node"
    say(f"--shard auto: {over} ({words})")
    return over
