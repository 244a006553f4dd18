"""LoRA training speed and memory on this machine, ours beside peft + transformers: one Markdown table.

    python benchmarks/train_speed.py                                # Qwen2.5-0.5B's shape, random weights: 10 minutes
    python benchmarks/train_speed.py --shape toy --rounds 1         # seconds: only shows that it runs
    python benchmarks/train_speed.py --examples F --tokenizer DIR   # uneven lengths from real examples
    python benchmarks/train_speed.py --device cuda --shape 8b --cap-gb 32   # a GPU: 2,048 tokens, fp16, a 32 GB card
    python benchmarks/train_speed.py --shape toy --cases long --tokens 128  # that case on a CPU: does its code work?

Both sides run in turn, each in a process of its own, so that its peak memory is its own and slow drift of the machine
hits both. Same shape, dtype, rank, tokens and optimizer; gradient checkpointing on both sides. Equal lengths: 4 rows of
512 tokens, 15% supervised. Uneven lengths: ours packs rows, the reference pads length-grouped batches to the same
number of tokens. Needs requirements-reference.txt (transformers, peft). --shape 8b has the sizes of Llama-3.1-8B, as a
Qwen2 model (biases in q, k and v, its RoPE).

Long, the case of a GPU: 4 rows of --tokens a step, one in each forward pass; fp16 base, float32 LoRA weights and a
dynamic loss scale on both sides (train.py's LossScale; torch's GradScaler, no autocast: peft casts between the two
types itself). The median of 20 steps after one that warms up counts. Peak memory is then the GPU's allocator's, beside
the planner's; a side that does not fit is a row of its own.
--cap-gb N lets the allocator have N GiB (N x 2**30 bytes), whatever the card has; the context of CUDA, some hundred MB,
is outside it. The GPU mode has not been run on a GPU yet, only its code on a CPU: distrust its first numbers.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.device import DTYPES, clock, matmul_peak, peak_memory, refuse_missing_device, release

SHAPES = {
    "qwen2.5-0.5b": {"vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
                     "num_attention_heads": 14, "num_key_value_heads": 2},
    "toy": {"vocab_size": 3000, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2},
    "8b": {"vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False},
}
COMMON = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "rms_norm_eps": 1e-6,
          "rope_theta": 1000000.0, "max_position_embeddings": 32768, "tie_word_embeddings": True}
MATMULS = ((2048, 896, 4864), (2048, 4864, 896), (2048, 2048, 2048))       # two of a 0.5B block, and a square one
# What a case runs, unless flags say otherwise: turns, timed steps of a turn, dtype, and its sides, the reference first.
CASES = {"equal": (2, 2, "bf16", ["reference", "ours", "ours, checkpointing off"]),
         "uneven": (2, 2, "bf16", ["reference", "ours", "ours, checkpointing off"]),
         "long": (1, 20, "fp16", ["reference", "ours"])}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def case_rows(arguments: argparse.Namespace, case: str) -> list[tuple[int, int]]:
    """(tokens, supervised) of each row of a step."""
    if case == "uneven":
        return uneven_rows(arguments.lengths, arguments.rows)
    return [(512, 77)] * 4 if case == "equal" else [(arguments.tokens, max(2, int(0.15 * arguments.tokens)))] * 4


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
    from data.tasks import IGNORE_INDEX
    from model import load_tokenizer
    from training.rows import load_rows
    rows = load_rows("joint", examples, load_tokenizer(tokenizer), max_length=2048)
    with open(target, "w", encoding="utf-8") as file:
        for row in rows:
            record = {"tokens": len(row.ids), "supervised": sum(label != IGNORE_INDEX for label in row.labels[1:])}
            file.write(json.dumps(record) + "\n")


def run_ours(shape: dict, rows: list[tuple[int, int]], tokens: int, steps: int, checkpointing: int, device: str,
             dtype: torch.dtype) -> dict:
    """Seconds of each step, after one to warm up; the planner's bytes and the skipped steps."""
    from data.tasks import IGNORE_INDEX, Row
    from model import ModelConfig, Transformer
    from train import TrainConfig, prepare, train_step
    from training.plan import make_plan
    from training.processes import Processes

    with torch.device("meta"):
        model = Transformer(ModelConfig.from_dict(COMMON | shape))
    model = fill(model.to(dtype), device)
    model.tie_weights()
    rng = random.Random(0)
    made = []
    for i, (length, supervised) in enumerate(rows):
        ids = [rng.randrange(shape["vocab_size"]) for _ in range(length)]
        made.append(Row(str(i), "invocation", ids, [IGNORE_INDEX] * (length - supervised) + ids[length - supervised:]))
    config = TrainConfig(out="unused", global_batch_size=len(rows), micro_batch_tokens=tokens, max_steps=steps + 1,
                         gradient_checkpointing=checkpointing)
    processes = Processes()
    plan = make_plan(config, model.config, [length for length, _ in rows], sum(n for _, n in rows), steps + 1, dtype,
                     processes.device, 1)
    if plan.total > plan.available:
        return {"failed": "refused by the planner"}
    trainer = prepare(config, processes, made, None, model, None, lambda line: None)
    trainer.model.train()
    return {"seconds": timed(lambda: train_step(trainer), steps, device), "planned": plan.total,
            "skipped": trainer.skipped}


def run_reference(shape: dict, rows: list[tuple[int, int]], tokens: int, steps: int, device: str,
                  dtype: torch.dtype) -> dict:
    """The same step with transformers' model, peft's LoRA and torch's fused AdamW; fp16 with torch's GradScaler."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(**{k: v for k, v in (COMMON | shape).items() if k not in ("architectures", "model_type")})
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config)
    model = fill(model.to(dtype), device)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)
    model.to(device)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM"))
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}, "peft keeps its weights in float32 over a half-precision base"
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    scaler, skipped = torch.amp.GradScaler(device, enabled=dtype == torch.float16), 0
    batches = []
    group: list[tuple[int, int]] = []
    # padded batches of similar lengths, at most `tokens` tokens each
    for row in sorted(rows, reverse=True):
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
        inputs.append((ids.to(device), None if bool(mask.all()) else mask.to(device), labels.to(device)))
    supervised = sum(int((labels[:, 1:] != -100).sum()) for _, _, labels in inputs)

    def step() -> None:
        nonlocal skipped
        optimizer.zero_grad(set_to_none=True)
        for ids, mask, labels in inputs:
            loss = model(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=supervised,
                         use_cache=False).loss
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        scale = scaler.get_scale()
        scaler.step(optimizer)                              # not on a gradient that is not finite
        scaler.update()
        skipped += scaler.get_scale() < scale

    return {"seconds": timed(step, steps, device), "skipped": skipped}


def fill(model, device: str):
    """Random weights in place of meta tensors: in the CPU's memory, whence both sides move them, but drawn on the
    device, which is faster.
    """
    model.to_empty(device="cpu")
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.copy_(torch.empty(p.shape, dtype=p.dtype, device=device).normal_(0, 0.02, generator=generator))
            else:
                p.fill_(1.0)
    release(device)
    return model


def timed(step, steps: int, device: str) -> list[float]:
    """Seconds of `steps` calls after one that warms up."""
    step()
    seconds = []
    for _ in range(steps):
        began = clock(device)
        step()
        seconds.append(clock(device) - began)
    return seconds


def child(side: str, arguments: argparse.Namespace, case: str, steps: int, dtype: str) -> dict:
    """Run one side in a process of its own."""
    options = {"child": side, "case": case, "shape": arguments.shape, "steps": steps, "threads": arguments.threads,
               "lengths": arguments.lengths,
               "rows": arguments.rows, "tokens": arguments.tokens, "device": arguments.device, "dtype": dtype,
               "cap-gb": arguments.cap_gb}
    command = [sys.executable, __file__, *(word for name, value in options.items()
                                           for word in ("--" + name, str(value)))]
    # train.py takes a GPU that it sees
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if arguments.device == "cpu" else {}
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | hidden)
    if result.returncode:
        raise SystemExit(f"{side}, {case} lengths: exit code {result.returncode}\n{result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def run_child(arguments: argparse.Namespace) -> None:
    """Print one side's seconds, peak memory and the rest as JSON; or why there are none."""
    torch.set_num_threads(arguments.threads)
    if arguments.cap_gb:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, arguments.cap_gb * 2**30 / total))
    shape, device, dtype = SHAPES[arguments.shape], arguments.device, DTYPES[arguments.dtype]
    rows = case_rows(arguments, arguments.case)
    tokens = arguments.tokens if arguments.case == "long" else 2048
    try:
        if arguments.child == "reference":
            result = run_reference(shape, rows, tokens, arguments.steps, device, dtype)
        else:
            result = run_ours(shape, rows, tokens, arguments.steps, 0 if arguments.child.endswith("off") else 1, device,
                              dtype)
    except torch.OutOfMemoryError:
        result = {"failed": "out of memory"}
    print(json.dumps(result | {"peak_gib": peak_memory(device) / 2**30}))


def table_rows(case: str, runs: dict[str, list[dict]], rows: list[tuple[int, int]], body: int, peak: float, device: str,
               wide: bool) -> list[str]:
    """A Markdown row of each side; `wide`: with the planner's memory and the skipped steps, too."""
    tokens, lines = sum(length for length, _ in rows), []
    middle = statistics.median if case == "long" else min
    failed = {side: run["failed"] for side, found in runs.items() for run in found if "failed" in run}
    seconds = {side: middle([s for run in found for s in run["seconds"]])
               for side, found in runs.items() if side not in failed}
    memory = {side: max(run["peak_gib"] for run in found) for side, found in runs.items()}
    for side, found in runs.items():
        if side in failed:
            lines.append(f"| {case} | {side} | {failed[side]} |" + " - |" * (9 if wide else 6))
            continue
        one, known = seconds[side], "reference" in seconds
        share = 6 * body * tokens / one / peak
        line = (f"| {case} | {side} | {one:.2f} | {len(rows) / one:.2f} | {tokens / one:,.0f} | {share:.0%} | "
                f"{memory[side]:.2f} | "
                + (f"{seconds['reference'] / one:.2f}x | {memory[side] / memory['reference']:.0%} |" if known
                   else "- | - |"))
        if wide:
            planned = found[0].get("planned", 0) / 2**30
            # a resident set holds libraries, too
            off = f"{planned / memory[side] - 1:+.1%}" if planned and device == "cuda" else "-"
            line += f" {f'{planned:.2f}' if planned else '-'} | {off} | {sum(run['skipped'] for run in found)} |"
        lines.append(line)
    return lines


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="of the base (default: bf16; long: fp16)")
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--rounds", type=int, help="times that both sides run in turn (default: 2; long: 1)")
    parser.add_argument("--steps", type=int,
                        help="timed steps of one turn, after one that warms up (default: 2; long: 20)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=12, help="rows of the uneven batch")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens of a row in the case long")
    parser.add_argument("--cap-gb", type=float, default=0.0,
                        help="GiB that the GPU's allocator may take; 0: all there is")
    parser.add_argument("--examples", default="",
                        help="JSONL of examples whose row lengths the uneven batch is drawn from")
    parser.add_argument("--tokenizer", default="model/tiny", help="folder of the tokenizer that measures them")
    parser.add_argument("--cases", nargs="+", choices=CASES, help="default: equal uneven; on a GPU long")
    parser.add_argument("--lengths", default="", help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    refuse_missing_device(parser, arguments.device)
    if arguments.cap_gb and arguments.device != "cuda":
        parser.error("--cap-gb is for --device cuda")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.child:
        return run_child(arguments)

    from benchmarks.machine import describe
    if arguments.examples:
        arguments.lengths = str(Path(tempfile.mkdtemp()) / "lengths.jsonl")
        measure_lengths(arguments.examples, arguments.tokenizer, Path(arguments.lengths))
    cases = arguments.cases or (["long"] if arguments.device == "cuda" else ["equal", "uneven"])
    wide = arguments.device == "cuda" or "long" in cases
    shape = SHAPES[arguments.shape]
    E, F, D = shape["hidden_size"], shape["intermediate_size"], shape["hidden_size"] // shape["num_attention_heads"]
    body = shape["num_hidden_layers"] * (2 * E * E + 2 * E * D * shape["num_key_value_heads"] + 3 * E * F)
    torch.set_num_threads(arguments.threads)
    print(describe("transformers", "peft", device=arguments.device, threads=arguments.threads))
    settings = {case: (arguments.rounds or CASES[case][0], arguments.steps or CASES[case][1],
                       arguments.dtype or CASES[case][2]) for case in cases}
    dtypes = ", ".join(dict.fromkeys(dtype for _, _, dtype in settings.values()))
    cap = f", at most {arguments.cap_gb:g} GiB of the GPU" if arguments.cap_gb else ""
    lengths = (f"of {arguments.examples}" if arguments.examples
               else "drawn from a log-normal, not from a corpus (see --examples)")
    print(f"Shape {arguments.shape}, {dtypes}, rank 16, gradient checkpointing unless it says off{cap}. Uneven lengths "
          f"{lengths}.\n")
    print("| lengths | side | s / step | rows / s | tokens / s | share of matmul peak | peak GiB | speed | memory |"
          + (" planned GiB | error of the plan | skipped steps |" if wide else ""))
    print("|---|---|---|---|---|---|---|---|---|" + ("---|---|---|" if wide else ""))
    peaks: dict[str, list[float]] = {}
    for case, (rounds, steps, dtype) in settings.items():
        found = peaks.setdefault(dtype, [])
        found.append(matmul_peak(arguments.device, DTYPES[dtype], MATMULS))
        runs: dict[str, list[dict]] = {side: [] for side in CASES[case][3]}
        for _ in range(rounds):
            for side in runs:
                release(arguments.device)
                runs[side].append(child(side, arguments, case, steps, dtype))
            found.append(matmul_peak(arguments.device, DTYPES[dtype], MATMULS))
        rows = table_rows(case, runs, case_rows(arguments, case), body, max(found), arguments.device, wide)
        print("\n".join(rows), flush=True)
    ways = dict.fromkeys(f"{'Median' if case == 'long' else 'Best'} step of {rounds} x {steps}"
                         for case, (rounds, steps, _) in settings.items())
    peak = ", ".join(f"{max(found) / 1e9:,.0f} GFLOP/s{f' in {dtype}' if len(peaks) > 1 else ''}"
                     for dtype, found in peaks.items())
    print(f"\n{'; '.join(ways)}. Matmul peak measured between the turns: "
          f"{peak}; share counts six flops per body weight ({body / 1e6:.1f} M) and real token, whatever was in fact "
          "computed. "
          + ("Peak is the most that the GPU's allocator gave out." if arguments.device == "cuda" else
             "Peak is the resident set, weights and libraries included."))


if __name__ == "__main__":
    main()
