"""The planner's memory of a sharded base beside the peak of a process: one Markdown table.

    python benchmarks/shard_memory.py                       # training steps of small shapes, bytes of live tensors
    python benchmarks/shard_memory.py --load 8b --sharing 4 # anonymous memory while an 8B-shaped folder is loaded
    python benchmarks/shard_memory.py --load 8b --sharing 4 --layers 2 --together       # the same by all four at once

But for --together the other processes are not there: PyTorch's "fake" backend lets every collective return at once,
with memory as it is and values as they are. So the first process of any number can be measured on one machine; what
gloo or NCCL take for themselves is not in it. Files of weights are sparse: they take no disk and read as zeros.
"""

import argparse
import gc
import json
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from benchmarks.train_memory import SHAPES, LiveBytes, rows_and_settings, shape_config
from model import ModelConfig, Transformer, load_model
from model.sharding import local
from train import prepare, train_step
from training.plan import base_memory, make_plan
from training.processes import Processes
from training.sharing import mesh_over

FOLDERS = {     # hidden, intermediate, layers, heads, key/value heads, vocabulary
    "tiny": (256, 704, 3, 8, 2, 4000), "8b": (4096, 14336, 32, 32, 8, 128256),
}


class ResizedBytes(LiveBytes):
    """LiveBytes whose storages change their size: FSDP empties a gathered block's instead of letting them go.

    `most` is the largest sum of the sizes that they had at one time; `peak` takes each at its first size.
    """

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = super().__torch_dispatch__(func, types, args, kwargs)
        storages = [ref() for ref in self._seen.values()]
        self.most = max(self.most, sum(storage.nbytes() for storage in storages if storage is not None))
        return out


def first_of(world_size: int) -> Processes:
    """This process as the first of so many, the others left out."""
    from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: F401  registers the backend

    os.environ.update(RANK="0", WORLD_SIZE=str(world_size), LOCAL_RANK="0")
    dist.init_process_group("fake", rank=0, world_size=world_size, store=dist.HashStore())
    return Processes()


def measure(shape: tuple[int, ...], sharing: int, *, dtype: torch.dtype = torch.float32,
            checkpointing: int = 1) -> tuple[int, int]:
    """(planned, measured) bytes of a training step of the first of `sharing` processes."""
    config = shape_config(shape)
    rows, supervised, settings = rows_and_settings(config, checkpointing=checkpointing, shard="job", copies=sharing)
    processes = first_of(sharing)
    try:
        trainer = prepare(settings, processes, rows, None, Transformer(config).to(dtype), None, lambda line: None)
        trainer.model.train()
        plan = make_plan(settings, config, [len(row.ids) for row in rows], len(rows) * supervised, 3, dtype,
                         processes.device, sharing, sharing=sharing)
        train_step(trainer)                                 # the optimizer's state exists from here on
        flat = trainer.flat
        state = [value for values in trainer.optimizer.state.values() for value in values.values()]
        alive = [*map(local, trainer.model.parameters()), flat.master, flat.grad, flat.compute, flat.compute_grad]
        gc.collect()
        with ResizedBytes(*alive, *state) as live:
            train_step(trainer)
        return plan.tensors, live.most
    finally:
        processes.close()
        dist.destroy_process_group()


def sparse_folder(folder: Path, config: ModelConfig) -> None:
    """A checkpoint of zeros in bfloat16 whose file takes no room on the disk."""
    with torch.device("meta"):
        state = Transformer(config).state_dict()
    header, end = {}, 0
    for name, weight in state.items():
        header[name] = {"dtype": "BF16", "shape": list(weight.shape), "data_offsets": [end, end + 2 * weight.numel()]}
        end += 2 * weight.numel()
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    (folder / "config.json").write_text(json.dumps(config.to_dict("bfloat16")))


def anonymous() -> int:
    """Bytes of this process that no file stands for."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous"))


def load(folder: str, processes: Processes) -> tuple[int, int, int]:
    """(this process's weights, largest tensor of them, most anonymous memory more than before), in bytes."""
    stop, peak, mesh = threading.Event(), 0, mesh_over("job", processes)
    gc.collect()
    before = anonymous()

    def watch() -> None:
        nonlocal peak
        while not stop.is_set():
            peak = max(peak, anonymous() - before)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    model = load_model(folder, torch.bfloat16, mesh=mesh)
    stop.set()
    watcher.join()
    held = [local(weight).nbytes for weight in model.parameters()]
    return sum(held), max(held), peak


def load_alone(folder: str, sharing: int) -> tuple[int, int, int]:
    """`load` by the first of so many processes, the others left out."""
    processes = first_of(sharing)
    try:
        return load(folder, processes)
    finally:
        processes.close()
        dist.destroy_process_group()


def load_together(folder: str, sharing: int) -> tuple[int, int, int]:
    """The most that `load` takes of any of so many processes, all at work and over gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with torch.multiprocessing.get_context("spawn").Pool(sharing) as pool:
        found = pool.starmap(load_as, [(folder, number, sharing, port) for number in range(sharing)], chunksize=1)
    return tuple(map(max, zip(*found, strict=True)))


def load_as(folder: str, dist_rank: int, sharing: int, port: int) -> tuple[int, int, int]:
    """`load` by one process of several."""
    os.environ.update(RANK=str(dist_rank), WORLD_SIZE=str(sharing), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with Processes() as processes:
        return load(folder, processes)


def print_loading(name: str, sharing: int, layers: int | None, together: bool) -> None:
    """The table of one folder."""
    shape = FOLDERS[name][:2] + (layers or FOLDERS[name][2],) + FOLDERS[name][3:]
    config = shape_config(shape, tied=False)
    with tempfile.TemporaryDirectory() as folder:
        sparse_folder(Path(folder), config)
        held, largest, peak = (load_together if together else load_alone)(folder, sharing)
    planned = base_memory(config, 2, sharing, on_cpu=True)["base's share"]
    print("| folder | layers | processes | measured | held GB | planned | largest tensor | peak while loading |")
    print("|---|---|---|---|---|---|---|---|")
    print(f"| {name} | {shape[2]} | {sharing} | {'the most of all, over gloo' if together else 'the first, alone'} | "
          + " | ".join(f"{size / 1e9:.3f}" for size in (held, planned, largest, peak)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--load", choices=tuple(FOLDERS), help="measure loading of a folder of this shape")
    parser.add_argument("--sharing", type=int, default=4, help="processes that share the base, for --load")
    parser.add_argument("--layers", type=int, help="of the folder, for --load; default: all of its shape")
    parser.add_argument("--together", action="store_true", help="load by all processes at once, over gloo")
    arguments = parser.parse_args()
    print(describe())
    if arguments.load:
        print_loading(arguments.load, arguments.sharing, arguments.layers, arguments.together)
        return
    print("| shape | processes | checkpointing | planned MiB | measured MiB | error |\n|---|---|---|---|---|---|")
    for name, shape in SHAPES.items():
        for sharing in (2, 4):
            for checkpointing in (0, 1):
                planned, measured = measure(shape, sharing, checkpointing=checkpointing)
                print(f"| {name} | {sharing} | {checkpointing} | {planned / 2**20:.2f} | {measured / 2**20:.2f} | "
                      f"{planned / measured - 1:+.1%} |", flush=True)


if __name__ == "__main__":
    main()
