"""A GGUF file, as llama.cpp and Ollama use, turned into a Hugging Face folder: weights, config and tokenizer.

The file's reading and the arithmetic of its quantisations are those of ggml-org's `gguf` package, which only this
module imports (requirements-gguf.txt). What is ours is what the formats say differently: names, the order of the rows
of q_proj and k_proj, the rotary scaling, and the tokenizer, which a GGUF file holds as lists.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor

from model.config import ModelConfig
from model.transformer import Transformer, rope_frequencies
from model.weights import save_model, set_parameter

if TYPE_CHECKING:
    from gguf import GGUFReader

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
OUTSIDE_LAYERS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
INSIDE_LAYERS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
                 "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
                 "attn_output": "self_attn.o_proj",
                 "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
ROPE_FACTORS = "rope_freqs.weight"
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5                     # token types other than text

# How text is cut before merges, by the name that llama.cpp gives it; the patterns are those of the models' own
# tokenizers.
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + _LETTERS + r"\p{N}" + _REST
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + _LETTERS + r"\p{N}{1,3}" + _REST


def _split_then_bytes(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _digits_then_bytes() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])


@dataclass(frozen=True)
class Cut:
    """How a byte-level BPE prepares text: its pre-tokenizer, whether NFC comes first, whether whole words skip
    merging.
    """

    pre_tokenizer: Callable[[], pre_tokenizers.PreTokenizer]
    nfc: bool = False
    ignore_merges: bool = False


CUTS = {"smollm": Cut(_digits_then_bytes), "qwen2": Cut(lambda: _split_then_bytes(QWEN2), nfc=True),
        "llama-bpe": Cut(lambda: _split_then_bytes(LLAMA3), ignore_merges=True)}


def import_gguf(file: str | Path, out: str | Path, dtype: torch.dtype = torch.bfloat16) -> ModelConfig:
    """Write the model in `file` to the folder `out` as Hugging Face lays it out; returns its config.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the `gguf` package is not installed; no GGUF file, a truncated one, or an architecture,
            quantisation or tokenizer that is not supported.
    """
    file, out = Path(file), Path(out)
    reader = _read(file)
    try:
        fields = {name: field.contents() for name, field in reader.fields.items()}
        raw = config_of(fields, {tensor.name for tensor in reader.tensors})
        tokenizer = tokenizer_of(fields)
        raw |= _rope_scaling(reader, raw)
        config = ModelConfig.from_dict(raw)
        model = _filled(reader, config, dtype)
    except (ValueError, KeyError) as error:
        told = f"it does not say {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{file}: {told}") from error
    save_model(model, out)
    _write_companions(out, fields, raw, tokenizer)
    return config


def _read(file: Path) -> "GGUFReader":
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; expected a GGUF file")
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError as error:
        raise ValueError("reading GGUF needs the `gguf` package, for this command only: "
                         "pip install -r requirements-gguf.txt") from error
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ValueError(f"{file}: not a GGUF file (it does not begin with GGUF)")
    try:
        return GGUFReader(file)
    # as the package raises them on damaged files
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        told = " ".join(str(error).split())[:160]
        if "GGMLQuantizationType" in told:
            raise ValueError(
                f"{file}: a quantisation that this version of the gguf package does not know ({told})"
            ) from error
        raise ValueError(f"{file}: truncated or damaged ({told}); copy it again") from error


def config_of(fields: dict[str, Any], tensors: set[str]) -> dict[str, Any]:
    """What config.json says, from the file's fields; ValueError for an architecture that is not supported."""
    kind = fields["general.architecture"]
    if kind not in ARCHITECTURES:
        raise ValueError(f"the architecture {kind!r} is not supported; supported: {', '.join(ARCHITECTURES)}")
    scaling = fields.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none":
        raise ValueError(f"rotary scaling of type {scaling!r} is not supported")
    heads, hidden = fields[f"{kind}.attention.head_count"], fields[f"{kind}.embedding_length"]
    if not isinstance(heads, int):
        raise ValueError("layers with different numbers of heads are not supported")
    raw = {
        "architectures": [ARCHITECTURES[kind]],
        "model_type": kind,
        "hidden_act": "silu",
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": hidden,
        "intermediate_size": fields[f"{kind}.feed_forward_length"],
        "num_hidden_layers": fields[f"{kind}.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get(f"{kind}.attention.head_count_kv", heads),
        "head_dim": fields.get(f"{kind}.attention.key_length", hidden // heads),
        "max_position_embeddings": fields[f"{kind}.context_length"],
        "rms_norm_eps": _short_float(fields[f"{kind}.attention.layer_norm_rms_epsilon"]),
        "rope_theta": _short_float(fields.get(f"{kind}.rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": _ends(fields),
    }
    if kind == "llama":
        raw |= {"attention_bias": "blk.0.attn_q.bias" in tensors, "mlp_bias": "blk.0.ffn_up.bias" in tensors}
    else:
        raw |= {"use_sliding_window": False}
    return raw


def _short_float(value: float) -> float:
    """The shortest decimal that a float32 stands for: 9.999999974752427e-07 was 1e-06."""
    return float(str(np.float32(value)))


def _ends(fields: dict[str, Any]) -> int | list[int] | None:
    """The ids that end a turn: the end of text and, where it is told apart, the end of a turn."""
    ids = [fields[key] for key in ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id") if key in fields]
    ids = list(dict.fromkeys(ids))
    return ids if len(ids) > 1 else ids[0] if ids else None


def _rope_scaling(reader: "GGUFReader", raw: dict[str, Any]) -> dict[str, Any]:
    """Llama 3.1's rotary scaling, which a GGUF file holds as one divisor a frequency; refused unless it is just
    that.
    """
    divisors = next(
        (np.array(tensor.data, dtype=np.float32) for tensor in reader.tensors if tensor.name == ROPE_FACTORS), None
    )
    if divisors is None:
        return {}
    told = {"rope_scaling": {**LLAMA3_ROPE, "factor": float(divisors.max())}}
    device = torch.device("cpu")
    plain = rope_frequencies(ModelConfig.from_dict(raw), device)
    scaled = rope_frequencies(ModelConfig.from_dict(raw | told), device)
    if divisors.shape != plain.shape or not np.allclose(divisors, (plain / scaled).numpy(), rtol=1e-3):
        raise ValueError(f"{ROPE_FACTORS} holds another rotary scaling than Llama 3.1's, which is not supported")
    return told


def _filled(reader: "GGUFReader", config: ModelConfig, dtype: torch.dtype) -> Transformer:
    """The model with the file's weights, a tensor at a time."""
    with torch.device("meta"):
        model = Transformer(config)
    missing = {name for name, _ in model.named_parameters()}
    for tensor in reader.tensors:
        if tensor.name == ROPE_FACTORS:
            continue
        name = hugging_face_name(tensor.name)
        if name not in missing:
            raise ValueError(f"the tensor {tensor.name} has no place in {config.model_type}'s architecture")
        weight = torch.from_numpy(dequantised(tensor))
        if config.model_type == "llama" and ".attn_q." in tensor.name:
            weight = unpermuted(weight, config.num_attention_heads)
        if config.model_type == "llama" and ".attn_k." in tensor.name:
            weight = unpermuted(weight, config.num_key_value_heads)
        wanted = model.get_parameter(name).shape
        if weight.shape != wanted:
            raise ValueError(f"the tensor {tensor.name} has shape {list(weight.shape)}; expected {list(wanted)}")
        set_parameter(model, name, weight.to(dtype))
        missing.remove(name)
    if missing:
        raise ValueError(f"{len(missing)} tensors are missing, among them {min(missing)}")
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


def dequantised(tensor: Any) -> np.ndarray:
    """A tensor of the file in float32, (rows, columns) or (entries,); every arithmetic is the `gguf` package's."""
    from gguf.quants import dequantize

    try:
        return np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    except NotImplementedError as error:
        raise ValueError(f"the tensor {tensor.name} is quantised as {tensor.tensor_type.name}, which the gguf package "
                         "cannot turn back") from error


def hugging_face_name(name: str) -> str:
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight; a name that is not known stays as it is."""
    stem, _, leaf = name.rpartition(".")
    if stem in OUTSIDE_LAYERS:
        return f"{OUTSIDE_LAYERS[stem]}.{leaf}"
    block, _, part = stem.removeprefix("blk.").partition(".")
    return f"model.layers.{block}.{INSIDE_LAYERS[part]}.{leaf}" if part in INSIDE_LAYERS else name


def unpermuted(weight: Tensor, heads: int) -> Tensor:
    """Rows (or entries) of q or k as Hugging Face orders them: each head's pairs (i, i + D/2), which GGUF puts side
    by side.
    """
    return weight.view(heads, -1, 2, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def tokenizer_of(fields: dict[str, Any]) -> FastTokenizer:
    """The byte-level BPE that the file's lists describe; another kind of tokenizer is refused by name."""
    kind, cut = fields["tokenizer.ggml.model"], fields.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or cut not in CUTS:
        raise ValueError(f"a tokenizer of kind {kind!r} that cuts text as {cut!r} is not supported; "
                         f"supported: 'gpt2' with {', '.join(CUTS)}. Take the model's own Hugging Face folder")
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    last_text = max(i for i, type_ in enumerate(types) if type_ not in (CONTROL, USER_DEFINED, UNUSED))
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"]]
    how = CUTS[cut]
    tokenizer = FastTokenizer(models.BPE({token: i for i, token in enumerate(tokens[:last_text + 1])}, merges,
                                         ignore_merges=how.ignore_merges))
    tokenizer.normalizer = normalizers.NFC() if how.nfc else None
    tokenizer.pre_tokenizer = how.pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    for i, (token, type_) in enumerate(zip(tokens, types, strict=True)):
        if type_ in (CONTROL, USER_DEFINED):
            tokenizer.add_tokens([AddedToken(token, special=type_ == CONTROL, normalized=False)])
            if tokenizer.token_to_id(token) != i:
                raise ValueError(f"the control token {token!r} has id {i}, with unused ids before it: not supported")
    return tokenizer


def _write_companions(out: Path, fields: dict[str, Any], raw: dict[str, Any], tokenizer: FastTokenizer) -> None:
    """The tokenizer's files, and the ids that begin and end a text, in both files where readers look for them."""
    ids = {name: raw[name] for name in ("bos_token_id", "eos_token_id") if raw[name] is not None}
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    tokens = fields["tokenizer.ggml.tokens"]
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
                                "model_max_length": fields[f"{fields['general.architecture']}.context_length"]}
    for name in ("bos", "eos", "unknown", "padding"):
        token_id = fields.get(f"tokenizer.ggml.{name}_token_id")
        if token_id is not None:
            settings[{"unknown": "unk", "padding": "pad"}.get(name, name) + "_token"] = tokens[token_id]
    if "tokenizer.chat_template" in fields:
        settings["chat_template"] = fields["tokenizer.chat_template"]
    (out / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    for name, content in (("config", config | ids), ("generation_config", ids), ("tokenizer_config", settings)):
        (out / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
