"""Tiny checkpoints of every supported variant, with weights on which each feature shows.

`CONFIGS` are config.json objects. `draw_weights` is a fixed function of name and shape (NumPy's RandomState, whose
stream never changes), so the golden vectors made from it stay valid. It gives logits a standard deviation of about 1:
matrices keep the scale of their input, queries and keys are strong enough for attention to be uneven, embeddings are so
small that the norm's epsilon counts, and a tied model's final norm makes up for them.
"""

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.config import ModelConfig
from model.transformer import Transformer

SMALL = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu", "max_position_embeddings": 131072}
LLAMA = SMALL | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rms_norm_eps": 1e-5,
                 "rope_theta": 500000.0}
QWEN = SMALL | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rms_norm_eps": 1e-6,
                "rope_theta": 1000000.0, "sliding_window": 131072, "use_sliding_window": False}
MISTRAL = SMALL | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "rms_norm_eps": 1e-5,
                   "rope_theta": 1000000.0, "sliding_window": None}
LLAMA3_ROPE = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3",
               "original_max_position_embeddings": 8192}


def _without(raw: dict, *keys: str) -> dict:
    return {key: value for key, value in raw.items() if key not in keys}


CONFIGS = {
    "llama-3.1": LLAMA | {"rope_scaling": LLAMA3_ROPE},
    "llama-3.2": LLAMA | {"rope_scaling": LLAMA3_ROPE | {"factor": 32.0}, "head_dim": 16, "tie_word_embeddings": True},
    "llama-3.1-new-spelling": _without(LLAMA, "rope_theta") | {
        "rope_parameters": LLAMA3_ROPE | {"rope_theta": 500000.0}},
    "llama-mha": _without(LLAMA, "num_key_value_heads", "rope_theta"),
    "llama-one-kv-head": LLAMA | {"num_key_value_heads": 1},
    "llama-head-dim": LLAMA | {"head_dim": 24},
    "llama-biases": LLAMA | {"attention_bias": True, "mlp_bias": True},
    "qwen2.5-tied": QWEN | {"num_attention_heads": 8, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "qwen2.5-untied": QWEN,
    "qwen2.5-mha": QWEN | {"num_key_value_heads": 4, "rms_norm_eps": 1e-5},
    "qwen2-window": QWEN | {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1},
    "mistral-v0.3": MISTRAL,
    "mistral-window": MISTRAL | {"sliding_window": 20},
    "mistral-head-dim": MISTRAL | {"head_dim": 32, "rope_theta": 10000.0},
}


def draw_weights(shapes: dict[str, tuple[int, ...]], tied: bool) -> dict[str, Tensor]:
    """Weights for these names and shapes, in float32."""
    return {name: torch.from_numpy(_draw(name, shape, tied)) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...], tied: bool) -> np.ndarray:
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("embed_tokens.weight"):
        return 0.003 * noise
    if name.endswith("norm.weight"):
        final_of_tied = tied and name == "model.norm.weight"
        return (1 + 0.2 * noise) / np.float32(0.003 * shape[0] ** 0.5 if final_of_tied else 1.0)
    if name.endswith("bias"):
        return 0.5 * noise
    gain = 1.2 if "q_proj" in name or "k_proj" in name else 1.0
    return noise * np.float32(gain / shape[1] ** 0.5)


def tiny_model(raw: dict) -> Transformer:
    """The model of a config.json object with the weights above."""
    model = Transformer(ModelConfig.from_dict(raw)).eval()
    state = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    model.load_state_dict(draw_weights(state, model.config.tie_word_embeddings))
    model.tie_weights()
    if model.config.tie_word_embeddings:           # load_state_dict drew lm_head last
        model.load_state_dict(draw_weights(_without(state, "lm_head.weight"), tied=True), strict=False)
    return model


def token_ids(rows: int, length: int, vocab_size: int = 96) -> Tensor:
    """(rows, length) fixed ids."""
    return torch.from_numpy(np.random.RandomState(7).randint(0, vocab_size, (rows, length)))


def next_token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean cross-entropy of each next id."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())


def direction(name: str, shape: tuple[int, ...]) -> Tensor:
    """The fixed direction, of unit variance, that a tensor's gradient is projected on."""
    noise = np.random.RandomState(zlib.crc32(f"direction of {name}".encode())).standard_normal(shape)
    return torch.from_numpy(noise.astype(np.float32))


def data_folder(*parts: str) -> Path:
    """A path inside the reference data that TOOLDEV_DATA names; skips the test without it."""
    root = os.environ.get("TOOLDEV_DATA")
    if not root:
        pytest.skip("set TOOLDEV_DATA to the folder of reference data (models/, corpora/, bench/) to run this")
    path = Path(root, *parts)
    if not path.exists():
        pytest.skip(f"TOOLDEV_DATA has no {'/'.join(parts)}")
    return path
