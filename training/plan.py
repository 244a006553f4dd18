"""The plan of a run, before any work: memory by part, rows, tokens, steps, hours; what cannot fit is refused.

Memory is arithmetic over the shapes; tests/test_train_plan.py, benchmarks/train_memory.py and train_resident.py hold it
against measured peaks. Hours are an estimate from a matmul timed on the spot (costs.py).
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from data.batching import packing_efficiency
from model import ModelConfig
from model.device import free_memory, hand_back_freed_memory
from model.ops import attends_blockwise
from training.config import TrainConfig
from training.costs import REACHED, base_weights, duration, flops, linears, matmul_rate, trained_weights

GIB = 2**30
TIGHT = 0.85                    # of a card: the driver, NCCL and gaps between tensors take some of the rest
# What a process on a CPU holds in memory beside its tensors:
LIBRARIES = int(0.4 * GIB)      # Python, torch and the others, with what they set up, before the first step
KERNEL = int(1.1 * 2**20)       # a kernel that oneDNN compiled for one shape of a half-precision product, and keeps
MOST_KERNELS = 1024             # that it keeps at one time (ONEDNN_PRIMITIVE_CACHE_CAPACITY)
BESIDE_TENSORS = ("libraries", "compiled kernels", "gaps between tensors")


@dataclass(frozen=True)
class Plan:
    """What a run will take. Bytes are per process."""

    memory: dict[str, int]      # bytes by part
    available: int              # bytes that the device can give
    facts: str                  # first line: batch, steps, weights
    rows: str                   # second line: rows, tokens, packing
    flops: float                # of the whole run, over all processes
    device: torch.device
    dtype: torch.dtype
    world_size: int
    remedy: str                 # the option that would make it fit, or that nothing does

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.memory.values())

    @property
    def tensors(self) -> int:
        """Bytes of the parts that are tensors: the rest is on a CPU alone."""
        return sum(size for name, size in self.memory.items() if name not in BESIDE_TENSORS)

    def hours(self, rate: float) -> float:
        """Hours, if every process does `rate` flops per second."""
        return self.flops / (rate * self.world_size) / 3600

    def what_and_memory(self) -> list[str]:
        """The part of the plan that holds on any machine with this much memory."""
        parts = " + ".join(f"{name} {size / GIB:.2f}" for name, size in self.memory.items())
        tight = " (tight)" if self.device.type == "cuda" and TIGHT * self.available < self.total else ""
        return [self.facts, self.rows, f"memory, estimated: {self.total / GIB:.2f} GiB of {self.available / GIB:.1f}"
                                       f"{tight} = {parts}"]

    def lines(self) -> list[str]:
        """The plan as it is printed."""
        rate = matmul_rate(self.device, self.dtype)
        time_words = duration(3600 * self.hours(REACHED * rate))
        return [*self.what_and_memory(),
                f"time, estimated: {time_words} ({self.flops:.2e} flops at half of the matmul rate just timed, "
                f"{self.world_size} x {rate / 1e9:,.0f} GFLOP/s)"]

    def refuse_what_cannot_fit(self) -> None:
        """ValueError with the option that helps, if the run needs more memory than there is."""
        if self.total > self.available:
            raise ValueError(f"the run needs about {self.total / GIB:.2f} GiB and {self.available / GIB:.2f} are "
                             f"there: {self.remedy}")


def make_plan(config: TrainConfig, shape: ModelConfig, lengths: Sequence[int], supervised: int, steps: int,
              dtype: torch.dtype, device: torch.device, world_size: int, available: int | None = None,
              resident: int = 0, sharing: int = 0) -> Plan:
    """Plan a run of config.TrainConfig over a model.ModelConfig.

    Args:
        lengths: tokens of every row; `supervised`: supervised tokens of all rows together.
        available: bytes to plan for; None asks the device.
        resident: bytes of the plan that the device holds already: those of a model that was handed in. The libraries
            are there, too.
        sharing: processes that one base is shared out over; 0: each has a whole one.
    """
    if available is None:
        available = available_memory(device) + resident + (LIBRARIES if device.type == "cpu" else 0)
    fraction = supervised / sum(lengths)
    trained = trained_weights(config, shape)
    epochs = steps / -(-len(lengths) // config.global_batch_size)           # an epoch's last step may be short
    tokens = sum(lengths) * epochs
    most = micro_batch_tokens(config, max(lengths))
    accum = -(-config.global_batch_size * sum(lengths) // len(lengths) // most // world_size)
    memory = memory_parts(config, shape, max(lengths), fraction, dtype, device, sharing)
    facts = (f"global batch {config.global_batch_size} rows, about {max(1, accum)} x {most:,} tokens x "
             f"{world_size} processes | {steps:,} steps | {epochs:.2f} epochs | "
             f"{trained / 1e6:.2f} M of "
             f"{(base_weights(shape) + (0 if config.stage == 'pretrain' else trained)) / 1e6:,.1f} M weights train | "
             f"{str(dtype).removeprefix('torch.')}")
    sample = lengths[:config.global_batch_size]
    efficiency = packing_efficiency(sample, config.micro_batch_tokens, config.micro_batch_size, config.packing)
    rows = (f"{len(lengths):,} rows, {sum(lengths) / len(lengths):,.0f} tokens on average, {max(lengths):,} at most | "
            f"{tokens:,.0f} tokens to train, {fraction:.0%} supervised | "
            f"{'packs' if config.packing else 'padded rows'} {efficiency:.0%} full")
    return Plan(memory, available, facts, rows, flops(config, shape, tokens, fraction), device, dtype, world_size,
                remedy(config, shape, max(lengths), fraction, dtype, device, available, sharing, world_size))


# ----------------------------------------------------------------------------------------------- arithmetic over shapes

def base_memory(shape: ModelConfig, size: int, sharing: int, on_cpu: bool) -> dict[str, int]:
    """Bytes of the base on one process, weights of `size` bytes: a whole one, or its part of one that is shared out.

    Whole stay embedding, head and last norm. Of a block's weights each process has its rows; of the gathered ones two
    blocks are there at a time: the one at work, and what the next one's weights come in. On a GPU, where the next block
    travels while one computes, what that one came in is kept, too.
    """
    if sharing == 0:
        return {"base": base_weights(shape) * size}
    Q, K = (heads * shape.head_dim for heads in (shape.num_attention_heads, shape.num_key_value_heads))
    E, wide = shape.hidden_size, linears(shape)
    biases = [Q, K, K] * shape.qkv_bias + [E] * shape.o_proj_bias
    rows = [(out, i) for i, out in wide.values()] + [(n, 1) for n in (E, E, *biases)]
    share = sum(-(-n // sharing) * width for n, width in rows)                  # rows, rounded up
    whole = base_weights(shape) - shape.num_hidden_layers * sum(n * width for n, width in rows)
    gathered = (2 if on_cpu else 3) * sharing * share
    return {"base's share": (whole + shape.num_hidden_layers * share) * size, "gathered blocks": gathered * size}


def block_bytes(shape: ModelConfig, ranks: int, size: int, on_cpu: bool, blockwise: bool) -> int:
    """Bytes that a token leaves in one block, not checkpointed, for its backward pass; `size` bytes a value, `ranks` of
    its adapters.

    Norms keep their input and give one; attention keeps q, k, v (key/value heads repeated, except by the `blockwise`
    attention of bfloat16 on a CPU), its result twice and a number per head; the MLP keeps gate, up and their product.
    On a GPU the plain expressions keep more (model/cpu_kernels.py).
    """
    E, F, Q = shape.hidden_size, shape.intermediate_size, shape.num_attention_heads * shape.head_dim
    norms = 2 * (2 * E * size + 4) + (0 if on_cpu else 2 * 4 * E)
    keys_values = 2 * (shape.num_key_value_heads * shape.head_dim if blockwise else Q)
    return (norms + (3 * Q + keys_values) * size + 4 * shape.num_attention_heads + (3 if on_cpu else 4) * F * size
            + ranks * size)


def micro_batch_tokens(config: TrainConfig, longest: int) -> int:
    """The most tokens that one forward pass can have: a whole row at least, and no more rows than a pass may take."""
    rows = min(config.global_batch_size, config.micro_batch_size or config.global_batch_size)
    return max(longest, min(config.micro_batch_tokens, rows * longest))


def memory_parts(config: TrainConfig, shape: ModelConfig, longest: int, fraction: float, dtype: torch.dtype,
                 device: torch.device, sharing: int = 0) -> dict[str, int]:
    """Bytes by part on one process. One block's work and the loss are never there at one time: the larger counts."""
    size, wide, on_cpu = dtype.itemsize, max(dtype.itemsize, 4), device.type == "cpu"
    full, trained = config.stage == "pretrain", trained_weights(config, shape)
    ranks = config.rank * len(config.target_modules)
    E, F, V, Q = (shape.hidden_size, shape.intermediate_size, shape.vocab_size,
                  shape.num_attention_heads * shape.head_dim)
    tokens = micro_batch_tokens(config, longest)
    every, layers = config.gradient_checkpointing, shape.num_hidden_layers
    checkpointed = -(-layers // every) if every else 0
    blockwise = all(attends_blockwise(dtype, device, shape.window(layer), longest) for layer in range(layers))
    memo = (Q * size + 4 * shape.num_attention_heads) * blockwise
    kept = (checkpointed * (2 * E * size + ranks * size + memo)
            + (layers - checkpointed) * block_bytes(shape, ranks, size, on_cpu, blockwise))
    work = (3 + 3 * bool(checkpointed)) * F * size + 3 * E * size       # gate, up, product and their gradients
    scored = int(tokens * min(1.0, fraction))
    chunk = min(config.loss_chunk_for(V), max(scored, 1))
    logits, halves = chunk * V * (size + (0 if on_cpu else wide)), size if size < wide else 0
    if full:                                            # the head's gradient: beside the logits, then with its cast
        logits = max(logits + V * E * (wide + size), V * E * (2 * wide + halves))
    loss = logits + 2 * scored * E * size
    parts = base_memory(shape, size, sharing, on_cpu)
    if full:
        # half weights: also masters, gradients in float32
        parts["gradients"] = trained * (size + (8 if size == 2 else 0))
    else:
        parts["LoRA and gradients"] = trained * 2 * wide
    parts["optimizer"] = trained * 2 * wide
    parts["activations kept"] = tokens * kept
    parts["block's work" if tokens * work >= loss else "loss chunk"] = max(tokens * work, loss)
    if on_cpu and checkpointed:
        parts["gaps between tensors"] = checkpointed * 2 * tokens * F * size
    return parts | beside_tensors(tokens, longest, dtype, device)


def beside_tensors(tokens: int, longest: int, dtype: torch.dtype, device: torch.device) -> dict[str, int]:
    """Bytes by part that a process on a CPU holds beside its tensors; a GPU's plan counts the GPU's memory alone.

    Not here but in `memory_parts`, where the blocks are counted: the gaps that glibc's heap gets from checkpointing. A
    checkpointed block keeps little, and lets go of three matrices of the MLP's width; what it keeps lies between them,
    and the next block's three fit into one of the holes. That two of three are lost is what was seen, not a law
    (benchmarks/train_resident.py).

    bfloat16 products come in few shapes (model/ops.py): so many of packs, by their sizes, and of the blocks of
    attention, by the longest row. Counted on a toy model over 20 steps: 736, where this says 720. float16 has a shape
    for each pass.
    """
    if device.type != "cpu":
        return {}
    if dtype.itemsize > 2:
        return {"libraries": LIBRARIES}
    shapes = 10 * -(-tokens // 128) + 50 * -(-longest // 64) if dtype == torch.bfloat16 else MOST_KERNELS
    return {"libraries": LIBRARIES, "compiled kernels": min(shapes, MOST_KERNELS) * KERNEL}


def remedy(config: TrainConfig, shape: ModelConfig, longest: int, fraction: float, dtype: torch.dtype,
           device: torch.device, available: int, sharing: int = 0, world_size: int = 1) -> str:
    """The first option that would make a run fit."""
    def fits(precision: torch.dtype = dtype, over: int = sharing, **changes: Any) -> bool:
        return sum(memory_parts(replace(config, **changes), shape, longest, fraction, precision, device,
                                over).values()) <= available

    tried: dict[str, Any] = {}
    now = {"loss_chunk": config.loss_chunk_for(shape.vocab_size), "micro_batch_tokens": config.micro_batch_tokens}
    for name, value in (("gradient_checkpointing", 1), ("loss_chunk", 128),
                        *(("micro_batch_tokens", n) for n in (4096, 2048, 1024, 512) if n >= longest),
                        ("micro_batch_tokens", longest)):
        if value >= now[name] if name in now else getattr(config, name) == value:
            continue
        tried[name] = value
        if fits(**tried):
            return "use " + " ".join(f"--{key.replace('_', '-')} {setting}" for key, setting in tried.items())
    if dtype.itemsize > 2:
        for changes in ({}, tried):
            if fits(torch.bfloat16, **changes):
                return " ".join(["use --precision bf16 (or fp16 on a GPU before sm_80)",
                                 *(f"--{key.replace('_', '-')} {setting}" for key, setting in changes.items())])
    for changes in ({}, tried) if config.stage != "pretrain" and sharing == 0 and world_size > 1 else ():
        if fits(over=world_size, **changes):
            return " ".join(["use --shard job", *(f"--{key.replace('_', '-')} {setting}"
                                                  for key, setting in changes.items())])
    return (f"rows of {longest:,} tokens do not fit with any option; use a shorter --max-length, a smaller model or a "
            "larger device")


# ----------------------------------------------------------------------------------------------------------- the device

def available_memory(device: torch.device) -> int:
    """Bytes that a process may take: free memory of its GPU, or of the host shared by the processes of this machine."""
    sharing = 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return free_memory(device) // sharing


def forget_peak(device: torch.device) -> None:
    """From now on `peak_memory_gb` tells what comes: what a round's sampling held is not its training's.

    On a CPU Linux alone can forget; elsewhere the peak stays that of the whole process.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    hand_back_freed_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")         # proc(5): resets the peak resident set
    except OSError:
        pass                                                                    # not Linux, or not allowed


def peak_memory_gb(device: torch.device) -> float:
    """Largest memory in 2**30 bytes since `forget_peak`: the allocator's on a GPU, the resident set on a CPU."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
    import resource
    unit = 1 if sys.platform == "darwin" else 1024          # macOS counts bytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)
