"""Checkpoint folders: what is written is read back, and what is damaged, foreign or hostile is refused by name."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.config import ModelConfig
from model.transformer import Transformer
from model.weights import load_model, read_header, save_model
from tests.model_tiny import CONFIGS, LLAMA, QWEN, tiny_model, token_ids

SHARD_GB = 100e-6                                   # shards of 100 kB: a tiny model makes several


def saved(path: Path, name: str = "qwen2.5-untied", shard_gb: float = 5.0) -> Path:
    save_model(tiny_model(CONFIGS[name]), path, shard_gb=shard_gb)
    return path


def rewrite(file: Path, change) -> None:
    state = load_file(file)
    change(state)
    save_file(state, file)


@pytest.mark.parametrize("shard_gb", [5.0, SHARD_GB])
@pytest.mark.parametrize("name", CONFIGS)
def test_saved_and_loaded_is_the_same_model(tmp_path, name, shard_gb):
    model = tiny_model(CONFIGS[name])
    again = load_model(saved(tmp_path, name, shard_gb))
    assert again.config == model.config and not again.training
    for (key, weight), (other_key, other) in zip(model.state_dict().items(), again.state_dict().items()):
        assert key == other_key and torch.equal(weight, other)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == model.config.tie_word_embeddings
    assert len(list(tmp_path.glob("*.safetensors"))) == (1 if shard_gb > 1 else len(set(json.loads(
        (tmp_path / "model.safetensors.index.json").read_text())["weight_map"].values())))
    assert not list(tmp_path.glob(".*"))


def test_saving_over_shards_leaves_no_old_file(tmp_path):
    saved(saved(tmp_path, shard_gb=SHARD_GB))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    saved(tmp_path, shard_gb=SHARD_GB)
    assert not (tmp_path / "model.safetensors").exists()
    load_model(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_target_type_from_every_stored_one(tmp_path, dtype):
    for stored in (torch.float32, torch.bfloat16, torch.float16):
        model = tiny_model(CONFIGS["llama-3.2"]).to(stored)
        save_model(model, tmp_path)
        again = load_model(tmp_path, dtype=dtype)
        for weight, other in zip(model.parameters(), again.parameters()):
            assert other.dtype == dtype and torch.equal(weight.to(dtype), other)


def test_the_loaded_weights_do_not_depend_on_the_files(tmp_path):
    model = load_model(saved(tmp_path))
    before = model(token_ids(1, 8))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert torch.equal(before, model(token_ids(1, 8)))


def test_a_tied_checkpoint_may_hold_the_embedding_twice(tmp_path):
    model, file = tiny_model(CONFIGS["qwen2.5-tied"]), saved(tmp_path, "qwen2.5-tied") / "model.safetensors"
    rewrite(file, lambda state: state.update({"lm_head.weight": state["model.embed_tokens.weight"].clone()}))
    again = load_model(tmp_path)
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert torch.equal(model(token_ids(1, 8)), again(token_ids(1, 8)))
    for other in (model.lm_head.weight.detach() + 1, model.lm_head.weight.detach().bfloat16()):
        rewrite(file, lambda state, other=other: state.update({"lm_head.weight": other}))
        with pytest.raises(ValueError, match="lm_head.weight, which is not model.embed_tokens.weight.*set that to "
                                             "false"):
            load_model(tmp_path)


def test_what_the_library_refuses_is_refused_by_folder(tmp_path):
    file = saved(tmp_path) / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:8 + length]) | {"__metadata__": {"note": "\ud800"}}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length:])
    with pytest.raises(ValueError, match=f"{tmp_path}.*damaged"):
        load_model(tmp_path)


def test_saved_files_have_the_usual_mode_and_others_are_let_be(tmp_path):
    for name in ("model_of_mine.safetensors", "model-00009-of-00009.safetensors"):
        (tmp_path / name).touch()
    modes = {file.name: file.stat().st_mode for file in saved(tmp_path).iterdir()}
    assert modes.keys() == {"config.json", "model.safetensors", "model_of_mine.safetensors"}
    assert len(set(modes.values())) == 1


def test_values_too_large_for_float16_are_reported_by_tensor(tmp_path):
    model = tiny_model(CONFIGS["qwen2.5-untied"])
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = -1e5
    model.model.layers[2].self_attn.q_proj.bias.data[0] = 65520.0
    model.model.norm.weight.data[0] = 65280.0               # the largest bfloat16 that fits
    save_model(model.to(torch.bfloat16), tmp_path)
    load_model(tmp_path, dtype=torch.bfloat16)
    named = "2 tensors.*layers.1.mlp.up_proj.weight.*layers.2.self_attn.q_proj.bias"
    with pytest.raises(ValueError, match=named) as caught:
        load_model(tmp_path, dtype=torch.float16)
    assert "norm" not in str(caught.value)


def test_values_too_large_for_bfloat16_are_reported_too(tmp_path):
    model = tiny_model(CONFIGS["qwen2.5-untied"])
    model.model.norm.weight.data[0] = torch.finfo(torch.float32).max
    save_model(model, tmp_path)
    load_model(tmp_path)
    with pytest.raises(ValueError, match="do not fit into bfloat16: model.norm.weight .*; load in float32"):
        load_model(tmp_path, dtype=torch.bfloat16)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_not_finite_are_found_on_load(value, dtype, tmp_path):
    model = tiny_model(CONFIGS["qwen2.5-untied"])
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = value
    model.model.layers[2].self_attn.q_proj.bias.data[0] = value
    save_model(model, tmp_path)
    with pytest.raises(ValueError, match="2 tensors hold values that are not finite.*up_proj.weight.*q_proj.bias"):
        load_model(tmp_path, dtype=dtype)


def test_every_mismatch_is_listed(tmp_path):
    saved(tmp_path)

    def change(state):
        state["model.norm.extra"] = torch.ones(1)
        state["model.norm.weight"] = torch.ones(63)
        del state["model.layers.0.self_attn.q_proj.bias"], state["lm_head.weight"]

    rewrite(tmp_path / "model.safetensors", change)
    with pytest.raises(ValueError) as caught:
        load_model(tmp_path)
    for words in ("missing (2)", "layers.0.self_attn.q_proj.bias", "lm_head.weight", "left over (1): model.norm.extra",
                  "wrong shape (1): model.norm.weight [63], expected [64]"):
        assert words in str(caught.value)


@pytest.mark.parametrize("changes", [
    {"hidden_size": 128}, {"num_hidden_layers": 2}, {"vocab_size": 97}, {"tie_word_embeddings": True}, {"head_dim": 8},
    {"num_key_value_heads": 1}, {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}])
def test_a_config_that_disagrees_with_the_weights_is_refused(tmp_path, changes):
    saved(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | changes))
    with pytest.raises(ValueError, match="disagree.*(missing|left over|wrong shape)"):
        load_model(tmp_path)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/model.safetensors", "sub/model.safetensors", "..",
                                   "sub\\model.safetensors", "model.bin", "", 7, "a\0.safetensors", ".safetensors"])
def test_an_index_that_points_elsewhere_is_refused(tmp_path, shard):
    saved(tmp_path / "inside", shard_gb=SHARD_GB)
    saved(tmp_path)
    index = tmp_path / "inside" / "model.safetensors.index.json"
    raw = json.loads(index.read_text())
    raw["weight_map"]["model.norm.weight"] = shard
    index.write_text(json.dumps(raw))
    with pytest.raises(ValueError, match="model.norm.weight is said to be in .*plain"):
        load_model(tmp_path / "inside")


def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path):
    saved(tmp_path, shard_gb=SHARD_GB)
    index = tmp_path / "model.safetensors.index.json"
    raw = json.loads(index.read_text())
    shards = sorted(set(raw["weight_map"].values()))
    raw["weight_map"]["model.norm.weight"] = next(s for s in shards if s != raw["weight_map"]["model.norm.weight"])
    index.write_text(json.dumps(raw))
    with pytest.raises(ValueError, match="disagree.*index only.*model.norm.weight.*shards only.*model.norm.weight"):
        load_model(tmp_path)
    (tmp_path / shards[0]).unlink()
    with pytest.raises(FileNotFoundError, match="incomplete"):
        load_model(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": []}', '{"weight_map": {}}', "{}"])
def test_an_index_without_a_map_is_refused(tmp_path, text):
    saved(tmp_path, shard_gb=SHARD_GB)
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match="index"):
        load_model(tmp_path)


def test_a_folder_without_safetensors_is_refused(tmp_path):
    saved(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="only safetensors"):
        load_model(tmp_path)


@pytest.mark.parametrize("cut", [0, 4, 8, 100, -1, -1000])
def test_a_truncated_file_is_refused(tmp_path, cut):
    file = saved(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match="truncated|damaged"):
        load_model(tmp_path)


def test_trailing_bytes_are_refused(tmp_path):
    file = saved(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="damaged"):
        load_model(tmp_path)


def entry(**changes) -> dict:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


@pytest.mark.parametrize(("header", "words"), [
    (b"{", "not JSON"), (b"[]", "not an object"), (b"[" * 100_000, "not JSON"), (b"\xff\xfe", "not JSON"),
    ({"a": entry(dtype="I64")}, "a has dtype 'I64'"), ({"a": entry(dtype="F8_E4M3")}, "F8_E4M3"),
    ({"a": entry(dtype=["F32"])}, "dtype"), ({"a": entry(shape=[-1])}, "malformed"),
    ({"a": entry(shape=[1.0])}, "malformed"),
    ({"a": entry(shape=[2] * 9)}, "malformed"), ({"a": entry(data_offsets=[0])}, "malformed"), ({"a": 3}, "malformed"),
    ({"a": entry(data_offsets=[8, 0])}, "damaged"), ({"a": entry(shape=[3])}, "should take 12 bytes"),
    ({"a": entry(data_offsets=[4, 12])}, "damaged"), ({"a": entry(), "b": entry()}, "damaged"),
    ({"a": entry(shape=[2**47, 2**47])}, "should take"), ({}, "where its header says 0"),
    ({"a": entry(), "b": entry(data_offsets=[8, 16])}, "truncated"),
    (b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2), "a name stands twice"),
    ({"a": entry(), "__metadata__": 5}, "__metadata__"), ({"a": entry(), "__metadata__": {"x": {}}}, "__metadata__"),
    ({"a": entry(), "__metadata__": float("nan")}, "NaN"), ({"\ud800": entry()}, "not JSON"),
    (json.dumps({"a": entry()}).encode("utf-16"), "not JSON"),
    (b"[" + b"[]," * 1_500_000 + b"0]", "header of 4500003 bytes"),
])
def test_a_damaged_header_is_refused(tmp_path, header, words):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(ValueError, match=words):
        read_header(file)


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path):
    file = tmp_path / "model.safetensors"
    with open(file, "wb") as stream:
        stream.write(struct.pack("<Q", 2**33))
        stream.truncate(2**34)                      # sparse: takes no disk
    with pytest.raises(ValueError, match="header of 8589934592 bytes"):
        read_header(file)


PEAK_OF_REFUSAL = """
import resource, sys
root, *folders = sys.argv[1:]
sys.path.insert(0, root)
from model.weights import load_model
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for folder in folders:
    try:
        load_model(folder)
    except ValueError as error:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
assert "torch._dynamo" not in sys.modules, "to load a model, PyTorch's compiler is imported, for seconds"
"""


def test_a_mismatch_is_refused_before_large_memory_is_taken(tmp_path):
    """A sparse file of 40 GB, right in itself, under the config of another model: under 60 MB to say no."""
    others = {"wrong shape": LLAMA | {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80},
              "missing": QWEN | {"num_hidden_layers": 1000, "hidden_size": 65536}}
    for words, raw in others.items():
        large_folder(tmp_path / words, raw)
    root, folders = str(Path(__file__).parents[1]), [str(tmp_path / words) for words in others]
    command = [sys.executable, "-c", PEAK_OF_REFUSAL, root, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for words, line in zip(others, done.stdout.splitlines(), strict=True):
        kilobytes, message = line.split(" ", 1)
        assert words in message and int(kilobytes) < 60_000


def large_folder(folder: Path, raw: dict) -> None:
    """A checkpoint that is large by its header and takes no disk."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(raw))
    rows = 5 * 10**9
    header = json.dumps({"model.embed_tokens.weight": {
        "dtype": "F32", "shape": [rows, 2], "data_offsets": [0, rows * 8]}}).encode()
    with open(folder / "model.safetensors", "wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + rows * 8)


def test_a_model_with_adapters_is_not_saved_as_a_checkpoint(tmp_path):
    model = tiny_model(CONFIGS["qwen2.5-untied"])
    model.model.layers[0].mlp.up_proj.lora_A = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="left over.*lora_A"):
        save_model(model, tmp_path)


def test_an_unknown_target_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match="torch.int8"):
        load_model(saved(tmp_path), dtype=torch.int8)


def test_fresh_weights_depend_on_the_seed_only():
    config = ModelConfig.from_dict(CONFIGS["qwen2.5-tied"])
    one, same, other = (Transformer(config).init_weights(seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters()))
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert abs(float(one.model.layers[0].mlp.up_proj.weight.detach().std()) - 0.02) < 0.002
