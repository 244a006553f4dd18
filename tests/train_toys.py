"""Toy models and rows for the training tests, and a way to run a script as several processes."""

import random
import socket
from pathlib import Path
from subprocess import CompletedProcess

import torch
from processes import Job

from data.tasks import IGNORE_INDEX, Row
from model import ModelConfig, Transformer

ROOT = Path(__file__).resolve().parents[1]


def toy_model(dtype: torch.dtype = torch.float32, *, layers: int = 3, tied: bool = True, seed: int = 0) -> Transformer:
    """Qwen2-shaped, 40-odd thousand weights, biases and norms away from 0 and 1."""
    config = ModelConfig.from_dict({
        "architectures": ["Qwen2ForCausalLM"], "vocab_size": 120, "hidden_size": 32, "intermediate_size": 80,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": tied})
    model = Transformer(config).init_weights(seed, std=0.2)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model.to(dtype)


def toy_rows(count: int = 64, *, seed: int = 0, longest: int = 24, vocab: int = 120) -> list[Row]:
    """Rows of uneven lengths of all three objectives, the second part of each supervised."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        ids = [rng.randrange(vocab) for _ in range(rng.randint(4, longest))]
        start = rng.randint(1, len(ids) - 2)
        labels = [IGNORE_INDEX] * start + ids[start:]
        rows.append(Row(f"r{i}", ("adaption", "generation", "invocation")[i % 3], ids, labels))
    return rows


def run_processes(script: str, *arguments: str, world_size: int, check: bool = True) -> list[CompletedProcess]:
    """Run a Python script as `world_size` processes of one run; returns their ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    jobs = [Job(script, *arguments, RANK=str(dist_rank), LOCAL_RANK=str(dist_rank), WORLD_SIZE=str(world_size),
                MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), PYTHONPATH=str(ROOT / "tests"))
            for dist_rank in range(world_size)]
    results = [job.completed() for job in jobs]
    if check:
        assert all(result.returncode == 0 for result in results), "\n".join(result.stderr for result in results)
    return results
