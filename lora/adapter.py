"""Adapters on a whole model: wrap, freeze, save, load, merge.

Files follow PEFT's layout (adapter_config.json + adapter_model.safetensors, keys base_model.model.NAME.lora_A.weight),
so PEFT reads what is written here and the other way round. Any key that does not match exactly is refused: an adapter
that loads and does nothing is the failure users meet most.
"""

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from lora.layer import LoRALinear

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")   # every linear of a block
PREFIX = "base_model.model."
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Features of PEFT's LoRA that would change the numbers, and the values that leave them off (absent: None).
PLAIN = {"bias": (None, "none"), "fan_in_fan_out": (None, False), "use_rslora": (None, False), "use_dora": (None, False),
         "modules_to_save": (None, []), "rank_pattern": (None, {}), "alpha_pattern": (None, {}), "lora_bias": (None, False),
         "layers_to_transform": (None, []), "exclude_modules": (None, []), "trainable_token_indices": (None, [])}


def apply_lora(model: nn.Module, rank: int = 16, alpha: float = 32, dropout: float = 0.0,
               targets: tuple[str, ...] = TARGETS, seed: int = 0) -> list[str]:
    """Wrap every linear whose last name is in `targets`, freeze everything else; returns the wrapped names.

    Raises:
        ValueError: a target matches no linear layer, is lm_head or the embedding, or the model carries an adapter already.
    """
    if lora_layers(model):
        raise ValueError("the model already carries an adapter; merge it first, or go on training it")
    head = sorted({"lm_head", "embed_tokens"} & set(targets))
    if head:        # often one tied weight; and the chunked loss reads lm_head's plain weight, so a delta would be lost
        raise ValueError(f"LoRA on {' and '.join(head)} is not supported; targets that are: {', '.join(TARGETS)}")
    names = [name for name, module in model.named_modules()
             if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in targets]
    missing = sorted(set(targets) - {name.rsplit(".", 1)[-1] for name in names})
    if missing:
        raise ValueError(f"LoRA targets {missing} match no linear layer of the model; targets that exist: "
                         f"{sorted({n.rsplit('.', 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)})}")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        parent, last = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        layer = LoRALinear(getattr(parent, last), rank, alpha, dropout)
        layer.reset_parameters(generator)
        setattr(parent, last, layer)
    return names


def reset_adapter(model: nn.Module, seed: int) -> None:
    """Make the adapter that the model carries a fresh one, as `apply_lora` would make it."""
    generator = torch.Generator().manual_seed(seed)
    for layer in lora_layers(model).values():
        layer.reset_parameters(generator)


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Every LoRALinear by its name in the model."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def lora_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The adapter's weights by their PEFT key, in file order."""
    found = {}
    for name, layer in lora_layers(model).items():
        found[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A.weight
        found[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B.weight
    return found


def save_adapter(model: nn.Module, path: str | Path, *, base_model: str = "") -> None:
    """Write the adapter in PEFT's layout: each file aside, flushed, renamed; the config last."""
    layers = lora_layers(model)
    if not layers:
        raise ValueError("the model carries no adapter: nothing to save")
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    first = next(iter(layers.values()))
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_model, "inference_mode": True,
        "r": first.rank, "lora_alpha": int(first.alpha) if first.alpha == int(first.alpha) else first.alpha, "lora_dropout": first.dropout, "bias": "none",
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name in layers}), "fan_in_fan_out": False,
        "init_lora_weights": True, "use_rslora": False, "use_dora": False, "modules_to_save": None,
        "rank_pattern": {}, "alpha_pattern": {}, "layers_to_transform": None, "layers_pattern": None,
    }
    tensors = {key: weight.detach().cpu().contiguous() for key, weight in lora_parameters(model).items()}
    save_file(tensors, path / (WEIGHTS + ".tmp"), metadata={"format": "pt"})
    (path / (CONFIG + ".tmp")).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copymode(path / (CONFIG + ".tmp"), path / (WEIGHTS + ".tmp"))      # safetensors writes for the owner's eyes only
    for name in (WEIGHTS, CONFIG):
        with open(path / (name + ".tmp"), "rb+") as file:
            os.fsync(file.fileno())
        os.replace(path / (name + ".tmp"), path / name)


def load_adapter(model: nn.Module, path: str | Path) -> None:
    """Put an adapter in PEFT's layout on the model (wrapping it where it carries none yet); every key must match.

    Raises:
        FileNotFoundError: a file of the adapter is missing.
        ValueError: a kind of adapter that is not plain LoRA, another rank or alpha than the model's adapter, an
            unmatched key, or a wrong shape. The model's weights are then as they were.
    """
    path = Path(path)
    config = read_config(path)
    file = path / WEIGHTS
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not found; an adapter is a folder with {CONFIG} and this file (safetensors only)")
    layers = lora_layers(model)
    other = [name for name, layer in layers.items() if (layer.rank, layer.alpha) != (config["r"], config["lora_alpha"])]
    if other:
        layer = layers[other[0]]
        raise ValueError(f"{path}: rank {config['r']} and alpha {config['lora_alpha']}, but the model's adapter has rank "
                         f"{layer.rank} and alpha {layer.alpha}; load it into a model without an adapter")
    try:
        with safe_open(file, framework="pt") as stored:
            shapes = {key: tuple(stored.get_slice(key).get_shape()) for key in stored.keys()}
            _check_keys(file, shapes, _expected_shapes(model, config))
            loaded = {key: stored.get_tensor(key) for key in shapes}
    except SafetensorError as error:
        raise ValueError(f"{file}: not a safetensors file, or damaged ({error}); copy it again") from error
    if not layers:
        apply_lora(model, config["r"], config["lora_alpha"], config.get("lora_dropout") or 0.0, tuple(config["target_modules"]))
    with torch.no_grad():
        for key, weight in lora_parameters(model).items():
            weight.copy_(loaded[key])


def adapter_folder(path: str | Path) -> Path:
    """The folder with adapter_config.json: the one given, or `adapter` in the step of a run that was given."""
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; --adapter wants an adapter in PEFT's layout or a step of a "
                                "run such as runs/demo/joint")
    inner = path / "adapter"
    return inner if not (path / "adapter_config.json").is_file() and inner.is_dir() else path


def read_config(path: Path) -> dict:
    """adapter_config.json of a plain LoRA adapter; ValueError names a feature that would change the numbers."""
    file = path / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not found; an adapter is a folder in PEFT's layout")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not JSON ({error})") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError(f"{file}: peft_type is {config.get('peft_type') if isinstance(config, dict) else config!r}; "
                         "only LORA is read")
    for key, plain in PLAIN.items():
        if config.get(key) not in plain:
            raise ValueError(f"{file}: {key} {config[key]!r} is not supported; only plain LoRA is read")
    targets, rank, alpha = config.get("target_modules"), config.get("r"), config.get("lora_alpha")
    if not isinstance(targets, list) or not targets or not all(isinstance(name, str) for name in targets):
        raise ValueError(f"{file}: target_modules must be a list of names, found {targets!r}")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1 or not isinstance(alpha, (int, float)):
        raise ValueError(f"{file}: r must be a whole number above 0 and lora_alpha a number, found {rank!r} and {alpha!r}")
    return config


def _expected_shapes(model: nn.Module, config: dict) -> dict[str, tuple[int, ...]]:
    """PEFT key -> shape of every adapter weight that `config` puts on the model."""
    layers = lora_layers(model) or {name: module for name, module in model.named_modules()
                                    if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in config["target_modules"]}
    shapes = {}
    for name, layer in layers.items():
        linear = layer.base if isinstance(layer, LoRALinear) else layer
        shapes[f"{PREFIX}{name}.lora_A.weight"] = (config["r"], linear.in_features)
        shapes[f"{PREFIX}{name}.lora_B.weight"] = (linear.out_features, config["r"])
    return shapes


def _check_keys(file: Path, found: dict[str, tuple], expected: dict[str, tuple]) -> None:
    unknown, absent = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    if unknown or absent:
        raise ValueError(f"{file}: {len(unknown)} keys match nothing in the model{_first(unknown)}, {len(absent)} that it "
                         f"needs are absent{_first(absent)}; nothing was loaded: is this the adapter of another model?")
    wrong = [key for key in expected if found[key] != expected[key]]
    if wrong:
        raise ValueError(f"{file}: {wrong[0]} has shape {found[wrong[0]]}, the model needs {expected[wrong[0]]}; "
                         "is this the adapter of another model?")


def _first(names: list[str]) -> str:
    return f" (first: {names[0]})" if names else ""


@torch.no_grad()
def merge(model: nn.Module) -> float:
    """Fold every adapter into its frozen weight and unwrap it; returns the drift of the worst layer.

    The sum W + (alpha / rank) B A is taken in float32 and rounded once, to the weight's own dtype. Drift: the norm of
    what that rounding lost, over the norm of the update; 0 in float32, where nothing is rounded twice.

    Raises:
        ValueError: a merged weight is not finite. Nothing is merged then.
    """
    layers = lora_layers(model)
    for name, layer in layers.items():
        if not (torch.isfinite(layer.lora_A.weight).all() and torch.isfinite(layer.lora_B.weight).all()):
            raise ValueError(f"{name}: the adapter's weights are not finite; the adapter is damaged, nothing was merged")
        weight, delta = layer.base.weight, layer.delta()
        if weight.dtype == torch.float16 and not torch.isfinite((weight.to(delta.dtype) + delta).half()).all():
            raise ValueError(f"{name}: the merged weight does not fit into {weight.dtype}; load the model in bfloat16 or float32; nothing was merged")
    worst = 0.0
    for name, layer in layers.items():
        weight, delta = layer.base.weight, layer.delta()
        exact = weight.to(delta.dtype) + delta
        merged = exact.to(weight.dtype)
        worst = max(worst, float((merged.to(delta.dtype) - exact).norm() / delta.norm().clamp_min(1e-30)))
        weight.copy_(merged)
        setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], layer.base)
    return worst
