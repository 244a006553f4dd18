"""Every switch of a config shows: turned off, it moves the logits by at least 100 times the parity tolerance."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model import transformer
from model.transformer import Transformer
from tests.model_tiny import CONFIGS, tiny_model, token_ids
from tests.test_model_parity import TOLERANCE


def moved(model: Transformer, length: int = 96, **changes) -> float:
    """Largest change of a logit when these config fields are changed and the weights are not."""
    ids = token_ids(1, length)
    other = Transformer(replace(model.config, **changes)).eval()
    other.load_state_dict(model.state_dict(), strict=False)
    other.tie_weights()
    return difference(model(ids), other(ids))


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max())


@pytest.mark.parametrize(("name", "changes"), [
    ("llama-3.1", {"rope_scaling": None}),
    ("llama-3.2", {"rope_scaling": None}),
    ("llama-3.1", {"rope_theta": 10000.0}),
    ("llama-mha", {"rope_theta": 500000.0}),
    ("llama-3.1", {"rms_norm_eps": 1e-6}),
    ("qwen2.5-untied", {"rms_norm_eps": 1e-5}),
    ("qwen2.5-mha", {"rms_norm_eps": 1e-6}),
    ("qwen2.5-untied", {"rope_theta": 10000.0}),
    ("qwen2-window", {"sliding_window": None}),
    ("qwen2-window", {"sliding_window": 23}),
    ("qwen2-window", {"first_window_layer": 0}),
    ("qwen2-window", {"first_window_layer": 2}),
    ("mistral-window", {"sliding_window": None}),
    ("mistral-window", {"sliding_window": 21}),
    ("mistral-v0.3", {"sliding_window": 20}),
    ("qwen2.5-untied", {"qkv_bias": False}),
    ("llama-biases", {"qkv_bias": False}),
    ("llama-biases", {"o_proj_bias": False}),
    ("llama-biases", {"mlp_bias": False}),
])
def test_a_config_field_shows_in_the_logits(name, changes):
    assert moved(tiny_model(CONFIGS[name]), **changes) >= 100 * TOLERANCE


def test_factor_of_the_scaling_shows():
    """Between 8 and 32, on a longer row: both factors all but stop the slowest pairs."""
    model = tiny_model(CONFIGS["llama-3.1"])
    assert moved(model, length=512, rope_scaling=replace(model.config.rope_scaling, factor=32.0)) >= 100 * TOLERANCE


def test_tied_weights_show():
    model, ids = tiny_model(CONFIGS["llama-3.2"]), token_ids(1, 96)
    before = model(ids)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.roll(1, dims=0))
    assert difference(before, model(ids)) >= 100 * TOLERANCE


@pytest.mark.parametrize("name", ["llama-3.1", "llama-one-kv-head", "qwen2.5-tied"])
def test_the_grouping_of_heads_shows(name):
    """Query head h reads key/value head h // (H / K): any other sharing gives other logits."""
    model, ids = tiny_model(CONFIGS[name]), token_ids(1, 96)
    before, D = model(ids), model.config.head_dim
    for layer in model.model.layers:
        weight = layer.self_attn.q_proj.weight
        weight.data = weight.data.roll(D, dims=0)           # the same heads in another order, o_proj unchanged
    assert difference(before, model(ids)) >= 100 * TOLERANCE


def test_an_explicit_head_dim_shows_in_the_scale(monkeypatch):
    """The scale is that of head_dim, 24, not of hidden_size / heads, 16."""
    model, ids = tiny_model(CONFIGS["llama-head-dim"]), token_ids(1, 96)
    before, attend = model(ids), transformer.attend
    monkeypatch.setattr(transformer, "attend", lambda q, k, v, scale, *rest: attend(q, k, v, 16**-0.5, *rest))
    assert difference(before, model(ids)) >= 100 * TOLERANCE


@pytest.mark.parametrize("name", CONFIGS)
def test_every_weight_shows(name):
    """A tensor that is halved moves the logits: none is read and then forgotten."""
    model, ids = tiny_model(CONFIGS[name]), token_ids(1, 96)
    with torch.no_grad():
        before = model(ids)
        for parameter, weight in model.named_parameters():
            weight.mul_(0.5)
            assert difference(before, model(ids)) >= 100 * TOLERANCE, parameter
            weight.mul_(2.0)
