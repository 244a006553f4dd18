"""What a training process holds in memory on real uneven rows, beside its plan: one Markdown table.

    python tooldev.py convert --from auto --in CORPUS --out DIR                 # for each corpus
    python benchmarks/train_resident.py --examples DIR/examples.jsonl [...] --tokenizer smollm2 [--skip-products]

LoRA of rank 16 on a shape's drawn weights; every case is a process of its own, whose largest resident set counts. It is
more than the live tensors (train_memory.py counts those): libraries, what the allocator keeps of blocks of many sizes,
and in half precision the kernels that oneDNN compiles for each shape of a product. --precision says the dtype.

`--skip-products` allocates the results of matrix products and computes none, so that sixty steps take minutes: what is
allocated, in which order and size, is the same; what a product's own library keeps is missing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe
from data.tasks import Row
from model import ModelConfig, Transformer, load_tokenizer
from train import TrainConfig, run_training
from training.base import compute_dtype
from training.plan import GIB, make_plan
from training.rows import load_rows, supervised_in

NAMES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
         "vocab_size")
SHAPES = {"SmolLM2-135M": ("LlamaForCausalLM", 576, 1536, 30, 9, 3, 49152),
          "Qwen2.5-0.5B": ("Qwen2ForCausalLM", 896, 4864, 24, 14, 2, 151936),
          "Qwen2.5-1.5B": ("Qwen2ForCausalLM", 1536, 8960, 28, 12, 2, 151936)}
CASES = ((2048, 1), (2048, 2), (1024, 0), (2048, 0))            # most tokens of a pass, --gradient-checkpointing
PRODUCTS = {"mm", "addmm", "addmm_", "bmm"}


class WithoutProducts(TorchDispatchMode):
    """Matrix products allocate their results and compute nothing."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        if name not in PRODUCTS:
            return func(*args, **kwargs)
        if name == "addmm_":
            return args[0]
        first, second = args[-2:]
        out = kwargs.get("out")
        return (first.new_empty((*first.shape[:-1], second.shape[-1])) if out is None else out).fill_(1e-3)


def drawn_model(shape: str, dtype: torch.dtype) -> Transformer:
    """A model of this shape."""
    architecture, *sizes = SHAPES[shape]
    config = ModelConfig.from_dict({"architectures": [architecture], "tie_word_embeddings": True,
                                    "rms_norm_eps": 1e-5, "max_position_embeddings": 8192,
                                    **dict(zip(NAMES, sizes, strict=True))})
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return Transformer(config).init_weights(0)
    finally:
        torch.set_default_dtype(default)


def read_rows(paths: list[str], tokenizer: str, longest: int) -> list[Row]:
    """The rows of both objectives; longer ones are left out."""
    loaded = load_tokenizer(tokenizer)
    return [row for path in paths for row in load_rows(
        "joint", path, loaded, max_length=longest, train_on="last", too_long="refuse", seed=0,
        say=lambda line: print(line, file=sys.stderr), only_called=False)]


def measure(arguments: argparse.Namespace) -> str:
    """Train one case, and return its row of the table."""
    tokens, every = arguments.case
    rows = read_rows(arguments.examples, arguments.tokenizer, tokens)
    dtype = compute_dtype(arguments.precision, torch.device("cpu"), None)
    model = drawn_model(arguments.shape, dtype)
    with tempfile.TemporaryDirectory() as out:
        config = TrainConfig(out=out, max_steps=arguments.steps, global_batch_size=arguments.rows,
                             micro_batch_tokens=tokens, gradient_checkpointing=every, checkpoint_minutes=0,
                             precision=arguments.precision)
        plan = make_plan(config, model.config, [len(row.ids) for row in rows], sum(map(supervised_in, rows)),
                         arguments.steps, dtype, torch.device("cpu"), 1)
        if arguments.skip_products:
            with WithoutProducts():
                run_training(config, rows, model)
        else:
            run_training(config, rows, model)
        steps = [json.loads(line)["peak_mem_gb"] for line in Path(out, "metrics.jsonl").read_text().splitlines()]
    ratio = steps[-1] * GIB / plan.total
    return (f"| {arguments.shape} | {str(dtype).removeprefix('torch.')} | {tokens:,} | {every} | {len(steps)} | "
            f"{plan.total / GIB:.2f} | {steps[0]:.2f} | {steps[-1]:.2f} | {ratio - 1:+.0%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", nargs="+", required=True, help="examples.jsonl of `tooldev.py convert`")
    parser.add_argument("--tokenizer", required=True, help="folder of a tokenizer whose ids fit the vocabulary")
    parser.add_argument("--shape", choices=SHAPES, default="SmolLM2-135M")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rows", type=int, default=16, help="rows of a step")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of the base's weights")
    parser.add_argument("--skip-products", action="store_true", help="allocate matrix products, compute none")
    parser.add_argument("--case", nargs=2, type=int, metavar=("TOKENS", "CHECKPOINTING"), help="this case alone")
    arguments = parser.parse_args()
    if arguments.case:
        print(measure(arguments))
        return
    print(describe())
    print("| shape | dtype | tokens of a pass | checkpointing | steps | planned GiB | resident, step 1 | resident, "
          "at most | beside the plan |\n|---|---|---|---|---|---|---|---|---|", flush=True)
    for case in CASES:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--case", *map(str, case)], check=True,
                       stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
