"""How the sampler's cost grows: with the number of prompts, of samples, and with the length of the prompts.

    python benchmarks/sampler_scaling.py [--out benchmarks/sampler_scaling.svg]        # a small model, some minutes
    python benchmarks/sampler_scaling.py --exactness                                  # what bf16 changes, and how often
    python benchmarks/sampler_scaling.py --quick                                       # seconds: does it work?

Prints one Markdown table (and draws it: the curves of items per second on logarithmic axes). The model has random
weights and 12 M parameters; every sample ends after a fixed number of tokens. "cache" is the most the key/value cache
ever held, beside its budget: it must not grow with the number of prompts, and never pass the budget.

--exactness: the same samples drawn in other batches (permuted, one row at a time, 7 rows, two halves, other chunks), in
float32 and bf16. The random numbers are the same; a sample differs from its first differing token on.
"""

import argparse
import math
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.machine import describe
from model.config import ModelConfig
from model.transformer import Transformer
from sampler import Completion, generate

PROMPTS, SAMPLES, LENGTHS = (10, 30, 100, 300, 1000), (1, 2, 5, 10, 20), (100, 300, 1000, 2000, 4000)


@dataclass
class Point:
    axis: str
    prompts: int
    samples: int
    length: int
    seconds: float
    stats: dict

    @property
    def value(self) -> int:
        return {"prompts": self.prompts, "samples": self.samples, "prompt tokens": self.length}[self.axis]

    @property
    def rate(self) -> float:
        return self.prompts / self.seconds


def make_model(dtype: torch.dtype) -> Transformer:
    config = ModelConfig(
        vocab_size=8192,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=8192,
        qkv_bias=True,
        model_type="qwen2",
        tie_word_embeddings=True,
    )
    return Transformer(config).init_weights(seed=0, std=0.05).to(dtype).eval()


def make_prompts(count: int, length: int) -> list[list[int]]:
    """Lengths spread by a quarter around `length`; nothing shared."""
    rng = random.Random(count * 10007 + length)
    return [[rng.randrange(8192) for _ in range(rng.randint(length * 3 // 4, length * 5 // 4))] for _ in range(count)]


def measure(
    model: Transformer, axis: str, prompts: int, samples: int, length: int, new_tokens: int, cache_gb: float
) -> Point:
    stats: dict = {}
    work = make_prompts(prompts, length)
    began = time.perf_counter()
    generate(
        model,
        work,
        num_samples=samples,
        max_new_tokens=new_tokens,
        temperature=1.0,
        top_k=10,
        cache_gb=cache_gb,
        stats=stats,
    )
    assert stats["cache_bytes"] <= 1e9 * cache_gb, f"{stats['cache_bytes']} bytes held, the budget is {cache_gb} GB"
    return Point(axis, prompts, samples, length, time.perf_counter() - began, stats)


def scaling(model: Transformer, quick: bool, cache_gb: float) -> list[Point]:
    new_tokens, cut = (4, 2) if quick else (32, None)
    middle = (10, 3, 60) if quick else (64, 5, 300)  # prompts, samples, prompt tokens of the other axes
    measure(model, "prompts", 4, 2, 50, 4, cache_gb)  # warm up
    points = [measure(model, "prompts", n, middle[1], middle[2], new_tokens, cache_gb) for n in PROMPTS[:cut]]
    points += [measure(model, "samples", middle[0], n, middle[2], new_tokens, cache_gb) for n in SAMPLES[:cut]]
    points += [
        measure(model, "prompt tokens", middle[0] // 2, middle[1], n, new_tokens, cache_gb) for n in LENGTHS[:cut]
    ]
    return points


def table(points: list[Point], cache_gb: float) -> str:
    lines = [
        "| grows | prompts | samples | prompt tokens | seconds | items/s | new tok/s | prefilled tok/s | cache MB "
        f"(budget {1e3 * cache_gb:,.0f}) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for p in points:
        lines.append(
            f"| {p.axis} | {p.prompts} | {p.samples} | {p.length} | {p.seconds:.2f} | {p.rate:.2f} "
            f"| {p.stats['new_tokens'] / p.seconds:,.0f} | {p.stats['prefill_tokens'] / p.seconds:,.0f} "
            f"| {p.stats['cache_bytes'] / 1e6:.0f} |"
        )
    return "\n".join(lines)


def plot(points: list[Point]) -> str:
    """One panel per axis: items per second (up) against the value (right), both logarithmic, as SVG."""
    axes = list(dict.fromkeys(p.axis for p in points))
    low, high = min(p.rate for p in points) / 1.3, max(p.rate for p in points) * 1.3

    def up(rate: float) -> float:
        return 220 - 180 * math.log(rate / low) / math.log(high / low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{len(axes) * 280 + 20}" height="270" font-family="sans-serif" '
        'font-size="11"><rect width="100%" height="100%" fill="white"/>'
    ]
    for i, axis in enumerate(axes):
        row, left = [p for p in points if p.axis == axis], 280 * i + 50
        first, last = row[0].value, row[-1].value

        def right(value: int, first: int = first, last: int = last, left: int = left) -> float:
            return left + 200 * math.log(value / first) / math.log(last / first)

        line = " ".join(f"{right(p.value):.1f},{up(p.rate):.1f}" for p in row)
        parts.append(
            f'<path d="M{left - 10},30 V230 H{left + 215}" stroke="gray" fill="none"/>'
            f'<polyline points="{line}" fill="none" stroke="#0060a0" stroke-width="2"/>'
            f'<text x="{left + 100}" y="262" text-anchor="middle">{axis}</text>'
            f'<text x="{left - 10}" y="20">items/s</text>'
        )
        for p in row:
            x, y = right(p.value), up(p.rate)
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#0060a0"/><text x="{x:.1f}" y="{y - 8:.1f}" '
                f'text-anchor="middle">{p.rate:.3g}</text>'
                f'<text x="{x:.1f}" y="245" text-anchor="middle">{p.value}</text>'
            )
    return "\n".join([*parts, "</svg>\n"])


def exactness(quick: bool) -> str:
    """How many samples differ when only the batch plan does."""
    prompts = make_prompts(6 if quick else 24, 80)
    order = random.Random(0).sample(range(len(prompts)), len(prompts))
    lines = [
        "| precision | temperature | batch plan | samples that differ | tokens before the first difference |",
        "|---|---|---|---|---|",
    ]
    for dtype in (torch.float32, torch.bfloat16):
        model = make_model(dtype)
        for temperature in (0.0, 1.0):

            def draw(items: list[int], model=model, temperature=temperature, **pace) -> dict[int, list[Completion]]:
                drawn = generate(
                    model,
                    [prompts[i] for i in items],
                    item_ids=items,
                    num_samples=3,
                    max_new_tokens=40,
                    temperature=temperature,
                    seed=1,
                    **pace,
                )
                return dict(zip(items, drawn))

            everything, half = list(range(len(prompts))), len(prompts) // 2
            whole = draw(everything)
            plans = {
                "permuted": draw(order),
                "one row": draw(everything, max_rows=1),
                "7 rows": draw(everything, max_rows=7),
                "two halves": draw(everything[:half]) | draw(everything[half:]),
                "chunks of 100": draw(everything, prefill_chunk=100),
            }
            for plan, other in plans.items():
                pairs = [(a, b) for i in everything for a, b in zip(whole[i], other[i])]
                kept = [next((n for n, (x, y) in enumerate(zip(a.ids, b.ids)) if x != y), len(a.ids)) for a, b in pairs]
                differ = sum(k < len(a.ids) for k, (a, _) in zip(kept, pairs))
                share = sum(kept) / sum(len(a.ids) for a, _ in pairs)
                name = str(dtype).split(".")[1]
                lines.append(f"| {name} | {temperature:g} | {plan} | {differ} of {len(pairs)} | {share:.2%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="write the plot to this SVG file")
    parser.add_argument("--cache-gb", type=float, default=0.5, help="budget of the cache")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="precision of the model")
    parser.add_argument("--exactness", action="store_true", help="measure what the batch plan changes instead")
    parser.add_argument("--quick", action="store_true", help="a toy-sized run")
    args = parser.parse_args()
    print(describe())
    if args.exactness:
        print(exactness(args.quick))
        return
    points = scaling(make_model(getattr(torch, args.dtype)), args.quick, args.cache_gb)
    print(table(points, args.cache_gb))
    if args.out:
        Path(args.out).write_text(plot(points), encoding="utf-8")


if __name__ == "__main__":
    main()
