"""The planner's memory of a sharded base beside the peak of a process: one Markdown table, in one process.

    python benchmarks/shard_memory.py                       # training steps of small shapes, bytes of live tensors
    python benchmarks/shard_memory.py --load 8b --sharing 4 # anonymous memory while an 8B-shaped folder is loaded

The other processes are not there: PyTorch's "fake" backend lets every collective return at once, with memory as it is
and values as they are. So the first process of any number can be measured on one machine; what gloo or NCCL take for
themselves is not in it. Files of weights are sparse: they take no disk and read as zeros.
"""

import argparse
import gc
import json
import os
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
import torch.distributed as dist

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


def measure_loading(shape: tuple[int, ...], sharing: int) -> tuple[int, int, int]:
    """(this process's weights, largest whole tensor of them, most anonymous memory more than before), in bytes."""
    config = shape_config(shape, tied=False)
    processes, stop, peak = first_of(sharing), threading.Event(), 0
    with tempfile.TemporaryDirectory() as folder:
        sparse_folder(Path(folder), config)
        mesh = mesh_over("job", processes)
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
    processes.close()
    dist.destroy_process_group()
    held = sum(local(weight).nbytes for weight in model.parameters())
    return held, max(local(weight).nbytes for weight in model.parameters()), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--load", choices=tuple(FOLDERS), help="measure loading of a folder of this shape")
    parser.add_argument("--sharing", type=int, default=4, help="processes that share the base, for --load")
    arguments = parser.parse_args()
    print(describe())
    if arguments.load:
        held, largest, peak = measure_loading(FOLDERS[arguments.load], arguments.sharing)
        blocks = base_memory(shape_config(FOLDERS[arguments.load], tied=False), 2, arguments.sharing, on_cpu=True)
        print("| folder | processes | held GiB | planned | largest tensor | peak while loading |")
        print("|---|---|---|---|---|---|")
        print(f"| {arguments.load} | {arguments.sharing} | " + " | ".join(
            f"{size / 2**30:.3f}" for size in (held, blocks["base's share"], largest, peak)) + " |")
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
