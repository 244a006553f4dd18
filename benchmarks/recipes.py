"""docs/recipes.md: a recipe per card with the plan that it prints, for cards that need not be here.

    python benchmarks/recipes.py > docs/recipes.md

Memory is the planner's own arithmetic (training/plan.py), which benchmarks/train_memory.py holds against measured peaks
on small shapes. Hours are estimates: the plan's flops at 35% of the peak that the card's maker states. Rows: 40,000
(20,000 examples, two objectives) of 100 to 2,048 tokens, 600 on average, a fifth of them supervised; an assumption, not
the paper's data.
"""

import random
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from model import ModelConfig
from train import TrainConfig
from training.plan import GIB, make_plan

SHARE_OF_PEAK = 0.35
ROWS, SUPERVISED = 40_000, 0.2
SHAPES = {      # class, hidden, intermediate, layers, heads, key/value heads, vocabulary, tied embeddings
    "Llama-3.1-8B": ("LlamaForCausalLM", 4096, 14336, 32, 32, 8, 128256, False),
    "Qwen2.5-0.5B": ("Qwen2ForCausalLM", 896, 4864, 24, 14, 2, 151936, True),
}


HEAD = """# Recipes: a card, its command, its plan

This page is what `python benchmarks/recipes.py` prints. It computes each plan without the card. **Nothing here was
measured on the card that it names.**

- Memory is the planner's. On a CPU it is within 10% of the measured peak of live tensors in 35 of 36 cases of small
  models and vocabularies ([benchmarks/train_memory.md](../benchmarks/train_memory.md)).
- Hours are **estimates** at 35% of the peak that the card's maker states.
- Rows are 40,000 (20,000 examples, two objectives) of 100 to 2,048 tokens, a fifth of them supervised. That is an
  assumption, not the paper's data.
- `--plan-only` prints the plan of any command and stops.
- A V100 or T4 needs a CUDA 12.6 build of PyTorch. The start of a run says so, with the command."""


@dataclass(frozen=True)
class Recipe:
    """A device and the command for it; `peak` in TFLOP/s of one device, as its maker states it for this precision."""

    name: str
    model: str
    flags: str
    gib: float
    peak: float
    processes: int = 1


RECIPES = (
    Recipe("8 x V100-32GB (the paper's)", "Llama-3.1-8B", "--precision fp16 --gradient-checkpointing 1 "
                                                          "--micro-batch-tokens 4096", 31.7, 125, 8),
    Recipe("one 24 GB card (RTX 3090)", "Llama-3.1-8B", "--precision bf16 --gradient-checkpointing 1 "
                                                        "--micro-batch-tokens 4096", 23.6, 71),
    Recipe("one 80 GB card (A100)", "Llama-3.1-8B", "--precision bf16 --gradient-checkpointing 2 --micro-batch-tokens "
                                                    "8192", 79.2, 312),
    Recipe("T4, Colab", "Qwen2.5-0.5B", "--precision fp16 --gradient-checkpointing 1 --micro-batch-tokens 8192", 14.7,
           65),
    Recipe("laptop CPU, 16 GB", "Qwen2.5-0.5B", "--precision bf16 --gradient-checkpointing 1 --micro-batch-tokens 2048",
           14, 0.4),
)


def lengths() -> list[int]:
    """Tokens of every row: log-normal, cut at 100 and 2,048."""
    rng = random.Random(0)
    return [min(2048, max(100, int(rng.lognormvariate(6.2, 0.6)))) for _ in range(ROWS)]


def plan_of(recipe: Recipe, rows: list[int]) -> str:
    """A recipe: its device, the command, and the plan that the command prints there."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
             "vocab_size", "tie_word_embeddings")
    kind, *sizes = SHAPES[recipe.model]
    shape = ModelConfig.from_dict({"architectures": [kind], "rms_norm_eps": 1e-6, "max_position_embeddings": 8192,
                                   **dict(zip(names, sizes, strict=True))})
    given = recipe.flags.replace("--", "").replace("-", "_").split()
    settings = dict(zip(given[::2], given[1::2], strict=True))
    config = TrainConfig(stage="joint", out="unused", max_length=2048, precision=settings["precision"],
                         gradient_checkpointing=int(settings["gradient_checkpointing"]),
                         micro_batch_tokens=int(settings["micro_batch_tokens"]))
    device = torch.device("cpu" if "CPU" in recipe.name else "cuda")
    dtype = torch.float16 if config.precision == "fp16" else torch.bfloat16
    steps = -(-len(rows) // config.global_batch_size)
    plan = make_plan(config, shape, rows, int(SUPERVISED * sum(rows)), steps, dtype, device, recipe.processes,
                     int(recipe.gib * GIB))
    start = f"torchrun --nproc-per-node {recipe.processes}" if recipe.processes > 1 else "python"
    hours = plan.hours(SHARE_OF_PEAK * recipe.peak * 1e12)
    return "\n".join([
        f"## {recipe.name}, {recipe.model}\n", "<!-- needs: gpu, weights -->" if device.type == "cuda" else
        "<!-- needs: weights -->", "```",
        f"{start} train.py --model DIR --data examples.jsonl {shlex.join(recipe.flags.split())}", "```\n", "```",
        *plan.what_and_memory(),
        f"time, estimated: {hours:.1f} h ({plan.flops:.2e} flops at {SHARE_OF_PEAK:.0%} of {recipe.processes} x "
        f"{recipe.peak:g} TFLOP/s stated)", "```"])


def page() -> str:
    """docs/recipes.md."""
    rows = lengths()
    return "\n\n".join([HEAD, *(plan_of(recipe, rows) for recipe in RECIPES)]) + "\n"


def main() -> None:
    print(page(), end="")


if __name__ == "__main__":
    main()
