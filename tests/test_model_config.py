"""Reading config.json: every family by its keys alone, both spellings, and refusals by name."""

import json

import pytest
import torch

from model.config import ModelConfig, RopeScaling
from model.transformer import Transformer, rope_angles, rope_frequencies
from tests.model_tiny import CONFIGS, LLAMA, LLAMA3_ROPE, MISTRAL, QWEN, data_folder

NAMES = ["Llama-3.1-8B-Instruct", "Llama-3.2-1B-Instruct", "Llama-3.2-3B-Instruct", "Mistral-7B-Instruct-v0.3",
         *(f"Qwen2.5-{size}B-Instruct" for size in ("0.5", "1.5", "3", "7", "14", "32"))]


@pytest.mark.parametrize("name", NAMES)
def test_published_configs_give_the_published_facts(name):
    folder = data_folder("models", "configs")
    facts = json.loads((folder / "FACTS.json").read_text())[name]
    config = ModelConfig.load(folder / f"{name}.json")
    assert config.head_dim == facts["head_dim"]
    assert config.num_attention_heads // config.num_key_value_heads == facts["gqa_groups"]
    assert (config.qkv_bias, config.o_proj_bias, config.mlp_bias) == (
        facts["q_k_v_bias"], facts["o_proj_bias"], facts["mlp_bias"])
    assert (config.sliding_window is not None) == facts["sliding_window_active"]
    assert config.tie_word_embeddings == facts["tied_embeddings"]
    assert config.vocab_size == facts["embedding_rows"]
    with torch.device("meta"):
        model = Transformer(config)
    assert sum(weight.numel() for weight in model.parameters()) == facts["parameters"]


@pytest.mark.parametrize("name", [*NAMES[:4], "Qwen2.5-0.5B-Instruct", "Qwen2.5-7B-Instruct"])
def test_rope_equals_the_reference(name):
    values = json.loads(data_folder("models", "golden", "rope.json").read_text())[name]
    config = ModelConfig.load(data_folder("models", "configs") / f"{name}.json")
    frequencies = rope_frequencies(config, torch.device("cpu"))
    torch.testing.assert_close(frequencies, torch.tensor(values["inv_freq"]), rtol=2e-7, atol=0)
    columns = [0, 1, 2, 3, -4, -3, -2, -1]                  # the fastest and the slowest pairs
    for ours, theirs in zip(rope_angles(config, torch.tensor([values["positions"]])), (values["cos"], values["sin"])):
        torch.testing.assert_close(ours[0, 0][:, columns], torch.tensor(theirs), rtol=0, atol=2e-6)


def test_both_spellings_give_one_config():
    assert ModelConfig.from_dict(CONFIGS["llama-3.1"]) == ModelConfig.from_dict(CONFIGS["llama-3.1-new-spelling"])
    scaling = {"rope_scaling": LLAMA3_ROPE, "rope_parameters": LLAMA3_ROPE | {"rope_theta": 500000.0}}
    assert ModelConfig.from_dict(LLAMA | scaling) == ModelConfig.from_dict(CONFIGS["llama-3.1"])
    old_type_key = LLAMA | {"rope_scaling": {**LLAMA3_ROPE, "type": "llama3"}}
    assert ModelConfig.from_dict(old_type_key).rope_scaling == RopeScaling(8.0, 1.0, 4.0, 8192)
    layers = {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]}
    window = QWEN | {"use_sliding_window": True, "sliding_window": 24}
    assert ModelConfig.from_dict(window | layers) == ModelConfig.from_dict(window | {"max_window_layers": 1})


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_survives_being_written_and_read(name):
    config = ModelConfig.from_dict(CONFIGS[name])
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_qwens_window_counts_only_where_it_is_switched_on():
    assert ModelConfig.from_dict(QWEN | {"sliding_window": 8}).sliding_window is None
    on = ModelConfig.from_dict(QWEN | {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 2})
    assert [on.window(layer) for layer in range(3)] == [None, None, 8]


@pytest.mark.parametrize("raw", [MISTRAL, QWEN | {"use_sliding_window": True, "max_window_layers": 0}])
def test_a_window_that_is_not_given_is_the_references_default(raw):
    """4096, which no key says; null is no window."""
    absent = {key: value for key, value in raw.items() if key != "sliding_window"}
    assert ModelConfig.from_dict(absent).window(0) == 4096
    assert ModelConfig.from_dict(raw | {"sliding_window": None}).window(0) is None


@pytest.mark.parametrize(("raw", "words"), [
    (LLAMA | {"architectures": ["GemmaForCausalLM"], "model_type": "gemma"}, "GemmaForCausalLM.*Qwen2ForCausalLM"),
    (LLAMA | {"architectures": ["Qwen2ForCausalLM"]}, "Qwen2ForCausalLM.*llama"),
    (LLAMA | {"architectures": None, "model_type": None}, "not supported"),
    (LLAMA | {"architectures": "x", "model_type": ["llama"]}, "not supported"),
    (LLAMA | {"hidden_act": "gelu"}, "gelu.*silu"),
    (LLAMA | {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "yarn.*default, llama3"),
    (QWEN | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "linear"),
    (LLAMA | {"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "full_attention"),
    (LLAMA | {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
    (LLAMA | {"rope_scaling": "llama3"}, "must be an object"),
    (LLAMA | {"rope_scaling": {"factor": 8.0}}, "a factor and no rope_type"),
    (LLAMA | {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
    (LLAMA | {"hidden_size": 66, "head_dim": None}, "hidden_size 66"),
    (LLAMA | {"num_key_value_heads": 3}, "not a multiple"),
    (LLAMA | {"head_dim": 15}, "even"),
    (LLAMA | {"num_hidden_layers": 10**6}, "num_hidden_layers"),
    (LLAMA | {"vocab_size": True}, "vocab_size"),
    (LLAMA | {"rms_norm_eps": float("nan")}, "rms_norm_eps"),
    (LLAMA | {"rope_theta": "1e6"}, "rope_theta"),
    (MISTRAL | {"sliding_window": -1}, "sliding_window"),
    (QWEN | {"num_key_value_heads": None}, "num_key_value_heads"),
    (QWEN | {"use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention", "x"]}, "layer_types"),
    (QWEN | {"use_sliding_window": True, "max_window_layers": "2"}, "max_window_layers"),
    (LLAMA | {"vocab_size": 2**31 - 1, "hidden_size": 2**31 - 4}, "vocab_size is 2147483647, more than"),
    (LLAMA | {"num_attention_heads": 2**20, "head_dim": 2**20}, "num_attention_heads . head_dim is"),
    (LLAMA | {"rope_scaling": LLAMA3_ROPE, "rope_parameters": {"rope_type": "default"}}, "rope_parameters.*disagree"),
    (LLAMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "rope_theta is 500000.0, but 10000.0"),
    (LLAMA | {"rope_theta": [1e4]}, "rope_theta"),
    (LLAMA | {"rope_scaling": LLAMA3_ROPE, "original_max_position_embeddings": 64}, "is 64, but 8192 inside the RoPE"),
    (LLAMA | {"rope_theta": 10**20}, "rope_theta must be"),
    (LLAMA | {"rope_scaling": {"rope_type": "default", "type": "yarn", "factor": 4.0}}, "rope_type is 'default'.*yarn"),
    (LLAMA | {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
    (LLAMA | {"tie_word_embeddings": "false"}, "tie_word_embeddings must be true or false"),
    (LLAMA | {"attention_bias": 1}, "attention_bias must be true or false"),
    (QWEN | {"use_sliding_window": "false"}, "use_sliding_window must be true or false"),
    (LLAMA | {"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0"),
    (LLAMA | {"is_causal": False}, "is_causal False"),
    (LLAMA | {"use_bidirectional_attention": True}, "use_bidirectional_attention True"),
    (LLAMA | {"embedding_multiplier": 12}, "embedding_multiplier 12"),
    (QWEN | {"use_qk_norm": True}, "use_qk_norm True"),
    (MISTRAL | {"num_local_experts": 8}, "num_local_experts 8"),
    ({}, "not supported"),
])
def test_what_is_not_supported_is_refused_by_name(raw, words):
    with pytest.raises(ValueError, match=words):
        ModelConfig.from_dict(raw)


def test_keys_of_sibling_architectures_that_do_nothing_change_nothing():
    idle = {"embedding_multiplier": 1.0, "final_logit_softcapping": None, "use_qk_norm": False, "logits_scaling": 1,
            "is_causal": True}
    assert ModelConfig.from_dict(LLAMA | idle) == ModelConfig.from_dict(LLAMA)


def test_a_config_that_is_absent_or_no_json_says_where(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json"):
        ModelConfig.load(tmp_path)
    for text in ("{", "[]", "[" * 100_000):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match="config.json"):
            ModelConfig.load(tmp_path)


def test_a_file_of_weights_given_as_the_folder_is_not_read_as_a_config(tmp_path):
    with open(tmp_path / "model.safetensors", "wb") as stream:
        stream.truncate(2**36)                              # sparse: takes no disk
    with pytest.raises(ValueError, match="give the model's folder"):
        ModelConfig.load(tmp_path / "model.safetensors")
