"""The base of a run: its dtype, its weights (fresh ones for pre-training), onto the device, and what of it trains."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from model import ModelConfig, Transformer, load_model
from model.device import prepare_cpu
from model.sharding import is_sharded, local
from training.config import PRECISIONS, TrainConfig
from training.processes import Processes, hush
from training.sharing import base_mesh

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def compute_dtype(precision: str, device: torch.device, model: nn.Module | None = None) -> torch.dtype:
    """The dtype of the base: as named; for "auto" that of a given model, else the device's fastest native one."""
    if precision != "auto":
        return getattr(torch, PRECISIONS[precision])
    if model is not None:
        return model.lm_head.weight.dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.bfloat16 if native_bf16() else torch.float32


def native_bf16() -> bool:
    """Whether this CPU multiplies bf16 itself; others emulate it, slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def load_base(folder: str, precision: str = "auto", processes: Processes | None = None, shard: str = "off",
              say: Callable[[str], None] = hush) -> nn.Module:
    """The base in the dtype and on the device that training will use, shared out over the processes by `shard`."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    dtype = compute_dtype(precision, device)
    return load_shared(folder, dtype, device, processes, base_mesh(folder, dtype, processes, shard, say))


def load_shared(folder: str | Path, dtype: torch.dtype, device: torch.device, processes: Processes | None,
                mesh: "DeviceMesh | None") -> nn.Module:
    """The base of a folder; with a mesh of the processes its weights are shared out, and a lost one is named."""
    meeting = partial(processes.meeting, "loading the base") if mesh is not None else nullcontext
    return load_model(folder, dtype, device, mesh, meeting)


def place(model: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Move to the device and cast the base; adapter weights keep their float32. A sharded one stays where it is."""
    from lora import lora_parameters

    if device.type == "cpu":
        prepare_cpu()
    if is_sharded(model):
        found = model.lm_head.weight.dtype
        if found != dtype:
            raise ValueError(f"the sharded base is in {found}, and cannot be cast to {dtype}; load it in that")
        return model
    adapter = {id(p) for p in lora_parameters(model).values()}
    for p in model.parameters():
        p.data = p.data.to(device=device, dtype=p.dtype if id(p) in adapter else dtype)
    return model


def trained_parameters(config: TrainConfig, model: nn.Module) -> dict[str, nn.Parameter]:
    """What trains, by name: all weights for pretrain, else those of `config.adapter`, the model's adapter or a new one.

    Raises:
        ValueError: `config.adapter` has another rank, alpha or other layers than the settings.
    """
    from lora import adapted_layers, apply_lora, layers_of, load_adapter, lora_layers, lora_parameters, read_config
    if config.stage == "pretrain":
        return dict(model.requires_grad_(True).named_parameters())
    if config.adapter:
        stored = read_config(Path(config.adapter))
        if (stored["r"], stored["lora_alpha"]) != (config.rank, config.alpha):
            raise ValueError(f"--adapter {config.adapter} has rank {stored['r']} and alpha {stored['lora_alpha']}, not "
                             f"{config.rank} and {config.alpha}; pass its own --rank and --alpha")
        if layers_of(model, Path(config.adapter), stored) != adapted_layers(model, config.target_modules):
            raise ValueError(f"--adapter {config.adapter} adapts {', '.join(stored['target_modules'])}, not "
                             f"{', '.join(config.target_modules)}; pass its own --targets")
        load_adapter(model, config.adapter)
    elif not lora_layers(model):
        apply_lora(model, config.rank, config.alpha, config.dropout, config.target_modules, seed=config.seed)
    for layer in lora_layers(model).values():               # also those of an adapter that the model came with
        layer.dropout = config.dropout
    return lora_parameters(model)


def weights_on(device: torch.device, model: nn.Module | None) -> int:
    """Bytes of the model's weights that are on the device."""
    return 0 if model is None else sum(local(p).nbytes for p in model.parameters() if p.device == device)


def load_model_for(config: TrainConfig, dtype: torch.dtype, processes: Processes,
                   mesh: "DeviceMesh | None" = None) -> nn.Module:
    """The base of `config.model`, read straight to the device; for pretrain a fresh one where there are no weights.

    With a mesh each of its processes reads its slices of the blocks' weights alone.
    """
    folder = Path(config.model)
    if config.stage == "pretrain" and folder.is_dir() and not any(folder.glob("*.safetensors")):
        return Transformer(ModelConfig.load(folder)).init_weights(config.seed)
    dtype = torch.float32 if dtype == torch.float64 else dtype
    return load_shared(folder, dtype, processes.device, processes, mesh)
