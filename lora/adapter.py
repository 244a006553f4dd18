"""Adapters on a whole model: wrap, freeze, save, load, merge.

Files follow PEFT's layout (adapter_config.json + adapter_model.safetensors, keys base_model.model.NAME.lora_A.weight),
so PEFT reads what is written here and the other way round. Any key that does not match exactly is refused: an adapter
that loads and does nothing is the failure users meet most.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from lora.adapter_config import CONFIG, adapted, read_config
from lora.layer import LoRALinear

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")   # every linear of a block
PREFIX = "base_model.model."
WEIGHTS = "adapter_model.safetensors"
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)                   # that adapter weights may have


def apply_lora(model: nn.Module, rank: int = 16, alpha: float = 32, dropout: float = 0.0,
               targets: tuple[str, ...] = TARGETS, seed: int = 0) -> list[str]:
    """Wrap every linear that `targets` name (by last name, or by any end at a dot), freeze the rest; returns the names.

    Raises:
        ValueError: a target matches no linear layer, is lm_head or the embedding, or the model carries an adapter.
    """
    if lora_layers(model):
        raise ValueError("the model already carries an adapter; merge it first, or go on training it")
    linears = adaptable(model)
    _refuse_head([*targets, *adapted(linears, targets)])
    missing = sorted(target for target in targets if not adapted(linears, [target]))
    if missing:
        raise ValueError(f"LoRA targets {missing} match no linear layer of the model; targets that exist: "
                         f"{sorted({name.rsplit('.', 1)[-1] for name in linears})}")
    return _wrap(model, adapted(linears, targets), rank, alpha, dropout, seed)


def adaptable(model: nn.Module) -> dict[str, nn.Linear | LoRALinear]:
    """Every linear layer of the model itself by name, those that carry an adapter included."""
    wrapped = lora_layers(model)
    inside = {id(module) for layer in wrapped.values() for module in layer.modules()}
    return {name: module for name, module in model.named_modules()
            if name in wrapped or isinstance(module, nn.Linear) and id(module) not in inside}


def _refuse_head(names: Iterable[str]) -> None:
    """Often one tied weight; and the chunked loss reads lm_head's plain weight, so that a delta would be lost."""
    head = sorted({"lm_head", "embed_tokens"} & {name.rsplit(".", 1)[-1] for name in names})
    if head:
        raise ValueError(f"LoRA on {' and '.join(head)} is not supported; targets that are: {', '.join(TARGETS)}")


def _wrap(model: nn.Module, names: list[str], rank: int, alpha: float, dropout: float, seed: int) -> list[str]:
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
        "r": first.rank, "lora_alpha": int(first.alpha) if first.alpha == int(first.alpha) else first.alpha,
        "lora_dropout": first.dropout, "bias": "none", "target_modules": _target_names(model), "fan_in_fan_out": False,
        "init_lora_weights": True, "use_rslora": False, "use_dora": False, "modules_to_save": None,
        "rank_pattern": {}, "alpha_pattern": {}, "layers_to_transform": None, "layers_pattern": None,
    }
    tensors = {key: weight.detach().cpu().contiguous() for key, weight in lora_parameters(model).items()}
    save_file(tensors, path / (WEIGHTS + ".tmp"), metadata={"format": "pt"})
    (path / (CONFIG + ".tmp")).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copymode(path / (CONFIG + ".tmp"), path / (WEIGHTS + ".tmp"))      # safetensors writes for the owner only
    for name in (WEIGHTS, CONFIG):
        with open(path / (name + ".tmp"), "rb+") as file:
            os.fsync(file.fileno())
        os.replace(path / (name + ".tmp"), path / name)


def _target_names(model: nn.Module) -> list[str]:
    """What `target_modules` has to say: last names where these mean exactly the adapted layers, else full names."""
    layers, linears = set(lora_layers(model)), adaptable(model)
    last = sorted({name.rsplit(".", 1)[-1] for name in layers})
    return last if set(adapted(linears, last)) == layers else sorted(layers)


def load_adapter(model: nn.Module, path: str | Path) -> None:
    """Put a stored adapter on the model (wrapping its layers where it carries none yet); every key must match.

    Raises:
        FileNotFoundError: a file of the adapter is missing.
        ValueError: a kind of adapter that is not plain LoRA, another rank, alpha or set of layers than the model's
            adapter, an unmatched key, a wrong shape, or a weight that is not finite. The model is then as it was.
    """
    path = Path(path)
    config = read_config(path)
    file = path / WEIGHTS
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not found; an adapter is a folder with {CONFIG} and this file "
                                "(safetensors only)")
    layers = lora_layers(model)
    other = [name for name, layer in layers.items() if (layer.rank, layer.alpha) != (config["r"], config["lora_alpha"])]
    if other:
        layer = layers[other[0]]
        raise ValueError(f"{path}: rank {config['r']} and alpha {config['lora_alpha']}, but the model's adapter has "
                         f"rank {layer.rank} and alpha {layer.alpha}; load it into a model without an adapter")
    names = layers_of(model, path, config)
    if layers and set(names) != set(layers):
        raise ValueError(f"{path}: adapts {len(names)} layers, the model's adapter {len(layers)}, and they are not the "
                         "same ones; load it into a model without an adapter")
    loaded = _read_weights(file, _expected_shapes(model, names, config["r"]))
    if not layers:
        _wrap(model, names, config["r"], config["lora_alpha"], config.get("lora_dropout") or 0.0, seed=0)
    with torch.no_grad():
        for key, weight in lora_parameters(model).items():
            weight.copy_(loaded[key])


def adapted_layers(model: nn.Module, targets: Iterable[str]) -> list[str]:
    """The linear layers of the model that these targets name, in the model's order."""
    return adapted(adaptable(model), targets)


def layers_of(model: nn.Module, path: Path, config: dict) -> list[str]:
    """The linear layers of the model that the adapter of this config adapts, by name; `path` is for the errors.

    Raises:
        ValueError: there are none, or the output layer is among them.
    """
    linears = adaptable(model)
    names = adapted_layers(model, config["target_modules"])
    try:
        _refuse_head([*names, *config["target_modules"]])
    except ValueError as error:
        raise ValueError(f"{path / CONFIG}: target_modules: {error}") from None
    if not names:
        raise ValueError(f"{path / CONFIG}: target_modules {str(config['target_modules'])[:200]} match no linear layer "
                         f"of the model, which has {sorted({name.rsplit('.', 1)[-1] for name in linears})}; is this "
                         "the adapter of another model?")
    return names


def _read_weights(file: Path, expected: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Every tensor of the file, after names, shapes, dtypes and values were checked."""
    try:
        with safe_open(file, framework="pt") as stored:
            shapes = {key: tuple(stored.get_slice(key).get_shape()) for key in stored.keys()}
            _check_keys(file, shapes, expected)
            loaded = {key: stored.get_tensor(key) for key in shapes}
    except SafetensorError as error:
        raise ValueError(f"{file}: not a safetensors file, or damaged ({error}); copy it again") from error
    for key, weight in loaded.items():
        if weight.dtype not in DTYPES:
            raise ValueError(f"{file}: {key} is stored as {str(weight.dtype).removeprefix('torch.')}; an adapter's "
                             "weights are float32, bfloat16 or float16")
    broken = [key for key, weight in loaded.items() if not torch.isfinite(weight.float()).all()]
    if broken:
        raise ValueError(f"{file}: {len(broken)} of {len(loaded)} tensors hold values that are not finite (NaN or "
                         f"infinity){_first(broken)}; the adapter is damaged, or its training failed; nothing was "
                         "loaded")
    return loaded


def adapter_folder(path: str | Path) -> Path:
    """The folder with adapter_config.json: the one given, or `adapter` in the step of a run that was given."""
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; --adapter wants an adapter in PEFT's layout or a step of a "
                                "run such as runs/demo/joint")
    inner = path / "adapter"
    return inner if not (path / CONFIG).is_file() and inner.is_dir() else path


def _expected_shapes(model: nn.Module, names: list[str], rank: int) -> dict[str, tuple[int, ...]]:
    """PEFT key -> shape of every adapter weight of these layers."""
    shapes = {}
    for name in names:
        layer = model.get_submodule(name)
        linear = layer.base if isinstance(layer, LoRALinear) else layer
        shapes[f"{PREFIX}{name}.lora_A.weight"] = (rank, linear.in_features)
        shapes[f"{PREFIX}{name}.lora_B.weight"] = (linear.out_features, rank)
    return shapes


def _check_keys(file: Path, found: dict[str, tuple], expected: dict[str, tuple]) -> None:
    unknown, absent = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    if unknown or absent:
        raise ValueError(f"{file}: {len(unknown)} keys match nothing in the model{_first(unknown)}, {len(absent)} that "
                         f"it needs are absent{_first(absent)}; nothing was loaded: is this the adapter of another "
                         "model?")
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
            raise ValueError(f"{name}: the adapter's weights are not finite; the adapter is damaged, nothing was "
                             "merged")
        weight, delta = layer.base.weight, layer.delta()
        if not torch.isfinite((weight.to(delta.dtype) + delta).to(weight.dtype)).all():
            raise ValueError(f"{name}: the merged weight does not fit into {weight.dtype}; nothing was merged"
                             + ("; load the model in bfloat16 or float32" if weight.dtype == torch.float16 else ""))
    worst = 0.0
    for name, layer in layers.items():
        weight, delta = layer.base.weight, layer.delta()
        exact = weight.to(delta.dtype) + delta
        merged = exact.to(weight.dtype)
        worst = max(worst, float((merged.to(delta.dtype) - exact).norm() / delta.norm().clamp_min(1e-30)))
        weight.copy_(merged)
        setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], layer.base)
    return worst
