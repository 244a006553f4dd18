"""LoRA training speed and memory on this machine, ours beside peft + transformers: one Markdown table.

    python benchmarks/train_speed.py                       # Qwen2.5-0.5B's shape, random weights: about 10 minutes
    python benchmarks/train_speed.py --shape toy --rounds 1    # seconds: only shows that it runs
    python benchmarks/train_speed.py --examples F --tokenizer DIR   # uneven lengths from real examples (tooldev.py convert)

Both sides run in turn, each in a process of its own, so that its peak memory is its own and slow drift of the machine
hits both. Same shape, dtype, rank, tokens and optimizer; gradient checkpointing on both sides. Equal lengths: 4 rows of
512 tokens, 15% supervised. Uneven lengths: ours packs rows, the reference pads length-grouped batches to the same number of
tokens. Needs requirements-dev.txt (transformers, peft).
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHAPES = {
    "qwen2.5-0.5b": {"vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
                     "num_attention_heads": 14, "num_key_value_heads": 2},
    "toy": {"vocab_size": 3000, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2},
}
COMMON = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "rms_norm_eps": 1e-6,
          "rope_theta": 1000000.0, "max_position_embeddings": 32768, "tie_word_embeddings": True}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def equal_rows() -> list[tuple[int, int]]:
    """(tokens, supervised) of each row."""
    return [(512, 77)] * 4


def uneven_rows(path: str, count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Rows drawn from a file of real lengths, or from a log-normal like that of tool-calling corpora."""
    rng = random.Random(seed)
    if path:
        records = [json.loads(line) for line in open(path, encoding="utf-8")]
        return [(r["tokens"], r["supervised"]) for r in rng.sample(records, count)]
    lengths = [min(2048, max(48, int(rng.lognormvariate(5.7, 0.7)))) for _ in range(count)]
    return [(n, max(8, int(0.15 * n))) for n in lengths]


def measure_lengths(examples: str, tokenizer: str, target: Path) -> None:
    """Write the tokens and supervised tokens of the joint stage's rows of a file of examples."""
    sys.path.insert(0, str(ROOT))
    from data.tasks import IGNORE_INDEX
    from model import load_tokenizer
    from training.rows import load_rows
    rows = load_rows("joint", examples, load_tokenizer(tokenizer), max_length=2048)
    with open(target, "w", encoding="utf-8") as file:
        for row in rows:
            record = {"tokens": len(row.ids), "supervised": sum(label != IGNORE_INDEX for label in row.labels[1:])}
            file.write(json.dumps(record) + "\n")


def matmul_peak(threads: int) -> float:
    """Best bf16 flops per second over the shapes of a block, and a square one."""
    import torch
    torch.set_num_threads(threads)
    best = 0.0
    for m, k, n in ((2048, 896, 4864), (2048, 4864, 896), (2048, 2048, 2048)):
        a, b = torch.randn(m, k, dtype=torch.bfloat16), torch.randn(n, k, dtype=torch.bfloat16)
        for _ in range(8):
            began = time.perf_counter()
            a @ b.t()
            best = max(best, 2 * m * k * n / (time.perf_counter() - began))
    return best


def run_ours(shape: dict, rows: list[tuple[int, int]], tokens: int, steps: int, checkpointing: int) -> list[float]:
    """Seconds of each step, after one to warm up."""
    import torch

    sys.path.insert(0, str(ROOT))
    from data.tasks import IGNORE_INDEX, Row
    from model import ModelConfig, Transformer
    from train import TrainConfig, prepare, train_step
    from training.processes import Processes

    with torch.device("meta"):
        model = Transformer(ModelConfig.from_dict(COMMON | shape))
    model = fill(model.to(torch.bfloat16))
    model.tie_weights()
    rng = random.Random(0)
    made = []
    for i, (length, supervised) in enumerate(rows):
        ids = [rng.randrange(shape["vocab_size"]) for _ in range(length)]
        made.append(Row(str(i), "invocation", ids, [IGNORE_INDEX] * (length - supervised) + ids[length - supervised:]))
    config = TrainConfig(out="unused", global_batch_size=len(rows), micro_batch_tokens=tokens, max_steps=steps + 1,
                         gradient_checkpointing=checkpointing)
    trainer = prepare(config, Processes(), made, None, model, None, lambda line: None)
    trainer.model.train()
    return timed(lambda: train_step(trainer), steps)


def run_reference(shape: dict, rows: list[tuple[int, int]], tokens: int, steps: int) -> list[float]:
    """The same step with transformers' model, peft's LoRA and torch's fused AdamW."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(**{k: v for k, v in (COMMON | shape).items() if k not in ("architectures", "model_type")})
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config)
    model = fill(model.to(torch.bfloat16))
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM"))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
    batches = []
    group: list[tuple[int, int]] = []
    for row in sorted(rows, reverse=True):                  # padded batches of similar lengths, at most `tokens` tokens each
        if group and group[0][0] * (len(group) + 1) > tokens:
            batches.append(group)
            group = []
        group.append(row)
    batches.append(group)
    generator, inputs = torch.Generator().manual_seed(0), []
    for group in batches:
        longest = group[0][0]
        ids = torch.randint(0, shape["vocab_size"], (len(group), longest), generator=generator)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for i, (length, supervised) in enumerate(group):
            mask[i, :length] = 1
            labels[i, length - supervised:length] = ids[i, length - supervised:length]
        inputs.append((ids, None if bool(mask.all()) else mask, labels))
    supervised = sum(int((labels[:, 1:] != -100).sum()) for _, _, labels in inputs)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for ids, mask, labels in inputs:
            model(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=supervised, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return timed(step, steps)


def fill(model):
    """Random weights in place of meta tensors."""
    import torch
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.copy_(torch.empty(p.shape, dtype=p.dtype).normal_(0, 0.02, generator=generator))
            else:
                p.fill_(1.0)
    return model


def timed(step, steps: int) -> list[float]:
    """Seconds of `steps` calls after one that warms up."""
    step()
    seconds = []
    for _ in range(steps):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return seconds


def child(side: str, arguments: argparse.Namespace, case: str) -> dict:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--child", side, "--case", case, "--shape", arguments.shape, "--steps",
               str(arguments.steps), "--threads", str(arguments.threads), "--lengths", arguments.lengths, "--rows", str(arguments.rows)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{side}, {case} lengths: exit code {result.returncode}\n{result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def run_child(arguments: argparse.Namespace) -> None:
    import resource

    import torch
    torch.set_num_threads(arguments.threads)
    shape = SHAPES[arguments.shape]
    rows = equal_rows() if arguments.case == "equal" else uneven_rows(arguments.lengths, arguments.rows)
    if arguments.child == "reference":
        seconds = run_reference(shape, rows, 2048, arguments.steps)
    else:
        seconds = run_ours(shape, rows, 2048, arguments.steps, 0 if arguments.child.endswith("off") else 1)
    print(json.dumps({"seconds": seconds, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--rounds", type=int, default=2, help="times that both sides run in turn")
    parser.add_argument("--steps", type=int, default=2, help="timed steps of one turn, after one that warms up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=12, help="rows of the uneven batch")
    parser.add_argument("--examples", default="", help="JSONL of examples whose row lengths the uneven batch is drawn from")
    parser.add_argument("--tokenizer", default="model/tiny", help="folder of the tokenizer that measures them")
    parser.add_argument("--cases", nargs="+", choices=("equal", "uneven"), default=["equal", "uneven"])
    parser.add_argument("--lengths", default="", help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return run_child(arguments)

    sys.path.insert(0, str(ROOT))
    from benchmarks.machine import describe
    if arguments.examples:
        arguments.lengths = str(Path(tempfile.mkdtemp()) / "lengths.jsonl")
        measure_lengths(arguments.examples, arguments.tokenizer, Path(arguments.lengths))
    shape = SHAPES[arguments.shape]
    E, F, D = shape["hidden_size"], shape["intermediate_size"], shape["hidden_size"] // shape["num_attention_heads"]
    body = shape["num_hidden_layers"] * (2 * E * E + 2 * E * D * shape["num_key_value_heads"] + 3 * E * F)
    peaks = [matmul_peak(arguments.threads)]
    print(describe("transformers", "peft", threads=arguments.threads))
    lengths = f"of {arguments.examples}" if arguments.examples else "drawn from a log-normal, not from a corpus (see --examples)"
    print(f"Shape {arguments.shape}, bf16, rank 16, gradient checkpointing unless it says off. Uneven lengths {lengths}.\n")
    print("| lengths | side | s / step | rows / s | tokens / s | share of matmul peak | peak GiB | speed | memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in arguments.cases:
        rows = equal_rows() if case == "equal" else uneven_rows(arguments.lengths, arguments.rows)
        tokens = sum(length for length, _ in rows)
        runs: dict[str, list[dict]] = {"reference": [], "ours": [], "ours, checkpointing off": []}
        for _ in range(arguments.rounds):
            for side in runs:
                runs[side].append(child(side, arguments, case))
            peaks.append(matmul_peak(arguments.threads))
        best = {side: min(s for run in found for s in run["seconds"]) for side, found in runs.items()}
        memory = {side: max(run["peak_gib"] for run in found) for side, found in runs.items()}
        for side, seconds in best.items():
            share = 6 * body * tokens / seconds / max(peaks)
            print(f"| {case} | {side} | {seconds:.2f} | {len(rows) / seconds:.2f} | {tokens / seconds:,.0f} | {share:.0%} | {memory[side]:.2f} | "
                  f"{best['reference'] / seconds:.2f}x | {memory[side] / memory['reference']:.0%} |", flush=True)
    print(f"\nBest step of {arguments.rounds} x {arguments.steps}. Matmul peak measured between the turns: "
          f"{max(peaks) / 1e9:,.0f} GFLOP/s; share counts six flops per body weight ({body / 1e6:.1f} M) and real token, whatever was "
          "in fact computed. Peak is the resident set, weights and libraries included.")


if __name__ == "__main__":
    main()
