"""Does a refactor change anything? sha256 of logits, gradients, samples, 100 training steps and `demo --quick`.

    python benchmarks/fingerprint.py [--tree DIR] [--parts model samples train demo] > one.txt

Run it on both trees (`--tree` names the root of another checkout), on one machine, and `diff` the two texts. One
thread, unless OMP_NUM_THREADS says otherwise: other numbers of threads, and other processors, round otherwise. Only
entry points are called, so that the same script serves a tree whose modules have moved.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACK = [40, 7, 33, 1, 15]                           # lengths of a packed row of 96 tokens, in three groups
STEPS = {"fp32": 100, "bf16": 8}                    # of training: bf16 is emulated, and slow, on many processors


def sha(*values: bytes) -> str:
    """The first 16 digits of the sha256 of these bytes."""
    return hashlib.sha256(b"".join(values)).hexdigest()[:16]


def tensor_bytes(tensor) -> bytes:
    """The bits of a tensor, with its dtype."""
    import torch
    data = tensor.detach().contiguous()
    return str(data.dtype).encode() + data.view(torch.uint8).numpy().tobytes()


def golden_models() -> Iterator[tuple[str, object]]:
    """Every tiny checkpoint of the golden tests, in float32 and bfloat16, as (name, module)."""
    import torch

    from tests.model_tiny import CONFIGS, tiny_model
    for name, raw in CONFIGS.items():
        for dtype in (torch.float32, torch.bfloat16):
            yield f"{name} {str(dtype).removeprefix('torch.')}", tiny_model(raw).to(dtype)


def model_lines() -> Iterator[tuple[str, str]]:
    """Logits of a row and of a pack, and gradients of both: no block checkpointed, every one, every second one."""
    import torch

    from tests.model_tiny import next_token_loss, token_ids
    ids = token_ids(1, sum(PACK))
    for name, model in golden_models():
        with torch.no_grad():
            yield f"logits {name}", sha(*(tensor_bytes(model(ids, lengths=lengths)) for lengths in (None, PACK)))
        model.train()
        for every in (0, 1, 2):
            found = []
            for lengths in (None, PACK):
                model.checkpoint_every = every
                model.zero_grad()
                next_token_loss(model(ids, lengths=lengths), ids).backward()
                found += [tensor_bytes(weight.grad) for weight in model.parameters()]
            yield f"gradients {name} checkpointing {every}", sha(*found)


def sample_lines() -> Iterator[tuple[str, str]]:
    """Samples from the cache: prompts that share a start, several of each, more than there are slots."""
    from sampler import generate
    from tests.model_tiny import token_ids
    row = token_ids(1, 96)[0].tolist()
    prompts = [row[:20] + row[i:i + 3 * i + 1] for i in range(1, 12)]
    for name, model in golden_models():
        found = generate(model, prompts, num_samples=3, max_new_tokens=24, temperature=1.0, top_k=20, seed=5,
                         eos_ids=[3], max_rows=12, prefill_chunk=48)
        yield f"samples {name}", sha(repr(found).encode())


def run(tree: Path, *command: str) -> None:
    """A command of the tree, its own output to stderr."""
    subprocess.run([sys.executable, *command], cwd=tree, check=True, stdout=sys.stderr)


def train_lines(tree: Path) -> Iterator[tuple[str, str]]:
    """Losses, gradient norms and the adapter of a training of the embedded model, checkpointed and not."""
    for precision, steps in STEPS.items():
        for every in (0, 1) if precision == "bf16" else (0,):
            with tempfile.TemporaryDirectory() as out:
                run(tree, "train.py", "--max-steps", str(steps), "--precision", precision, "--gradient-checkpointing",
                    str(every), "--out", out)
                lines = Path(out, "metrics.jsonl").read_text(encoding="utf-8").splitlines()
                adapter = Path(out, "adapter", "adapter_model.safetensors").read_bytes()
            kept = [(record["step"], record["loss"], record["grad_norm"]) for record in map(json.loads, lines)]
            assert len(kept) == steps, f"{len(kept)} steps in metrics.jsonl, {steps} were asked for"
            yield f"losses of {steps} steps {precision} checkpointing {every}", sha(repr(kept).encode())
            yield f"adapter of {steps} steps {precision} checkpointing {every}", sha(adapter)


def demo_lines(tree: Path) -> Iterator[tuple[str, str]]:
    """Every adapter, and every round's tools, calls and accepted rows, of `demo --quick`."""
    with tempfile.TemporaryDirectory() as out:
        run(tree, "tooldev.py", "demo", "--quick", "--out", out)
        names = ("adapter_model.safetensors", "tools.jsonl", "calls.jsonl", "accepted.jsonl")
        for path in sorted(p for name in names for p in Path(out).rglob(name)):
            yield f"demo {path.relative_to(out)}", sha(path.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parents[1],
                        help="root of the checkout to run")
    parts = {"model": lambda tree: model_lines(), "samples": lambda tree: sample_lines(), "train": train_lines,
             "demo": demo_lines}
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts), help="what to run (default: all)")
    arguments = parser.parse_args()
    tree = arguments.tree.resolve()
    sys.path[0] = str(tree)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"             # the other tree stays as it is
    sys.dont_write_bytecode = True
    for part in arguments.parts:
        for name, value in parts[part](tree):
            print(f"{value}  {name}", flush=True)


if __name__ == "__main__":
    main()
