"""What work costs: weights and flops of a shape, what the device does a second, and seconds from tokens.

Every plan counts three kinds of tokens, and `Rates` turns them into seconds: read (a prompt's, in one forward pass),
written (one a step, for all rows of a batch) and trained on. The rates come from a few passes of the model itself where
there is one (`timed`), else from a product and a copy timed on the spot (`assumed`): reading and training are bound by
arithmetic, writing by how fast the weights are read. All of it is an estimate, and is called that.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch

from model import ModelConfig, Transformer
from training.config import TrainConfig

REACHED = 0.5               # of the timed product's and copy's rates, that the work is assumed to reach
WRITTEN = 4.0               # a written token in read ones: small matrices use the machine worse
TIMED_TOKENS = 512          # of each timed pass
SLOW = 0.02                 # seconds of a product that tells enough: without bfloat16 of its own, a CPU takes seconds
SUPERVISED = 0.3            # of the tokens that a round trains on, whose logits are computed


def duration(seconds: float) -> str:
    """A length of time as a plan says it: seconds, minutes, hours or days, whichever reads best."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"


@dataclass(frozen=True)
class Rates:
    """Tokens a second of one process."""

    read: float
    written: float
    trained: float

    def seconds(self, *, read: float = 0.0, written: float = 0.0, trained: float = 0.0) -> float:
        """Seconds of so many tokens."""
        return read / self.read + written / self.written + trained / self.trained

    @classmethod
    def assumed(cls, train: TrainConfig, shape: ModelConfig, dtype: torch.dtype, device: torch.device,
                rows: int) -> Self:
        """From a product and a copy timed on the device; `rows` are written at a time."""
        weights = base_weights(shape)
        arithmetic, read = REACHED * matmul_rate(device, dtype), 2.0 * weights
        step = max(weights * dtype.itemsize / (REACHED * copy_rate(device)), rows * read / arithmetic)
        return cls(arithmetic / read, rows / step, arithmetic / flops(train, shape, 1.0, SUPERVISED))

    @classmethod
    def timed(cls, model: Transformer, length: int) -> Self:
        """From passes of a model with its adapters over rows of `length` tokens, the faster of two each."""
        rows = max(1, TIMED_TOKENS // max(length, 1))
        device = model.lm_head.weight.device
        ids = (torch.arange(rows * length, device=device) % model.config.vocab_size)[None]
        rates = []
        for train in (False, True):
            model.train(train)
            _pass(model, ids[:, :length], [length], train)              # warms up
            spent = min(_pass(model, ids, [length] * rows, train) for _ in range(2))
            rates.append(ids.numel() / spent)
        return cls(rates[0], rates[0] / WRITTEN, rates[1])


def _pass(model: Transformer, ids: torch.Tensor, lengths: list[int], train: bool) -> float:
    """Seconds of one pass, forward and, to train, backward."""
    began = time.perf_counter()
    with torch.set_grad_enabled(train):
        hidden = model.hidden_states(ids, lengths=lengths)
        if train:
            hidden.float().square().mean().backward()
    if ids.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


# ----------------------------------------------------------------------------------------------- arithmetic over shapes

def linears(shape: ModelConfig) -> dict[str, tuple[int, int]]:
    """(in, out) of the seven linears of a block."""
    E, F = shape.hidden_size, shape.intermediate_size
    Q, K = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    return {"q_proj": (E, Q), "k_proj": (E, K), "v_proj": (E, K), "o_proj": (Q, E), "gate_proj": (E, F),
            "up_proj": (E, F), "down_proj": (F, E)}


def body_weights(shape: ModelConfig) -> int:
    """Weights of all blocks' matrices: what every token is multiplied with."""
    return shape.num_hidden_layers * sum(i * o for i, o in linears(shape).values())


def base_weights(shape: ModelConfig) -> int:
    """Weights of the whole model."""
    Q, K = (heads * shape.head_dim for heads in (shape.num_attention_heads, shape.num_key_value_heads))
    biases = (Q + 2 * K) * shape.qkv_bias + shape.hidden_size * shape.o_proj_bias
    embeddings = shape.vocab_size * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    return (body_weights(shape) + embeddings + shape.hidden_size
            + shape.num_hidden_layers * (2 * shape.hidden_size + biases))


def trained_weights(config: TrainConfig, shape: ModelConfig) -> int:
    """Weights that train: LoRA's, or all (pretrain)."""
    if config.stage == "pretrain":
        return base_weights(shape)
    return shape.num_hidden_layers * config.rank * sum(sum(linears(shape)[name]) for name in config.target_modules)


def flops(config: TrainConfig, shape: ModelConfig, tokens: float, fraction: float) -> float:
    """Matmul flops of `tokens` tokens: per weight 2 forward, 2 for dx, 2 for dW where it trains, 2 to recompute."""
    passes = (4 + 2 * (config.stage == "pretrain")
              + 2 / max(config.gradient_checkpointing, 1) * (config.gradient_checkpointing > 0))
    head = shape.vocab_size * shape.hidden_size * fraction * (4 + 2 * (config.stage == "pretrain"))
    return tokens * (passes * body_weights(shape) + head)


# ----------------------------------------------------------------------------------------------------------- the device

_rates: dict[tuple[str, torch.dtype], float] = {}


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Flops per second of a square matmul on the device, timed once; a slow device gets a small one."""
    key = (str(device), dtype)
    for n in () if key in _rates else (256, 1024, 4096) if device.type == "cuda" else (256, 1024):
        a = torch.ones((n, n), dtype=dtype, device=device)
        spent = _seconds(lambda a=a: a @ a, device, times=5)
        _rates[key] = 2 * n**3 / spent
        if spent > SLOW:
            break
    return _rates[key]


def copy_rate(device: torch.device) -> float:
    """Bytes per second that the device reads and writes, timed on a copy of 128 MB."""
    source = torch.ones(2**25, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _seconds(lambda: target.copy_(source), device, times=3)


def _seconds(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Seconds of one call, on average after the first."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / times
