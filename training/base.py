"""The base of a run: the dtype it is computed in, its weights (fresh ones for pre-training), and onto the device."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.config import PRECISIONS, TrainConfig


def compute_dtype(precision: str, device: torch.device, model: nn.Module | None = None) -> torch.dtype:
    """The dtype of the base: as named; for "auto" that of a given model, else the fastest that the device does natively."""
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


def load_base(folder: str, precision: str = "auto") -> nn.Module:
    """The base in the dtype and on the device that training will use."""
    from model import load_model

    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else torch.device("cpu")
    return load_model(folder, dtype=compute_dtype(precision, device), device=device)


def place(model: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Move to the device and cast the base; adapter weights keep their float32."""
    from lora import lora_parameters
    adapter = {id(p) for p in lora_parameters(model).values()}
    for p in model.parameters():
        p.data = p.data.to(device=device, dtype=p.dtype if id(p) in adapter else dtype)
    return model


def weights_on(device: torch.device, model: nn.Module | None) -> int:
    """Bytes of the model's weights that are on the device."""
    return 0 if model is None else sum(p.nbytes for p in model.parameters() if p.device == device)


def load_model_for(config: TrainConfig, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The base of `config.model`, read straight to the device; for pretrain a fresh one where the folder holds no weights."""
    from model import Transformer, load_model
    folder = Path(config.model)
    if config.stage == "pretrain" and folder.is_dir() and not any(folder.glob("*.safetensors")):
        return Transformer(model_config(config.model)).init_weights(config.seed)
    return load_model(folder, dtype=torch.float32 if dtype == torch.float64 else dtype, device=device)


def model_config(folder: str) -> Any:
    """The model.ModelConfig of a folder."""
    from model import ModelConfig
    return ModelConfig.load(folder)
