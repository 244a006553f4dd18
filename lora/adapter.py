"""Adapters on a whole model: wrap, freeze, save, load, merge.

Files follow PEFT's layout (adapter_config.json + adapter_model.safetensors, keys base_model.model.NAME.lora_A.weight),
so PEFT reads what is written here and the other way round. Any key that does not match exactly is refused: an adapter
that loads and does nothing is the failure users meet most.
"""

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from lora.layer import LoRALinear

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")   # every linear of a block
PREFIX = "base_model.model."


def apply_lora(model: nn.Module, rank: int = 16, alpha: float = 32, dropout: float = 0.0,
               targets: tuple[str, ...] = TARGETS, seed: int = 0) -> list[str]:
    """Wrap every linear whose last name is in `targets`, freeze everything else; returns the wrapped names.

    Raises:
        ValueError: a target matches no linear layer, or the model already carries an adapter.
    """
    if any(isinstance(module, LoRALinear) for module in model.modules()):
        raise ValueError("the model already carries an adapter; merge it first, or continue training it")
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
    """Write the adapter in PEFT's layout: each file aside, flushed, renamed."""
    layers = lora_layers(model)
    if not layers:
        raise ValueError("the model carries no adapter: nothing to save")
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    first = next(iter(layers.values()))
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_model, "inference_mode": True,
        "r": first.rank, "lora_alpha": first.alpha, "lora_dropout": first.dropout, "bias": "none",
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name in layers}), "fan_in_fan_out": False,
        "init_lora_weights": True, "use_rslora": False, "use_dora": False, "modules_to_save": None,
        "rank_pattern": {}, "alpha_pattern": {}, "layers_to_transform": None, "layers_pattern": None,
    }
    tensors = {key: weight.detach().cpu().contiguous() for key, weight in lora_parameters(model).items()}
    aside = path / "adapter_model.safetensors.tmp"
    save_file(tensors, aside, metadata={"format": "pt"})
    _rename(aside, path / "adapter_model.safetensors")
    aside = path / "adapter_config.json.tmp"
    aside.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _rename(aside, path / "adapter_config.json")


def load_adapter(model: nn.Module, path: str | Path, *, dropout: float | None = None) -> None:
    """Put an adapter in PEFT's layout on the model (wrapping it where it carries none yet); every key must match.

    Raises:
        FileNotFoundError: a file of the adapter is missing.
        ValueError: a kind of adapter that is not plain LoRA, an unmatched key, or a wrong shape.
    """
    path = Path(path)
    config = _read_config(path)
    targets = config["target_modules"]
    if not lora_layers(model):
        apply_lora(model, config["r"], config["lora_alpha"],
                   config.get("lora_dropout", 0.0) if dropout is None else dropout, tuple(targets))
    weights = lora_parameters(model)
    file = path / "adapter_model.safetensors"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not found; an adapter is a folder with adapter_config.json and this file")
    with safe_open(file, framework="pt") as stored:
        keys = set(stored.keys())
        unknown, absent = sorted(keys - set(weights)), sorted(set(weights) - keys)
        if unknown or absent:
            raise ValueError(f"{file}: {len(unknown)} keys match nothing in the model (first: {unknown[:1]}), "
                             f"{len(absent)} of the model's are absent (first: {absent[:1]}); nothing was loaded")
        loaded = {key: stored.get_tensor(key) for key in weights}
    for key, weight in weights.items():
        if loaded[key].shape != weight.shape:
            raise ValueError(f"{file}: {key} has shape {tuple(loaded[key].shape)}, the model needs "
                             f"{tuple(weight.shape)}; is this the adapter of another model?")
    with torch.no_grad():
        for key, weight in weights.items():
            weight.copy_(loaded[key])


def _read_config(path: Path) -> dict:
    file = path / "adapter_config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not found; an adapter is a folder in PEFT's layout")
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{file}: peft_type is {config.get('peft_type')!r}; only LORA is read")
    return config


def _rename(aside: Path, final: Path) -> None:
    with open(aside, "rb") as file:
        os.fsync(file.fileno())
    os.replace(aside, final)


@torch.no_grad()
def merge(model: nn.Module) -> float:
    """Fold every adapter into its frozen weight and unwrap it; returns the drift of the worst layer.

    The sum W + (alpha / rank) B A is taken in float32 and rounded once to the weight's own dtype. Drift: norm of what
    that rounding lost over the norm of the update, 0 when nothing was lost.
    """
    worst = 0.0
    for name, layer in lora_layers(model).items():
        wide = torch.promote_types(layer.base.weight.dtype, torch.float32)
        delta = layer.delta().to(wide)
        exact = layer.base.weight.to(wide) + delta
        if not torch.isfinite(exact).all():
            raise ValueError(f"{name}: the merged weight is not finite; the adapter is damaged, nothing more is merged")
        merged = exact.to(layer.base.weight.dtype)
        worst = max(worst, float((merged.to(wide) - exact).norm() / delta.norm().clamp_min(1e-30)))
        layer.base.weight.copy_(merged)
        setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], layer.base)
    return worst
