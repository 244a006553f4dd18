"""What waiting threads cost beside other work: decoding, a training step and the quick demo, idle and beside busy
processes.

    python benchmarks/neighbours.py                 # prints the Markdown table of neighbours.md
    python benchmarks/neighbours.py --demo          # with `tooldev.py demo --quick`, minutes each

Each row is one way to wait: PyTorch's own (threads spin for milliseconds), OMP_WAIT_POLICY=PASSIVE (they sleep at
once), GOMP_SPINCOUNT=1000, one thread, and `model.threads.watch_neighbours`, the default here. A fair share of the
cores is what the scheduler would give as many of our threads as there are cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
CORES = len(os.sched_getaffinity(0))
LIBGOMPS_OWN = "300000"                         # its default spin count: setting it switches only our watching off
WAYS = {
    "spin (PyTorch's own)": {"GOMP_SPINCOUNT": LIBGOMPS_OWN},
    "PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "ours: watch the neighbours": {},
}
SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
SETTLE_S = 2.0                                  # our watching has seen its neighbours by then


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--demo", action="store_true", help="time `tooldev.py demo --quick`, too")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each cell; the median is printed")
    parser.add_argument("--work", choices=("decode", "train"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(decode() if args.work == "decode" else train())
        return
    works = ["decode", "train", *(["demo"] if args.demo else [])]
    from machine import describe

    print(describe(threads=CORES))
    print(f"Seconds; beside busy processes, in brackets, how often the fair share of the {CORES} cores: 1.0 is fair.\n")
    print("| work | threads wait by | idle | 1 busy | 2 busy |\n|---|---|---|---|---|")
    for work in works:
        for way, environment in WAYS.items():
            repeats = 1 if work == "demo" else args.repeats
            times = [seconds(work, environment, busy, repeats) for busy in (0, 1, 2)]
            cells = [
                f"{times[0]:.1f}",
                *(f"{t:.1f} ({t / times[0] / slowdown(busy):.1f})" for busy, t in enumerate(times[1:], 1)),
            ]
            print(f"| {work} | {way} | {' | '.join(cells)} |", flush=True)


def slowdown(busy: int) -> float:
    """How much longer work that fills all cores takes fairly beside `busy` processes of one thread each."""
    return (CORES + busy) / CORES


def seconds(work: str, environment: dict[str, str], busy: int, repeats: int) -> float:
    """The median of `repeats` runs."""
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    with neighbours(busy):
        return sorted(once(work, env | environment) for _ in range(repeats))[repeats // 2]


def once(work: str, env: dict[str, str]) -> float:
    if work != "demo":
        done = subprocess.run(
            [sys.executable, __file__, "--work", work], env=env, capture_output=True, text=True, check=True
        )
        return float(done.stdout.split()[-1])
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, str(ROOT / "tooldev.py"), "demo", "--quick", "--out", f"{folder}/demo"],
            env=env,
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - began


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that compute without a pause."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def decode() -> float:
    """8 rows of SmolLM2-135M's shape, 48 tokens each, greedy, random weights in float32."""
    import torch

    from model import ModelConfig, Transformer
    from sampler import generate

    model = Transformer(ModelConfig(**SMOLLM2)).init_weights(0).eval()
    prompts = [torch.randint(0, 49152, (64,), generator=torch.Generator().manual_seed(i)).tolist() for i in range(8)]
    options = {"num_samples": 1, "temperature": 0.0, "top_k": 1, "seed": 0, "eos_ids": []}
    generate(model, prompts, max_new_tokens=2, **options)
    time.sleep(SETTLE_S)
    began = time.perf_counter()
    generate(model, prompts, max_new_tokens=48, **options)
    return time.perf_counter() - began


def train() -> float:
    """Forward and backward passes of 512 tokens through SmolLM2-135M's shape with LoRA, float32."""
    import torch

    from lora import apply_lora
    from model import ModelConfig, Transformer
    from model.device import prepare_cpu

    prepare_cpu()
    model = Transformer(ModelConfig(**SMOLLM2)).init_weights(0)
    apply_lora(model)
    ids = torch.randint(0, 49152, (1, 512), generator=torch.Generator().manual_seed(0))

    def step() -> None:
        model(ids)[:, -32:].float().logsumexp(-1).sum().backward()

    step()
    time.sleep(SETTLE_S)
    began = time.perf_counter()
    for _ in range(3):
        step()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
