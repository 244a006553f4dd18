"""What the speed benchmarks share about devices: clocks that wait for a GPU, the best rate reached, peak memory."""

import argparse
import resource
import time
from collections.abc import Callable, Sequence

import torch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# two of an 8B block, and a square one
GPU_MATMULS = ((4096, 4096, 14336), (4096, 14336, 4096), (8192, 8192, 8192))
CPU_FP16_MATMULS = ((256, 256, 256),)           # most CPUs emulate fp16, far too slowly for a large product


def refuse_missing_device(parser: argparse.ArgumentParser, device: str) -> None:
    """Exit with a usage error where `--device cuda` finds no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda, but torch finds no CUDA device")


def clock(device: torch.device | str) -> float:
    """Seconds, read once all that was queued on the device is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def best_time(work: Callable[[], object], device: torch.device | str) -> float:
    """Seconds of one call, the best of 8 turns. A turn is 20 calls on a GPU, after one that warms up."""
    calls = 1
    if torch.device(device).type == "cuda":
        calls = 20
        work()
    times = []
    for _ in range(8):
        began = clock(device)
        for _ in range(calls):
            work()
        times.append((clock(device) - began) / calls)
    return min(times)


def matmul_peak(device: torch.device | str, dtype: torch.dtype, shapes: Sequence[tuple[int, int, int]]) -> float:
    """Best flops per second of a product (m, k) x (k, n) over `shapes`, which suit a CPU; a GPU gets larger ones."""
    if torch.device(device).type == "cuda":
        shapes = GPU_MATMULS
    elif dtype == torch.float16:
        shapes = CPU_FP16_MATMULS
    best = 0.0
    for m, k, n in shapes:
        a, b = (torch.randn(rows, k).to(device, dtype) for rows in (m, n))
        best = max(best, 2 * m * k * n / best_time(lambda a=a, b=b: torch.nn.functional.linear(a, b), device))
    return best


def copy_peak(device: torch.device | str) -> float:
    """Bytes per second of a large copy within the device's memory, both ways counted."""
    size = 2**28 if torch.device(device).type == "cuda" else 2**26
    x, y = torch.ones(size, device=device), torch.empty(size, device=device)
    return 2 * x.nbytes / best_time(lambda: y.copy_(x), device)


def release(device: torch.device | str) -> None:
    """Give cached memory back to the GPU, where other processes are measured next."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


def peak_memory(device: torch.device | str) -> int:
    """Most bytes so far: the allocator's live tensors on a GPU, this process's resident set on a CPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
