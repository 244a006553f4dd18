"""The planner's memory beside the measured peak of training steps: one Markdown table.

    python benchmarks/train_memory.py                      # a CPU: bytes of live tensors, counted op by op
    python benchmarks/train_memory.py --device cuda        # a GPU: the allocator's own peak

On a CPU a dispatch mode counts every tensor's storage while it lives, so the figure is exact and the same on every
machine; scratch memory inside a kernel and the libraries are not in it.
"""

import argparse
import random
import sys
import weakref
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from data.tasks import IGNORE_INDEX, Row
from model import ModelConfig, Transformer
from train import TrainConfig, prepare, train_step
from training.plan import make_plan
from training.processes import Processes

SHAPES = {      # hidden, intermediate, layers, heads, key/value heads, vocabulary
    "narrow": (64, 256, 4, 4, 2, 2000), "wide": (256, 704, 3, 8, 2, 4000), "deep": (96, 384, 12, 6, 6, 1000),
}
LARGER = {"0.1B": (512, 2048, 12, 8, 2, 32000), "0.5B": (896, 4864, 24, 14, 2, 151936),
          "1.5B": (1536, 8960, 28, 12, 2, 151936)}


class LiveBytes(TorchDispatchMode):
    """Bytes of tensor storages that are alive, and the most there were, from the tensors given on."""

    def __init__(self, *alive: torch.Tensor) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, weakref.ref] = {}
        for tensor in alive:
            self.add(tensor)

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen or not size:
            return

        def gone(_: weakref.ref) -> None:
            self.now -= size
            self._seen.pop(key, None)

        self._seen[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return out


def shape_config(shape: tuple[int, ...], tied: bool = True) -> ModelConfig:
    """The config of a shape of SHAPES."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
             "vocab_size")
    return ModelConfig.from_dict({"architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": tied,
                                  "rms_norm_eps": 1e-6, **dict(zip(names, shape, strict=True))})


def rows_and_settings(config: ModelConfig, *, checkpointing: int, stage: str = "joint", tokens: int = 512,
                      row_length: int = 128, share: float = 0.25, shard: str = "off",
                      copies: int = 1) -> tuple[list[Row], int, TrainConfig]:
    """Equal rows for two packs of each of `copies` processes, the supervised tokens of one, and settings."""
    rng, supervised = random.Random(0), int(share * row_length)
    rows = []
    for i in range(2 * copies * tokens // row_length):
        ids = [rng.randrange(config.vocab_size) for _ in range(row_length)]
        rows.append(Row(str(i), "text", ids, [IGNORE_INDEX] * (row_length - supervised) + ids[-supervised:]))
    return rows, supervised, TrainConfig(stage=stage, out="unused", global_batch_size=len(rows), shard=shard,
                                         micro_batch_tokens=tokens, max_steps=3, gradient_checkpointing=checkpointing)


def measure(shape: tuple[int, ...], *, dtype: torch.dtype, checkpointing: int, stage: str = "joint",
            device: str = "cpu", **sizes: int) -> tuple[int, int]:
    """(planned, measured) bytes of a training step on equal rows."""
    config = shape_config(shape)
    with torch.device(device):
        model = Transformer(config).to(dtype)
    rows, supervised, settings = rows_and_settings(config, checkpointing=checkpointing, stage=stage, **sizes)
    trainer = prepare(settings, Processes(), rows, None, model, None, lambda line: None)
    trainer.model.train()
    plan = make_plan(settings, config, [len(row.ids) for row in rows], len(rows) * (supervised), 3, dtype,
                     trainer.processes.device, 1)
    train_step(trainer)                                     # the optimizer's state exists from here on
    flat = trainer.flat
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        train_step(trainer)
        return plan.tensors, torch.cuda.max_memory_allocated()
    state = [value for values in trainer.optimizer.state.values() for value in values.values()]
    alive = [*model.parameters(), flat.master, flat.grad, flat.compute, flat.compute_grad, *state]
    with LiveBytes(*alive) as live:
        train_step(trainer)
    return plan.tensors, live.peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--larger", action="store_true",
                        help="shapes of 0.1 to 1.5 billion weights, packs of 2,048 tokens")
    arguments = parser.parse_args()
    print(describe(device=arguments.device))
    print("| shape | weights train | dtype | checkpointing | planned MiB | measured MiB | error "
          "|\n|---|---|---|---|---|---|---|")
    for name, shape in (LARGER if arguments.larger else SHAPES).items():
        for stage in ("joint", "pretrain"):
            for dtype in (torch.bfloat16, torch.float16) if arguments.device == "cuda" else (torch.bfloat16,
                                                                                             torch.float32):
                for checkpointing in (0, 1, 2):
                    sizes = {"tokens": 2048, "row_length": 512} if arguments.larger else {}
                    planned, measured = measure(shape, dtype=dtype, checkpointing=checkpointing, stage=stage,
                                                device=arguments.device, **sizes)
                    print(f"| {name} | {'LoRA' if stage == 'joint' else 'all'} | {str(dtype).removeprefix('torch.')} | "
                          f"{checkpointing} | {planned / 2**20:.2f} | {measured / 2**20:.2f} | "
                          f"{planned / measured - 1:+.1%} |", flush=True)


if __name__ == "__main__":
    main()
