"""One layer's attention of a decode step, beside the bandwidth of a copy: a grid of rows and prompt lengths.

    python benchmarks/decode_attention.py                      # SmolLM2-135M's heads in float32, some five minutes
    python benchmarks/decode_attention.py --shape 0.5b --dtype bf16
    python benchmarks/decode_attention.py --quick              # a corner of the grid: does it work?

Each row is one sample of a prompt of its own, with 64 tokens written. What counts is the bytes of keys and values, read
once, over the time of `LayerCache.attend`, masks included; storing the new token is part of it. A copy counts what it
reads and what it writes. `mixed` has prompts of a third to five thirds of the length, in falling order as the sampler
admits them, `shuffled` the same in any order. The copy is measured before and after every cell; the better one counts.
Run it with nothing else running.
"""

import argparse
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.device import DTYPES, best_time, copy_peak
from benchmarks.machine import describe
from model.device import prepare_cpu
from sampler.kv_cache import KVCache

HEADS = {"smollm2-135m": (9, 3, 64), "0.5b": (14, 2, 64)}              # query heads, key/value heads, head_dim
ROWS, TOKENS, WRITTEN = (16, 64, 256), (500, 1600, 4000), 64
BAR = 0.4


def prompt_lengths(kind: str, rows: int, tokens: int) -> list[int]:
    if kind == "equal":
        return [tokens] * rows
    lengths = [tokens // 3 + (4 * tokens // 3) * i // max(1, rows - 1) for i in range(rows)][::-1]
    if kind == "shuffled":
        random.Random(0).shuffle(lengths)
    return lengths


def bytes_per_second(heads: tuple[int, int, int], lengths: list[int], samples: int, dtype: torch.dtype) -> float:
    """Keys and values, read once, over the best time of a step's attention in one layer."""
    (H, K, D), rows = heads, len(lengths) * samples
    config = SimpleNamespace(num_key_value_heads=K, head_dim=D, num_hidden_layers=1)
    cache = KVCache(config, slots=len(lengths), width=samples, prefix_length=max(lengths), suffix_length=WRITTEN + 1,
                    dtype=dtype, device=torch.device("cpu"))
    for tensor in cache.layers[0].tensors():
        tensor.normal_()
    cache.lengths = list(lengths)
    cache.set_rows([(slot, place) for slot in range(len(lengths)) for place in range(samples)])
    q, k, v = (torch.randn(rows, heads, 1, D).to(dtype) for heads in (H, K, K))

    def step() -> None:
        cache.begin_decode(torch.full((rows,), WRITTEN), [WRITTEN] * rows)
        cache.layers[0].attend(q, k, v, D**-0.5, None)

    read = (sum(lengths) + rows * (WRITTEN + 1)) * 2 * K * D * dtype.itemsize
    return read / best_time(step, "cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=HEADS, default="smollm2-135m", help="whose heads")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="of keys and values")
    parser.add_argument("--samples", type=int, default=1, help="samples of each prompt; rows are prompts times samples")
    parser.add_argument("--quick", action="store_true", help="16 rows only, 500 and 1,600 tokens")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    prepare_cpu()
    print(describe(threads=args.threads))
    H, K, D = HEADS[args.shape]
    print(f"{args.shape}: {H} query heads, {K} key/value heads of {D}; {args.dtype}; {args.samples} samples a prompt. "
          f"The bar is {BAR:.0%} of the copy's bandwidth.\n")
    print("| rows | tokens | lengths | GB/s read | copy GB/s | of the copy |\n|---|---|---|---|---|---|")
    for rows in ROWS[:1] if args.quick else ROWS:
        for tokens in TOKENS[:2] if args.quick else TOKENS:
            for kind in ("equal", "mixed", "shuffled"):
                before = copy_peak("cpu")
                with torch.inference_mode():
                    speed = bytes_per_second(HEADS[args.shape], prompt_lengths(kind, rows // args.samples, tokens),
                                             args.samples, DTYPES[args.dtype])
                copy = max(before, copy_peak("cpu"))
                print(f"| {rows} | {tokens} | {kind} | {speed / 1e9:.1f} | {copy / 1e9:.1f} | {speed / copy:.0%} |",
                      flush=True)


if __name__ == "__main__":
    main()
