"""The shape of a checkpoint, read from its config.json: Llama 3, Qwen2.5 and Mistral, in both Hugging Face spellings.

Whatever would change the numbers and is not computed here (another architecture, activation or kind of RoPE) is
refused by name. Keys that do not touch the forward pass are ignored.
"""

import json
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "MistralForCausalLM": "mistral"}
ACTIVATIONS = ("silu",)
ROPE_TYPES = ("default", "llama3")
# what sibling architectures multiply, cap or norm, and the value with which that does nothing; none of it is done here
NEUTRAL = {
    "quantization_config": None, "attention_dropout": 0, "partial_rotary_factor": 1,
    "attn_logit_softcapping": 0, "final_logit_softcapping": 0, "logit_scale": 1, "logits_scaling": 1,
    "embedding_multiplier": 1, "residual_multiplier": 1, "attention_multiplier": None, "scale_emb": 1,
    "query_pre_attn_scalar": None, "use_qk_norm": False, "qk_norm": False, "num_local_experts": 0, "num_experts": 0,
    "is_causal": True, "use_bidirectional_attention": False,     # a model of embeddings
}
NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
MAX_LAYERS, MAX_SIZE = 1024, 2**24                  # a config is outside data: bounds before anything is built from it
MAX_JSON_BYTES = 4_000_000                         # config, index, headers: several times what MAX_LAYERS layers need


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3.1's stretched RoPE frequencies (`rope_type` "llama3"); the formula is in transformer.rope_frequencies."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True)
class ModelConfig:
    """One decoder-only transformer, in the field names of Hugging Face's config.json.

    The families differ here and nowhere else: Qwen2.5 has `qkv_bias`, Llama 3.1 has `rope_scaling`, small models tie
    their embeddings, Mistral v0.1 and Qwen2 may attend through a window.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    model_type: str = "llama"                      # llama, qwen2 or mistral
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    qkv_bias: bool = False                         # Qwen2: always, though no key of its config says so
    o_proj_bias: bool = False                      # Llama with `attention_bias`
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    sliding_window: int | None = None              # None also where a config sets it and then switches it off
    first_window_layer: int = 0                    # layers before this one attend to everything (Qwen2)

    def __post_init__(self) -> None:
        for name in (*NEEDED, "num_key_value_heads", "head_dim", "max_position_embeddings"):
            _check_positive_int(name, getattr(self, name))
        sizes = {"vocab_size": self.vocab_size, "hidden_size": self.hidden_size,
                 "intermediate_size": self.intermediate_size,
                 "num_attention_heads * head_dim": self.num_attention_heads * self.head_dim}
        for name, size in sizes.items():
            if size > MAX_SIZE:
                raise ValueError(f"{name} is {size}, more than the {MAX_SIZE} allowed here")
        if self.num_hidden_layers > MAX_LAYERS:
            raise ValueError(f"num_hidden_layers is {self.num_hidden_layers}, more than the {MAX_LAYERS} allowed here")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                             f"num_key_value_heads {self.num_key_value_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}, but rotary positions need an even number")
        for name in ("rms_norm_eps", "rope_theta"):
            _check_positive_number(name, getattr(self, name))
        if self.sliding_window is not None:
            _check_positive_int("sliding_window", self.sliding_window)

    def window(self, layer: int) -> int | None:
        """How many positions, itself included, a token of this layer may attend to; None for all before it."""
        return self.sliding_window if layer >= self.first_window_layer else None

    @classmethod
    def load(cls, path: str | Path) -> "ModelConfig":
        """Read `path`/config.json (or the file itself).

        Raises:
            FileNotFoundError: there is no config.json.
            ValueError: it is not JSON, lacks a key, or describes a model that is not supported, which is named.
        """
        file = Path(path)
        file = file / "config.json" if file.is_dir() else file
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; a model folder holds config.json, weights and a tokenizer"
                                    f"{found_below(file.parent)}")
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"{file}: {file.stat().st_size} bytes, but a config.json is a few thousand; give the "
                             "model's folder")
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
            return cls.from_dict(raw)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: {error}") from error

    @classmethod
    def from_dict(cls, raw: dict) -> "ModelConfig":
        """Build from the object in a config.json; ValueError names what is missing or not supported."""
        if not isinstance(raw, dict):
            raise ValueError(f"expected a JSON object, found {type(raw).__name__}")
        family = _family(raw)
        _refuse_unsupported(raw)
        for key in NEEDED:
            _check_positive_int(key, raw.get(key))
        rope_theta, rope_scaling = _rope(raw)
        window, first_window_layer = _window(raw, family)
        llama_bias = family == "llama" and _flag(raw, "attention_bias")
        return cls(
            **{key: raw[key] for key in NEEDED},
            num_key_value_heads=_key_value_heads(raw, family),
            head_dim=_head_dim(raw),
            model_type=family,
            max_position_embeddings=raw.get("max_position_embeddings", 2048),
            rms_norm_eps=raw.get("rms_norm_eps", 1e-6),
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
            qkv_bias=family == "qwen2" or llama_bias,
            o_proj_bias=llama_bias,
            mlp_bias=family == "llama" and _flag(raw, "mlp_bias"),
            tie_word_embeddings=_flag(raw, "tie_word_embeddings"),
            sliding_window=window,
            first_window_layer=first_window_layer,
        )

    def to_dict(self, dtype: str = "float32") -> dict:
        """The config.json that describes this model to Hugging Face's library and to `from_dict`."""
        raw = {
            "architectures": [name for name, family in ARCHITECTURES.items() if family == self.model_type],
            "model_type": self.model_type,
            **{key: getattr(self, key) for key in (*NEEDED, "num_key_value_heads", "head_dim")},
            "hidden_act": "silu",
            **{key: getattr(self, key) for key in ("max_position_embeddings", "rms_norm_eps", "rope_theta",
                                                   "tie_word_embeddings")},
            "torch_dtype": dtype,
        }
        if self.rope_scaling is not None:
            raw["rope_scaling"] = {**vars(self.rope_scaling), "rope_type": "llama3"}
        if self.model_type == "llama":
            raw |= {"attention_bias": self.qkv_bias, "mlp_bias": self.mlp_bias}
        if self.model_type == "mistral":
            raw["sliding_window"] = self.sliding_window
        if self.model_type == "qwen2":
            raw |= {"use_sliding_window": self.sliding_window is not None, "sliding_window": self.sliding_window,
                    "max_window_layers": self.first_window_layer}
        return raw


def found_below(folder: Path, most: int = 3) -> str:
    """The end of an error for a folder without a model: an adapter is one, or folders inside it, as in the hub's cache.
    """
    if (folder / "adapter_config.json").is_file():
        return "; this is an adapter: give it as --adapter, and the model that it was trained on as --model"
    inside = [file.parent for pattern in ("*", "snapshots/*", "models--*/snapshots/*")
              for file in sorted(folder.glob(f"{pattern}/config.json"))]
    if not inside:
        return ""
    reference = folder / "refs" / "main"
    main = folder / "snapshots" / reference.read_text().strip() if reference.is_file() else None
    inside.sort(key=lambda one: one != main)
    more = f" and {len(inside) - most} more" if len(inside) > most else ""
    kind = "the root of a folder of the hub's cache, whose snapshots" if (folder / "snapshots").is_dir() else \
        "a folder of folders, which"
    return f"; this is {kind} hold models: give {' or '.join(str(one) for one in inside[:most])}{more}"


def _family(raw: dict) -> str:
    """llama, qwen2 or mistral, from `architectures`, from `model_type`, or from both if they agree."""
    names, model_type = raw.get("architectures") or [], raw.get("model_type")
    names = names if isinstance(names, list) else [names]
    claims = [ARCHITECTURES.get(name) if isinstance(name, str) else None for name in names]
    claims += [] if model_type is None else [model_type]
    if not claims or any(claim not in ARCHITECTURES.values() or claim != claims[0] for claim in claims):
        raise ValueError(f"architectures {names!r} with model_type {model_type!r} is not supported; "
                         f"supported: {', '.join(ARCHITECTURES)}")
    return claims[0]


def _refuse_unsupported(raw: dict) -> None:
    activation = raw.get("hidden_act", "silu")
    if activation not in ACTIVATIONS:
        raise ValueError(f"hidden_act {activation!r} is not supported; supported: {', '.join(ACTIVATIONS)}")
    for key, neutral in NEUTRAL.items():
        if raw.get(key) not in (None, neutral):
            raise ValueError(f"{key} {raw[key]!r} is not supported; use a checkpoint without it")


def _head_dim(raw: dict) -> int:
    if raw.get("head_dim") is not None:
        return raw["head_dim"]
    if raw["hidden_size"] % raw["num_attention_heads"]:
        raise ValueError(f"no head_dim, and hidden_size {raw['hidden_size']} is not a multiple of "
                         f"num_attention_heads {raw['num_attention_heads']}")
    return raw["hidden_size"] // raw["num_attention_heads"]


def _key_value_heads(raw: dict, family: str) -> int:
    if raw.get("num_key_value_heads") is not None:
        return raw["num_key_value_heads"]
    if family != "llama":                          # Hugging Face's own defaults differ by family: do not guess
        raise ValueError(f"num_key_value_heads is missing, and {family} has no safe default")
    return raw["num_attention_heads"]


def _rope(raw: dict) -> tuple[float, RopeScaling | None]:
    """RoPE base and scaling, from `rope_theta` + `rope_scaling` or from the newer `rope_parameters`.

    Where a config has both spellings and they differ, the reference's own versions differ in which one they follow.
    """
    found = [_rope_of(raw[key], raw.get("rope_theta")) for key in ("rope_parameters", "rope_scaling") if raw.get(key)]
    found = found or [_rope_of({}, raw.get("rope_theta"))]
    if found[0] != found[-1]:
        raise ValueError(f"rope_parameters {raw['rope_parameters']!r} and rope_scaling {raw['rope_scaling']!r} "
                         "disagree; keep the right one")
    scaling, outer = found[0][1], raw.get("original_max_position_embeddings")
    if scaling and outer not in (None, scaling.original_max_position_embeddings):
        raise ValueError(f"original_max_position_embeddings is {outer!r}, but "
                         f"{scaling.original_max_position_embeddings!r} inside the RoPE settings; keep the right one")
    return found[0]


def _rope_of(rope: dict, outer_theta: float | None) -> tuple[float, RopeScaling | None]:
    if not isinstance(rope, dict):
        raise ValueError(f"rope_parameters / rope_scaling must be an object, found {rope!r}")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if rope.get("type") not in (None, kind):       # older versions of the reference read `type`, newer ones `rope_type`
        raise ValueError(f"rope_type is {kind!r}, but type {rope['type']!r}; keep the right one")
    if rope.get("factor") not in (None, 1) and "rope_type" not in rope and "type" not in rope:
        raise ValueError(f"RoPE settings {rope!r} have a factor and no rope_type; say which kind it is of")
    if kind not in ROPE_TYPES or any(isinstance(value, dict) for value in rope.values()):
        raise ValueError(f"rope type {kind!r} with {rope!r} is not supported; supported: {', '.join(ROPE_TYPES)}")
    if rope.get("partial_rotary_factor") not in (None, 1):
        raise ValueError(f"partial_rotary_factor {rope['partial_rotary_factor']!r} is not supported; it must be 1")
    theta = outer_theta if rope.get("rope_theta") is None else rope["rope_theta"]
    if outer_theta not in (None, theta):
        raise ValueError(f"rope_theta is {outer_theta!r}, but {theta!r} inside the RoPE settings; keep the right one")
    theta = 10000.0 if theta is None else theta
    if kind == "default":
        return theta, None
    fields = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    for field in fields:
        _check_positive_number(f"rope {field}", rope.get(field))
    if rope["high_freq_factor"] <= rope["low_freq_factor"]:
        raise ValueError(f"rope high_freq_factor must be above low_freq_factor, found {rope!r}")
    return theta, RopeScaling(**{field: rope[field] for field in fields})


def _window(raw: dict, family: str) -> tuple[int | None, int]:
    """Window size, and the first layer that has it. Qwen2 sets `sliding_window` and then switches it off."""
    layers = raw["num_hidden_layers"]
    if family == "llama":
        return None, 0
    window = raw.get("sliding_window", 4096)       # absent means 4096, as in the reference; Mistral v0.3 says null
    if family == "mistral":
        return window, 0
    kinds = raw.get("layer_types")
    if not _flag(raw, "use_sliding_window") or window is None:
        return None, 0
    if kinds is None:
        first = raw.get("max_window_layers", 28)
        if isinstance(first, bool) or not isinstance(first, int) or first < 0:
            raise ValueError(f"max_window_layers must be 0 or more, found {first!r}")
        return window, first
    first = kinds.count("full_attention") if isinstance(kinds, list) else 0
    if kinds != ["full_attention"] * first + ["sliding_attention"] * (layers - first):
        raise ValueError(f"layer_types {kinds!r} is not supported: only full attention first, then sliding attention")
    return window, first


def _flag(raw: dict, key: str) -> bool:
    value = raw.get(key)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false, found {value!r}")
    return bool(value)


def _check_positive_int(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise ValueError(f"{name} must be a positive integer, found {value!r}")


def _check_positive_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 2**63:
        raise ValueError(f"{name} must be a positive number below 2**63, found {value!r}")
