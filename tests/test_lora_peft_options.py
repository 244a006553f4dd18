"""Adapters of others: what of PEFT's options is read, what is refused by name, and what an export says of it."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from train_toys import toy_model

from lora import apply_lora, export, load_adapter, lora_layers, lora_parameters, save_adapter
from lora.adapter_config import adapted

IDS = torch.arange(2, 22).view(2, 10)
# What PEFT 0.21.2 writes beside r, alpha and targets for a plain adapter.
PLAIN = {"auto_mapping": {"base_model_class": "Qwen2ForCausalLM", "unsloth_fixed": True}, "peft_version": "0.21.2",
         "revision": "main", "exclude_modules": None, "megatron_core": "megatron.core", "loftq_config": {},
         "eva_config": None, "qalora_group_size": 16, "use_qalora": False, "layer_replication": None,
         "trainable_token_indices": None, "target_parameters": None, "layers_pattern": None,
         "ensure_weight_tying": False, "runtime_config": {"ephemeral_gpu_offload": False}, "a_future_option": None,
         "another": [], "third": {}}


def stored(path, targets=("q_proj", "down_proj"), **changes):
    """A small adapter whose B is not zero, with changes to its adapter_config.json."""
    model = toy_model()
    apply_lora(model, 4, 8, targets=targets)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in lora_parameters(model).values():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    save_adapter(model, path)
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return model.eval()


def loaded(path):
    model = toy_model()
    load_adapter(model, path)
    return model.eval()


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "loftq", "lora_ga", "x_2030",
                                   "", "true", 1, 0, ["pissa"], {"name": "eva"}])
def test_an_adapter_whose_start_changed_the_base_is_refused_by_name(start, tmp_path):
    stored(tmp_path, init_lora_weights=start)
    model = toy_model()
    with pytest.raises(ValueError, match="init_lora_weights.*not supported.*trained on a base"):
        load_adapter(model, tmp_path)
    assert not lora_layers(model)


@pytest.mark.parametrize("start", [True, False, None, "gaussian", "Gaussian", "orthogonal", "eva", "mica"])
def test_a_start_that_leaves_the_base_alone_is_read(start, tmp_path):
    settings = {"eva_config": {"rho": 1.0}} if start == "eva" else {}
    model = stored(tmp_path, init_lora_weights=start, **settings)
    assert torch.equal(loaded(tmp_path)(IDS), model(IDS))


@pytest.mark.parametrize(("key", "value"), [
    ("alora_invocation_tokens", [1, 2]), ("use_qalora", True), ("layer_replication", [[0, 2], [1, 3]]),
    ("kasa_config", {"beta": 1e-4}), ("velora_config", {"rank": 2}), ("monteclora_config", {"n": 2}),
    ("arrow_config", {"top_k": 3}), ("use_bdlora", True), ("target_parameters", ["mlp.experts.up"]),
    ("megatron_config", {"tp": 2}), ("loftq_config", {"loftq_bits": 4}), ("eva_config", {"rho": 2.0}),
    ("corda_config", {"method": "ipm"}), ("layers_pattern", "layers"), ("exclude_modules", "k_proj"),
    ("lora_bias", True), ("kasa_config", {}), ("use_bdlora", {}),
    ("some_future_option", "on"), ("lora_scale_factor", 2.0), ("shift", 0), ("use_dora", "false")])
def test_an_option_that_is_switched_on_and_not_known_to_be_harmless_is_refused_by_name(key, value, tmp_path):
    stored(tmp_path, **{key: value})
    model = toy_model()
    with pytest.raises(ValueError, match=f"{key} .*is not supported"):
        load_adapter(model, tmp_path)
    assert not lora_layers(model)


def test_what_peft_writes_for_a_plain_adapter_is_read(tmp_path):
    model = stored(tmp_path, **PLAIN)
    assert torch.equal(loaded(tmp_path)(IDS), model(IDS))


@pytest.mark.parametrize(("changes", "words"), [
    ({"r": True}, "r must be"), ({"lora_alpha": "8"}, "lora_alpha"), ({"lora_alpha": True}, "lora_alpha"),
    ({"lora_dropout": 1.0}, "lora_dropout"), ({"lora_dropout": "no"}, "lora_dropout"),
    ({"lora_dropout": -0.1}, "lora_dropout"),
    ({"target_modules": ".*q_proj"}, "target_modules"), ({"target_modules": [""]}, "target_modules"),
    ({"lora_alpha": 1e300}, "lora_alpha a number"), ({"lora_alpha": 10**400}, "lora_alpha a number"),
    ({"lora_dropout": 10**400}, "lora_dropout must be"),
    ({"lora_alpha": float("nan")}, "NaN is not JSON"), ({"target_modules": ["c_attn"]}, "match no linear layer"),
    ({"target_modules": ["q_proj", "down_proj", "lm_head"]}, "lm_head is not supported"),
    ({"target_modules": ["q_proj", "down_proj", "embed_tokens"]}, "embed_tokens is not supported")])
def test_a_setting_out_of_its_range_is_named(changes, words, tmp_path):
    stored(tmp_path, **changes)
    with pytest.raises(ValueError, match=words):
        load_adapter(toy_model(), tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_weight_that_is_not_finite_is_found_on_load(value, dtype, tmp_path):
    stored(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = {key: weight.to(dtype) for key, weight in load_file(file).items()}
    key = sorted(tensors)[-1]
    tensors[key][0, 0] = value
    save_file(tensors, file)
    model = toy_model()
    with pytest.raises(ValueError, match=f"1 of 12 tensors hold values that are not finite.*{key}"):
        load_adapter(model, tmp_path)
    assert not lora_layers(model)
    for written in (None, lambda *_, **__: None):
        with pytest.raises(ValueError, match="not finite"):
            export("base", tmp_path, tmp_path / "out", load_model=lambda *_, **__: toy_model(), save_model=written)
    assert not (tmp_path / "out").exists()


def test_a_weight_that_float32_cannot_hold_is_found_on_load(tmp_path):
    stored(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file({key: weight.double() * 1e300 for key, weight in load_file(file).items()}, file)
    with pytest.raises(ValueError, match="values that are not finite"):
        load_adapter(toy_model(), tmp_path)


def test_weights_of_an_integer_type_are_refused(tmp_path):
    stored(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file({key: weight.to(torch.int8) for key, weight in load_file(file).items()}, file)
    with pytest.raises(ValueError, match="stored as int8"):
        load_adapter(toy_model(), tmp_path)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    stored(tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(file.read_text().rstrip().removesuffix("}") + ', "lora_alpha": 64}')
    with pytest.raises(ValueError, match="a key stands twice among .*lora_alpha"):
        load_adapter(toy_model(), tmp_path)


PARTS = ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj")
NAMES = [f"model.layers.{i}.{part}" for i in (0, 1, 11) for part in PARTS]


@pytest.mark.parametrize(("targets", "expected"), [
    (["q_proj"], [NAMES[0], NAMES[3], NAMES[6]]),
    (["self_attn.q_proj"], [NAMES[0], NAMES[3], NAMES[6]]),
    (["model.layers.1.self_attn.q_proj"], [NAMES[3]]),
    (["1.self_attn.q_proj"], [NAMES[3]]),                    # a whole part between dots, so not layer 11's
    (["layers.11.mlp.up_proj", "k_proj"], [NAMES[1], NAMES[4], NAMES[7], NAMES[8]]),
    (["proj"], []), (["attn.q_proj"], []), (["self_attn"], []), (["model.layers.0"], []),
])
def test_targets_match_whole_names_and_their_ends_at_a_dot(targets, expected):
    assert adapted(NAMES, targets) == expected


@pytest.mark.parametrize("targets", [
    [f"model.layers.{i}.self_attn.q_proj" for i in range(3)], ["model.layers.2.mlp.down_proj"],
    ["layers.0.self_attn.o_proj", "up_proj"], ["self_attn.v_proj", "mlp.gate_proj"]])
def test_an_adapter_of_some_layers_survives_being_saved_and_loaded(targets, tmp_path):
    model = stored(tmp_path, targets=targets)
    assert set(lora_layers(model)) == set(adapted(dict(toy_model().named_modules()), targets))
    again = loaded(tmp_path)
    assert set(lora_layers(again)) == set(lora_layers(model))
    assert torch.equal(again(IDS), model(IDS))
    load_adapter(again, tmp_path)                            # onto the adapter that is there


def test_targets_that_match_nothing_are_no_reason_to_refuse_a_whole_adapter(tmp_path):
    model = stored(tmp_path, target_modules=["q_proj", "down_proj", "c_attn", "query_key_value"])
    assert torch.equal(loaded(tmp_path)(IDS), model(IDS))


def test_an_adapter_of_other_layers_is_not_put_on_the_one_that_is_there(tmp_path):
    stored(tmp_path, targets=["q_proj"])
    model = toy_model()
    apply_lora(model, 4, 8, targets=("k_proj",))
    with pytest.raises(ValueError, match="not the same ones"):
        load_adapter(model, tmp_path)


def test_a_folder_of_the_hubs_cache_names_its_snapshot(tmp_path):
    stored(tmp_path / "models--a--b" / "snapshots" / "0123abcd")
    with pytest.raises(FileNotFoundError, match="hub's cache, give .*0123abcd"):
        load_adapter(toy_model(), tmp_path / "models--a--b")
    for step in range(100, 600, 100):                       # as trainers leave them
        stored(tmp_path / "trained" / f"checkpoint-{step}")
    with pytest.raises(FileNotFoundError, match=r"give .*checkpoint-100 or .*checkpoint-300 \(5 in all\)"):
        load_adapter(toy_model(), tmp_path / "trained")
