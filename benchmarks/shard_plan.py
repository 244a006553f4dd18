"""Backbones larger than a card: the plan of training and sampling with --shard, and where links become the limit.

    python benchmarks/shard_plan.py

Memory is the planner's arithmetic (training/plan.py), which benchmarks/shard_memory.py holds against counted bytes on
small shapes; no GPU was there. Hours are estimates from the rates printed: none was measured. Work: the paper's recipe
of 26,522 tool documents, 20,000 labelled examples with two objectives, and three rounds of 10,000 queries; rows of 600
tokens on average, 300 for a tool, a fifth of them supervised; 200 tokens for made tools, 80 for each of five answers.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from model import ModelConfig
from tooldev import Evolution, Sizes
from train import TrainConfig
from training.costs import base_weights, body_weights, flops
from training.plan import GIB, TIGHT, base_memory, memory_parts

SHAPES = {      # class, hidden, intermediate, layers, heads, key/value heads, vocabulary, tied embeddings
    "Llama-3.1-8B": ("LlamaForCausalLM", 4096, 14336, 32, 32, 8, 128256, False),
    "Qwen2.5-14B": ("Qwen2ForCausalLM", 5120, 13824, 48, 40, 8, 152064, False),
    "Qwen2.5-32B": ("Qwen2ForCausalLM", 5120, 27648, 64, 40, 8, 152064, False),
}
TRAINED, READ = 0.35, 0.6           # of the stated peak and of the stated bandwidth, that are assumed to be reached
ROWS_AT_ONCE, FILLED = 256, 0.6     # samples decoded at once by a process, and how full their batch is on average
ROW, TOOL_ROW, SUPERVISED, TOOLS_TOKENS, CALL_TOKENS = 600, 300, 0.2, 200, 80


@dataclass(frozen=True)
class Node:
    """Cards of a machine: memory in GiB, stated TFLOP/s and GB/s of memory of one, GB/s of an all-gather over all."""

    name: str
    cards: int
    gib: float
    peak: float
    memory_rate: float
    link: float


NODES = (
    Node("4 x V100-16GB, NVLink", 4, 15.7, 125, 900, 120), Node("8 x V100-16GB, NVLink", 8, 15.7, 125, 900, 120),
    Node("4 x V100-32GB, NVLink", 4, 31.7, 125, 900, 120), Node("8 x V100-32GB, NVLink", 8, 31.7, 125, 900, 120),
    Node("8 x V100-32GB, PCIe 3", 8, 31.7, 125, 900, 10),
    Node("1 x A100-80GB", 1, 79.2, 312, 2000, 0), Node("2 x A100-80GB, NVLink", 2, 79.2, 312, 2000, 230),
    Node("4 x A100-80GB, NVLink", 4, 79.2, 312, 2000, 230), Node("8 x A100-80GB, NVLink", 8, 79.2, 312, 2000, 230),
)


def shape_of(name: str) -> ModelConfig:
    """The config of a shape of SHAPES."""
    kind, *sizes = SHAPES[name]
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
             "vocab_size", "tie_word_embeddings")
    return ModelConfig.from_dict({"architectures": [kind], "rms_norm_eps": 1e-6, "max_position_embeddings": 32768,
                                  **dict(zip(names, sizes, strict=True))})


def settings(tokens: int = 4096) -> TrainConfig:
    """Those of the tables: every block recomputed, packs of so many tokens."""
    return TrainConfig(stage="joint", out="unused", max_length=tokens, micro_batch_tokens=tokens,
                       gradient_checkpointing=1)


def training_memory(name: str, node: Node, tokens: int = 4096) -> dict[str, int]:
    """Bytes by part on each card, in half precision, of packs of rows as long as they may be."""
    sharing = node.cards if node.cards > 1 else 0
    return memory_parts(settings(tokens), shape_of(name), tokens, SUPERVISED, torch.float16, torch.device("cuda"),
                        sharing)


def verdict(needed: int, node: Node) -> str:
    """Whether that much fits a card."""
    share = needed / (node.gib * GIB)
    return "refused" if share > 1 else "tight" if share > TIGHT else "fits"


def cached_tokens(name: str, node: Node) -> int:
    """Tokens whose keys and values find room on a card while sampling: in 80% of what the base leaves free."""
    shape, sharing = shape_of(name), node.cards if node.cards > 1 else 0
    free = node.gib * GIB - sum(base_memory(shape, 2, sharing, on_cpu=False).values())
    return max(0, int(0.8 * free / (4 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim)))


def gather_seconds(name: str, node: Node) -> float:
    """Of one pass: every block's weights, less what the card has, over the link."""
    if node.cards == 1:
        return 0.0
    return 2 * body_weights(shape_of(name)) * (node.cards - 1) / node.cards / (node.link * 1e9)


def knee(node: Node, passes: float = 2.0, gathers: int = 1) -> float:
    """Tokens of one pass on a card from which arithmetic outweighs the gathering: the same for every model.

    passes: flops of a weight and token, `gathers`: how often the weights travel for them.
    """
    moved = 2 * gathers * (node.cards - 1) / node.cards / (node.link * 1e9)
    return moved * TRAINED * node.peak * 1e12 / passes


def hours(name: str, node: Node) -> tuple[float, float]:
    """(training, sampling) of the whole recipe."""
    shape, rate = shape_of(name), TRAINED * node.peak * 1e12
    rows = Sizes.examples * 2 + Evolution.rounds * Sizes.queries_per_round * 2
    tokens = Sizes.tools * TOOL_ROW + rows * ROW
    per_pass = 6 * body_weights(shape) * 4096 / rate
    slower = max(1.0, 2 * gather_seconds(name, node) / per_pass)
    training = flops(settings(), shape, tokens, SUPERVISED) / (rate * node.cards) * slower
    queries = Evolution.rounds * Sizes.queries_per_round
    written = queries * (TOOLS_TOKENS + Evolution.num_samples * CALL_TOKENS)
    read = queries * 2 * (ROW - CALL_TOKENS)
    places = min(ROWS_AT_ONCE, cached_tokens(name, node) // ROW)
    if places < 1:
        return training / 3600, float("inf")
    arithmetic = 2 * base_weights(shape) * places * FILLED / rate
    reading = 2 * base_weights(shape) / (READ * node.memory_rate * 1e9)
    step = max(arithmetic, reading, gather_seconds(name, node))
    sampling = written / (places * FILLED * node.cards) * step + 2 * base_weights(shape) * read / (rate * node.cards)
    return training / 3600, sampling / 3600


def main() -> None:
    print(f"Training: GiB on each card by part, packs of 4,096 tokens, half precision, every block recomputed; tight: "
          f"above {TIGHT:.0%}.\n")
    print("| backbone | node | base | gathered blocks | LoRA, optimizer | activations, work | of | verdict | "
          "tokens cached while sampling |\n|---|---|---|---|---|---|---|---|---|")
    for name in SHAPES:
        for node in NODES:
            parts = training_memory(name, node)
            base, gathered = parts.get("base", parts.get("base's share")), parts.get("gathered blocks", 0)
            trained, total = parts["LoRA and gradients"] + parts["optimizer"], sum(parts.values())
            cells = [base, gathered, trained, total - base - gathered - trained]
            print(f"| {name} | {node.name} | " + " | ".join(f"{size / GIB:.2f}" for size in cells)
                  + f" | {total / GIB:.1f} of {node.gib} | {verdict(total, node)} | {cached_tokens(name, node):,} |")
    print(f"\nHours of the whole recipe, estimated: {TRAINED:.0%} of the stated peak, {READ:.0%} of the stated memory "
          "rate, all-gathers at the link's rate.\n")
    print("| backbone | node | TFLOP/s | link GB/s | training h | sampling h |\n|---|---|---|---|---|---|")
    for name in SHAPES:
        for node in NODES:
            if verdict(sum(training_memory(name, node).values()), node) != "refused":
                training, sampling = hours(name, node)
                print(f"| {name} | {node.name} | {node.peak} | {node.link or '-'} | {training:.1f} | {sampling:.1f} |")
    print("\nThe knee: tokens of one pass on a card from which arithmetic outweighs the gathering, whatever the model. "
          "A training pass has 4,096, a decode pass as many as samples are decoded at once.\n")
    print("| node | link GB/s | prefill, decode | training, recomputed |\n|---|---|---|---|")
    for node in NODES:
        if node.cards > 1:
            print(f"| {node.name} | {node.link} | {knee(node):,.0f} | {knee(node, 6.0, 2):,.0f} |")


if __name__ == "__main__":
    main()
